"""Masks stay within their clips and follow their generator; views are what their settings and seed say."""

import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ser_data.augment import SpecAugment, Views, ViewSettings
from ser_data.errors import UserError

LENGTHS = torch.tensor([40, 25, 9, 1])
NONE = {"stretch_probability": 0.0, "pitch_probability": 0.0, "shift_probability": 0.0, "noise_probability": 0.0}


def masked(augment: SpecAugment, *, seed: int = 0, dim: int = 12) -> torch.Tensor:
    """Where a batch of ones, zero behind each clip's end, was masked: bool (batch, frames, dim)."""
    inside = torch.arange(40)[None] < LENGTHS[:, None]
    inputs = inside[:, :, None].float().repeat(1, 1, dim)
    before = inputs.clone()
    after = augment(inputs, LENGTHS, torch.Generator().manual_seed(seed))
    return after != before


@pytest.mark.parametrize("seed", range(20))
def test_time_masks_lie_within_each_clip_and_leave_half_of_it(seed: int) -> None:
    times = masked(SpecAugment(time_masks=1, time_width_frames=30), seed=seed)
    assert (times == times[:, :, :1]).all()  # all columns of a frame or none
    widths = times[:, :, 0].sum(dim=1)
    assert (widths <= LENGTHS // 2).all()
    starts_and_ends = times[:, :, 0].int().diff(dim=1).abs().sum(dim=1)
    assert (starts_and_ends <= 2).all()  # one band


def test_time_masks_reach_every_frame_and_every_width() -> None:
    augment = SpecAugment(time_masks=1, time_width_frames=6)
    drawn = torch.stack([masked(augment, seed=seed)[0, :, 0] for seed in range(400)])
    assert set(drawn.sum(dim=1).tolist()) == set(range(7))
    assert drawn.any(dim=0).all()


@pytest.mark.parametrize("seed", range(5))
def test_feature_masks_hide_a_coefficient_with_its_deltas(seed: int) -> None:
    columns = masked(SpecAugment(feature_masks=1, feature_width=3, blocks=3), seed=seed)[0, 0]
    static, delta, delta_delta = columns.reshape(3, 4)
    assert torch.equal(static, delta)
    assert torch.equal(static, delta_delta)
    assert static.sum() <= 3


def test_clips_of_a_batch_get_masks_of_their_own() -> None:
    times = torch.zeros(6, 30, 4) + 1
    augment = SpecAugment(time_masks=1, time_width_frames=10)
    times = augment(times, torch.full((6,), 30), torch.Generator().manual_seed(0))
    assert len({tuple(row) for row in times[:, :, 0].tolist()}) > 1


def test_masks_follow_their_generator_and_no_other() -> None:
    augment = SpecAugment(time_masks=2, time_width_frames=10, feature_masks=2, feature_width=4)
    torch.manual_seed(1)
    first = masked(augment)
    torch.manual_seed(2)
    assert torch.equal(first, masked(augment))
    assert not torch.equal(first, masked(augment, seed=1))


@pytest.mark.parametrize("augment", [SpecAugment(), SpecAugment(time_masks=3), SpecAugment(feature_width=5)])
def test_masks_without_number_or_width_change_nothing(augment: SpecAugment) -> None:
    assert not masked(augment).any()


def test_a_mask_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"time_masks=-1 is not possible. Accepted: whole numbers from 0 to 1000"):
        SpecAugment(time_masks=-1)
    with pytest.raises(ValueError, match="10 columns cannot be 3 equal blocks"):
        masked(SpecAugment(feature_masks=1, feature_width=1, blocks=3), dim=10)


def sine(frequency: float = 400.0, seconds: float = 0.8) -> NDArray[np.float32]:
    time = np.arange(round(seconds * 16_000)) / 16_000
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def view(samples: NDArray[np.float32], *, clip: int = 0, number: int = 0, seed: int = 0, **settings: float):  # type: ignore[no-untyped-def]
    views = Views(ViewSettings(**{**NONE, **settings}), np.arange(3, dtype=np.int64), seed)  # type: ignore[arg-type]
    return views.samples(samples, clip=clip, view=number)


def strongest(samples: NDArray[np.float32]) -> float:
    """The frequency with the most energy in the middle of a clip, in hertz."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle)), 1 << 17))
    return float(np.argmax(spectrum) * 16_000 / (1 << 17))


def test_no_effect_leaves_a_clip_as_it_is() -> None:
    np.testing.assert_array_equal(view(sine()), sine())


@pytest.mark.parametrize("number", range(4))
def test_noise_has_the_announced_level(number: int) -> None:
    noise = view(sine(), number=number, noise_probability=1.0, min_snr_db=12.0, max_snr_db=18.0) - sine()
    snr_db = 20 * np.log10(np.std(sine()) / np.std(noise))
    assert 11.7 < snr_db < 18.3


def test_a_shift_moves_a_clip_and_keeps_its_length() -> None:
    click = np.zeros(16_000, dtype=np.float32)
    click[8_000] = 1.0
    places = [
        int(np.argmax(view(click, number=number, shift_probability=1.0, max_shift_seconds=0.1))) for number in range(6)
    ]
    assert all(6_400 <= place <= 9_600 for place in places)
    assert len(set(places)) > 1


def test_pitch_moves_by_the_announced_semitones_and_keeps_the_length() -> None:
    semitones = []
    for number in range(4):
        changed = view(sine(), number=number, pitch_probability=1.0, max_semitones=3.0)
        assert len(changed) == len(sine())
        semitones.append(12 * np.log2(strongest(changed) / 400))
    assert max(np.abs(semitones)) <= 3.2
    assert max(np.abs(semitones)) > 0.3


def test_stretch_changes_the_length_and_keeps_the_pitch() -> None:
    changed = [view(sine(), number=number, stretch_probability=1.0, max_stretch=1.25) for number in range(4)]
    ratios = np.array([len(samples) / len(sine()) for samples in changed])
    assert ((ratios > 0.79) & (ratios < 1.26)).all()
    assert np.ptp(ratios) > 0.02
    assert all(abs(12 * np.log2(strongest(samples) / 400)) < 0.3 for samples in changed)


ALL_EFFECTS = {name: 1.0 for name in NONE}


def test_a_view_depends_on_seed_clip_and_number_alone() -> None:
    first = view(sine(), clip=1, number=1, **ALL_EFFECTS)
    random.seed(5)
    np.random.seed(5)
    np.testing.assert_array_equal(view(sine(), clip=1, number=1, **ALL_EFFECTS), first)
    for other in ({"clip": 2, "number": 1}, {"clip": 1, "number": 0}, {"clip": 1, "number": 1, "seed": 1}):
        changed = view(sine(), **other, **ALL_EFFECTS)  # type: ignore[arg-type]
        assert len(changed) != len(first) or not np.array_equal(changed, first)


def test_making_a_view_draws_from_no_global_generator() -> None:
    view(sine(), **ALL_EFFECTS)
    before = random.getstate(), np.random.get_state()[1].tolist()
    view(sine(), number=1, **ALL_EFFECTS)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"noise_probability": 1.5}, "noise_probability=1.5 is not possible. Accepted: 0 to 1. Change noise_prob"),
        ({"max_stretch": 0.5}, "max_stretch=0.5 is not possible. Accepted: 1 to 2"),
        ({"min_snr_db": 40.0}, "max_snr_db=30.0 is not possible. Accepted: 40 to 100"),
    ],
)
def test_a_view_setting_out_of_range_is_refused_by_name(values: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ViewSettings(**values)  # type: ignore[arg-type]
