"""Batches give every clip once, scaled and padded, with true lengths; scaler and weights hold to scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from ser_data import scaler as scaler_module
from ser_data.augment import SpecAugment
from ser_data.batches import Batch, Batches, class_weights
from ser_data.features.clip_frames import ClipFrames
from ser_data.features.resident_frames import ResidentFrames
from ser_data.scaler import ClipRange, Scaler

DIM = 6
NUM_CLIPS = 90
LABELS = np.arange(NUM_CLIPS, dtype=np.int64) % 4
TRAIN = np.arange(0, NUM_CLIPS, 2, dtype=np.int64)  # 45 clips
IDENTITY = Scaler(np.zeros(DIM, dtype=np.float32), np.ones(DIM, dtype=np.float32))


def frames(seed: int = 0, *, longest: int = 30, dim: int = DIM) -> ClipFrames:
    rng = np.random.default_rng(seed)
    return ClipFrames.of(
        [rng.normal(5, 2, size=(rng.integers(3, longest + 1), dim)).astype(np.float32) for _ in range(NUM_CLIPS)],
        dim=dim,
    )


FEATURES = frames()


def batches(**changes: object) -> Batches:
    options = {"batch_size": 8, "scaler": IDENTITY, "shuffle": True, "indices": TRAIN, "features": FEATURES}
    options.update(changes)
    features, indices = options.pop("features"), options.pop("indices")
    return Batches(features, LABELS, indices, **options)  # type: ignore[arg-type]


def epoch(source: Batches, seed: int = 0) -> list[Batch]:
    return list(source.epoch(torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 8, 44, 45, 64])
def test_an_epoch_gives_every_clip_once(batch_size: int, shuffle: bool) -> None:
    source = batches(batch_size=batch_size, shuffle=shuffle)
    given = epoch(source)
    assert len(given) == len(source)
    assert sorted(torch.cat([batch.clips for batch in given]).tolist()) == TRAIN.tolist()
    assert all(len(batch.clips) <= batch_size for batch in given)


def test_batches_of_an_epoch_are_of_even_size() -> None:
    sizes = {len(batch.clips) for batch in epoch(batches(batch_size=11))}
    assert sizes == {9}  # 45 clips in 5 batches, and no last one of a single clip


def test_each_clip_comes_with_its_frames_length_and_label() -> None:
    for batch in epoch(batches()):
        assert batch.inputs.dtype == torch.float32
        assert {batch.lengths.dtype, batch.labels.dtype, batch.clips.dtype} == {torch.int64}
        assert batch.inputs.shape == (len(batch.clips), int(batch.lengths.max()), DIM)
        for row, clip in enumerate(batch.clips.tolist()):
            length = int(batch.lengths[row])
            np.testing.assert_array_equal(batch.inputs[row, :length], FEATURES[clip].astype(np.float32))
            assert int(batch.labels[row]) == LABELS[clip]


def test_padding_is_zero_after_scaling() -> None:
    scaler = Scaler.fit(FEATURES, TRAIN)
    for batch in epoch(batches(scaler=scaler)):
        outside = torch.arange(batch.inputs.shape[1])[None] >= batch.lengths[:, None]
        assert not batch.inputs[outside].any()
        clip = int(batch.clips[0])
        np.testing.assert_allclose(
            batch.inputs[0, : batch.lengths[0]], scaler.apply(FEATURES[clip]), rtol=1e-6, atol=1e-6
        )


def test_chosen_columns_come_in_the_chosen_order() -> None:
    columns = np.array([4, 0], dtype=np.int64)
    scaler = Scaler.fit(FEATURES, TRAIN, columns)
    full = Scaler.fit(FEATURES, TRAIN)
    np.testing.assert_allclose(scaler.mean, full.mean[columns], rtol=1e-6)
    batch = epoch(batches(columns=columns, scaler=scaler))[0]
    clip, length = int(batch.clips[0]), int(batch.lengths[0])
    np.testing.assert_allclose(batch.inputs[0, :length], full.apply(FEATURES[clip])[:, columns], rtol=1e-5, atol=1e-5)


def test_a_long_clip_is_cut_to_its_first_frames() -> None:
    for batch in epoch(batches(max_frames=5)):
        assert int(batch.lengths.max()) <= 5
        for row, clip in enumerate(batch.clips.tolist()):
            kept = FEATURES[clip][: int(batch.lengths[row])]
            assert len(kept) == min(5, FEATURES.lengths[clip])
            np.testing.assert_array_equal(batch.inputs[row, : len(kept)], kept.astype(np.float32))


def test_the_same_generator_gives_the_same_epoch_and_another_a_different_one() -> None:
    augment = SpecAugment(time_masks=1, time_width_frames=4)
    source = batches(spec_augment=augment, views=[frames(1), frames(2)])
    first, again, other = epoch(source), epoch(source), epoch(source, seed=1)
    assert all(torch.equal(one.inputs, two.inputs) for one, two in zip(first, again, strict=True))
    assert torch.cat([batch.clips for batch in first]).tolist() != torch.cat([batch.clips for batch in other]).tolist()


def test_clips_change_their_company_from_epoch_to_epoch() -> None:
    source = batches()
    company = [{frozenset(batch.clips.tolist()) for batch in epoch(source, seed)} for seed in (0, 1)]
    assert company[0] != company[1]


def test_clips_of_like_length_share_a_batch() -> None:
    def padding(source: Batches) -> int:
        return sum(int(batch.inputs.shape[1] * len(batch.clips) - batch.lengths.sum()) for batch in epoch(source))

    unsorted = FEATURES.lengths[TRAIN].reshape(5, 9)
    by_chance = int((unsorted.max(axis=1) * 9).sum() - unsorted.sum())
    assert padding(batches(batch_size=9)) < by_chance / 2
    assert padding(batches(batch_size=9, shuffle=False)) < by_chance / 2


def test_long_and_short_batches_come_mixed() -> None:
    widths = [batch.inputs.shape[1] for seed in range(4) for batch in epoch(batches(), seed)]
    assert widths != sorted(widths)


def test_without_shuffling_clips_come_by_length_and_need_no_generator() -> None:
    given = list(batches(shuffle=False).epoch(None))
    lengths = torch.cat([batch.lengths for batch in given]).tolist()
    assert lengths == sorted(lengths)
    with pytest.raises(ValueError, match="shuffling needs a generator"):
        next(batches().epoch(None))


def test_each_epoch_draws_the_original_or_a_view_of_every_clip() -> None:
    sources = (FEATURES, frames(1), frames(2))
    drawn: dict[int, set[int]] = {int(clip): set() for clip in TRAIN}
    source = batches(views=sources[1:])
    for seed in range(25):
        for batch in epoch(source, seed):
            for row, clip in enumerate(batch.clips.tolist()):
                mine = batch.inputs[row, : batch.lengths[row]].numpy()
                drawn[clip].add(
                    next(
                        number
                        for number, features in enumerate(sources)
                        if np.array_equal(features[clip].astype(np.float32), mine)
                    )
                )
    assert all(numbers == {0, 1, 2} for numbers in drawn.values())


def test_one_frame_a_clip_needs_no_padding() -> None:
    rows = np.random.default_rng(0).normal(size=(NUM_CLIPS, 1, DIM)).astype(np.float32)
    features = ClipFrames.of(list(rows), dim=DIM)
    for batch in epoch(batches(features=features)):
        assert batch.inputs.shape[1:] == (1, DIM)
        np.testing.assert_array_equal(batch.inputs[:, 0], features.frames[batch.clips].astype(np.float32))


def test_masks_fall_on_the_batch() -> None:
    plain, masked = epoch(batches()), epoch(batches(spec_augment=SpecAugment(feature_masks=2, feature_width=4)))
    assert any((one.inputs != two.inputs).any() for one, two in zip(plain, masked, strict=True))


def test_time_spent_on_batches_is_counted() -> None:
    source = batches()
    assert source.seconds_spent == 0
    epoch(source)
    after_one = source.seconds_spent
    epoch(source)
    assert source.seconds_spent > after_one > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"shuffle": False, "views": [FEATURES]}, "views and masks are for shuffled training batches"),
        ({"views": [ClipFrames(FEATURES.frames, np.zeros(NUM_CLIPS + 1, dtype=np.int64))]}, "clip 0 has no frames"),
    ],
)
def test_what_cannot_be_a_batch_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batches(**changes)


def test_clips_without_a_label_are_refused() -> None:
    with pytest.raises(ValueError, match="clips without a label"):
        Batches(FEATURES, np.full(NUM_CLIPS, -1), TRAIN, batch_size=4, scaler=IDENTITY, shuffle=False)


def test_no_clips_are_no_batches() -> None:
    source = batches(indices=np.zeros(0, dtype=np.int64), shuffle=False)
    assert len(source) == 0
    assert epoch(source) == []


@pytest.mark.parametrize("rows_a_step", [1, 40, 100_000])
def test_the_scaler_is_scikit_learns_whatever_the_piece(rows_a_step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    monkeypatch.setattr(scaler_module, "_ROWS_A_STEP", rows_a_step)
    rows = np.concatenate([FEATURES[clip] for clip in TRAIN]).astype(np.float64)
    expected = preprocessing.StandardScaler().fit(rows)
    fitted = Scaler.fit(FEATURES, TRAIN)
    np.testing.assert_allclose(fitted.mean, expected.mean_, rtol=1e-5)
    np.testing.assert_allclose(fitted.std, expected.scale_, rtol=1e-5)
    np.testing.assert_allclose(fitted.apply(rows), expected.transform(rows), atol=1e-4)


def test_the_scaler_sees_the_given_clips_only() -> None:
    changed = ClipFrames(FEATURES.frames.copy(), FEATURES.offsets)
    for clip in range(1, NUM_CLIPS, 2):  # every clip that is not for training
        changed[clip][:] = 1_000
    np.testing.assert_array_equal(Scaler.fit(changed, TRAIN).mean, Scaler.fit(FEATURES, TRAIN).mean)


def test_a_column_that_stands_still_is_not_blown_up() -> None:
    still = ClipFrames.of([np.full((4, 2), 3.0, dtype=np.float32)], dim=2)
    scaler = Scaler.fit(still, np.array([0]))
    np.testing.assert_array_equal(scaler.apply(still[0]), np.zeros((4, 2)))


def test_a_scaler_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no frames to take a mean of"):
        Scaler.fit(FEATURES, np.zeros(0, dtype=np.int64))


def test_class_weights_are_scikit_learns_brought_to_mean_one() -> None:
    class_weight = pytest.importorskip("sklearn.utils.class_weight")
    labels = np.repeat([0, 1, 2], [10, 30, 5])
    balanced = class_weight.compute_class_weight("balanced", classes=np.arange(3), y=labels)
    weights = class_weights(labels, 3)
    assert weights.dtype == torch.float32
    np.testing.assert_allclose(weights, balanced / balanced.mean(), rtol=1e-6)


def test_a_class_without_clips_weighs_nothing() -> None:
    assert class_weights(np.array([0, 0, 2, 2]), 3).tolist() == [1.0, 0.0, 1.0]


def test_batches_load_torch_and_no_signal_library() -> None:
    script = (
        "import sys, ser_data.batches; print([name for name in ('torch', 'librosa', 'scipy', 'sklearn', "
        "'audiomentations', 'torchaudio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['torch']"


def test_resident_frames_give_the_batches_of_mapped_ones() -> None:
    masks = SpecAugment(time_masks=1, time_width_frames=4, feature_masks=1, feature_width=2)
    for columns in (None, np.arange(2, 5), np.array([0, 2, 5])):
        options = {"columns": columns, "scaler": scaler_of(columns), "spec_augment": masks, "max_frames": 20}
        resident = ResidentFrames.of(FEATURES, "cpu")
        for mapped, copied in zip(epoch(batches(**options)), epoch(batches(features=resident, **options)), strict=True):
            assert torch.equal(mapped.inputs, copied.inputs)
            assert torch.equal(mapped.lengths, copied.lengths)
            assert torch.equal(mapped.clips, copied.clips)


def scaler_of(columns: np.ndarray | None) -> Scaler:
    return Scaler.fit(FEATURES, TRAIN, columns)


def test_a_clip_range_puts_each_block_of_each_clip_between_zero_and_one() -> None:
    blocks = 2
    for batch in epoch(batches(scaler=ClipRange(blocks))):
        for row, clip in enumerate(batch.clips.tolist()):
            length = int(batch.lengths[row])
            wide = FEATURES[clip].astype(np.float32).reshape(length, blocks, -1)
            low, high = wide.min(axis=(0, 2), keepdims=True), wide.max(axis=(0, 2), keepdims=True)
            expected = ((wide - low) / (high - low)).reshape(length, -1)
            np.testing.assert_allclose(batch.inputs[row, :length], expected, atol=1e-6)
            np.testing.assert_allclose(ClipRange(blocks).apply(FEATURES[clip]), expected, atol=1e-6)
            assert not batch.inputs[row, length:].any()


def test_a_clip_that_stands_still_is_not_blown_up_to_its_range() -> None:
    still = np.full((4, 6), -100.0, dtype=np.float16)
    assert not ClipRange(1).apply(still).any()
