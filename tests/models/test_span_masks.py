"""Masks of spans: where they lie, how much they cover, and that one seed gives one mask."""

import pytest
import torch

from ser_models.encoders.masks import SpanMasks, span_mask
from ser_models.encoders.model import EncoderClassifier
from ser_models.encoders.plan import INPUT
from tests.models.encoder_clips import NUM_CLASSES, plan_of, small_encoder


def drawn(lengths: torch.Tensor, size: int, *, prob: float, span: int, seed: int = 0) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return span_mask(lengths, size, prob=prob, span=span)


def by_loop(lengths: torch.Tensor, size: int, *, prob: float, span: int, seed: int = 0) -> torch.Tensor:
    """The same masks from the same draws, one clip and one span at a time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        draws = torch.rand(len(lengths), size + 1)
    masked = torch.zeros(len(lengths), size, dtype=torch.bool)
    for row, length in enumerate(lengths.tolist()):
        wanted = int(prob * torch.tensor(length) / span + draws[row, 0])
        starts = range(max(0, length - span + 1))
        for start in sorted(starts, key=lambda start: -float(draws[row, 1 + start]))[:wanted]:
            masked[row, start : start + span] = True
    return masked


def runs(row: torch.Tensor) -> list[tuple[int, int]]:
    """(first, stop) of each stretch of masked positions."""
    edges = torch.diff(torch.cat([torch.tensor([0]), row.long(), torch.tensor([0])]))
    return list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))


SHAPES = [
    (torch.tensor([50, 33, 10, 9, 1, 50]), 50, 10),
    (torch.tensor([20, 7, 13]), 20, 1),
    (torch.tensor([5, 5, 4, 3]), 5, 5),
    (torch.tensor([40, 12]), 60, 3),
    (torch.tensor([3, 2]), 3, 100),
]


@pytest.mark.parametrize("prob", [0.0, 0.05, 0.3, 0.9, 1.0])
@pytest.mark.parametrize(("lengths", "size", "span"), SHAPES)
def test_masks_are_those_of_a_loop_over_clips_and_spans(
    lengths: torch.Tensor, size: int, span: int, prob: float
) -> None:
    for seed in range(5):
        found = drawn(lengths, size, prob=prob, span=span, seed=seed)
        assert found.dtype == torch.bool
        assert torch.equal(found, by_loop(lengths, size, prob=prob, span=span, seed=seed))


@pytest.mark.parametrize("prob", [0.2, 0.9])
@pytest.mark.parametrize(("lengths", "size", "span"), SHAPES)
def test_spans_are_whole_and_lie_within_their_clip(lengths: torch.Tensor, size: int, span: int, prob: float) -> None:
    for seed in range(20):
        for row, length in zip(drawn(lengths, size, prob=prob, span=span, seed=seed), lengths.tolist(), strict=True):
            for first, stop in runs(row):
                assert stop - first >= span
                assert stop <= length


def test_a_clip_shorter_than_a_span_has_none() -> None:
    lengths = torch.full((200,), 9)
    assert not drawn(lengths, 30, prob=0.9, span=10).any()
    assert drawn(lengths + 1, 30, prob=0.9, span=10).any()


@pytest.mark.parametrize("prob", [0.05, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("length", [7, 30, 61])
def test_the_share_of_masked_frames_is_as_asked_for_where_spans_cannot_overlap(prob: float, length: int) -> None:
    lengths = torch.full((20_000,), length)
    share = float(drawn(lengths, 61, prob=prob, span=1)[:, :length].float().mean())
    assert share == pytest.approx(prob, abs=0.005)


@pytest.mark.parametrize(("prob", "span"), [(0.05, 10), (0.3, 5), (0.65, 10)])
def test_overlaps_alone_lower_the_share_of_masked_frames(prob: float, span: int) -> None:
    share = float(drawn(torch.full((20_000,), 100), 100, prob=prob, span=span).float().mean())
    assert share < prob + 0.005
    assert share > (1 - torch.exp(torch.tensor(-prob))) - 0.01  # spans that fall where they like cover this much


def test_starts_are_spread_evenly_over_the_clip() -> None:
    masked = drawn(torch.full((40_000,), 8), 12, prob=0.125, span=1)
    assert torch.allclose(masked[:, :8].float().mean(dim=0), torch.tensor(0.125), atol=0.01)
    assert not masked[:, 8:].any()


def test_one_seed_gives_one_mask_and_another_seed_another() -> None:
    lengths = torch.tensor([50, 40, 30])
    first, second, other = (drawn(lengths, 50, prob=0.3, span=4, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


class TestSpanMasks:
    FRAMES = torch.arange(1.0, 2 * 30 * 8 + 1).view(2, 30, 8)
    LENGTHS = torch.tensor([30, 20])

    def masked(self, masks: SpanMasks, mask_vector: torch.Tensor | None = None, seed: int = 0) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return masks(self.FRAMES, self.LENGTHS, mask_vector)

    def test_masked_frames_are_zero_and_the_others_untouched(self) -> None:
        found = self.masked(SpanMasks(0.4, 3, 0.0, 1))
        masked = drawn(self.LENGTHS, 30, prob=0.4, span=3)
        assert masked.any(dim=1).all()
        assert (found[masked] == 0).all()
        assert torch.equal(found[~masked], self.FRAMES[~masked])

    def test_masked_frames_become_the_mask_vector_where_there_is_one(self) -> None:
        vector = -torch.arange(8.0, dtype=torch.float64)
        found = self.masked(SpanMasks(0.4, 3, 0.0, 1), vector)
        masked = drawn(self.LENGTHS, 30, prob=0.4, span=3)
        assert found.dtype == self.FRAMES.dtype
        assert torch.equal(found[masked], vector.float().expand(int(masked.sum()), -1))
        assert torch.equal(found[~masked], self.FRAMES[~masked])

    def test_masked_columns_are_zero_in_all_frames_of_a_clip_and_the_others_untouched(self) -> None:
        found = self.masked(SpanMasks(0.0, 1, 0.5, 2), torch.full((8,), 7.0))
        columns = drawn(torch.tensor([8, 8]), 8, prob=0.5, span=2)
        assert columns.any(dim=1).all() and not columns.all(dim=1).any()
        for clip in range(2):
            assert (found[clip][:, columns[clip]] == 0).all()
            assert torch.equal(found[clip][:, ~columns[clip]], self.FRAMES[clip][:, ~columns[clip]])

    def test_frames_and_columns_are_masked_together(self) -> None:
        vector = torch.full((8,), 7.0)
        found = self.masked(SpanMasks(0.4, 3, 0.5, 2), vector)
        frames = self.masked(SpanMasks(0.4, 3, 0.0, 1), vector)
        columns = (found == 0).all(dim=1)
        assert columns.any(dim=1).all()
        assert torch.equal(found, frames.masked_fill(columns[:, None], 0.0))

    def test_probabilities_of_zero_mask_nothing_and_draw_nothing(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            state = torch.random.get_rng_state()
            found = SpanMasks(0.0, 10, 0.0, 10)(self.FRAMES, self.LENGTHS)
            assert torch.equal(torch.random.get_rng_state(), state)
        assert torch.equal(found, self.FRAMES)

    def test_what_came_in_is_not_changed(self) -> None:
        before = self.FRAMES.clone()
        self.masked(SpanMasks(0.9, 3, 0.9, 2))
        assert torch.equal(self.FRAMES, before)

    def test_frames_that_are_not_masked_pass_a_gradient(self) -> None:
        frames = torch.ones(1, 20, 4, requires_grad=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            masked = SpanMasks(0.4, 2, 0.0, 1)(frames, torch.tensor([20]))
        masked.sum().backward()
        assert frames.grad is not None
        assert torch.equal(frames.grad, (masked.detach() != 0).float())


@pytest.mark.parametrize("architecture", ["wav2vec2", "wavlm", "data2vec-audio", "whisper"])
def test_masked_frames_of_the_input_become_the_encoders_own_vector_in_training_alone(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = small_encoder(architecture)
    plan = plan_of(1, masks=SpanMasks(0.4, 2, 0.0, 1), mask_at=INPUT)
    network = EncoderClassifier(encoder, plan, num_classes=NUM_CLASSES)
    seen: list[torch.Tensor] = []
    embed = encoder.embed

    def recorded(maskable: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        seen.append(maskable)
        return embed(maskable, lengths)

    monkeypatch.setattr(encoder, "embed", recorded)
    frames, lengths = torch.randn(3, 20, encoder.maskable_dim), torch.tensor([20, 20, 14])
    for training in (True, False):
        network.train(training)(frames, lengths, torch.zeros(3, 0))
    vector = torch.zeros(encoder.maskable_dim) if encoder.mask_vector is None else encoder.mask_vector
    assert (encoder.mask_vector is None) == (architecture == "whisper")
    masked = (seen[0] == vector).all(dim=-1)
    assert masked.any(dim=1).all() and not masked[2, 14:].any()
    assert torch.equal(seen[0][~masked], frames[~masked])
    assert torch.equal(seen[1], frames)


def test_masks_at_the_boundary_are_drawn_in_training_alone() -> None:
    encoder = small_encoder("wav2vec2")
    network = EncoderClassifier(encoder, plan_of(1, "last", masks=SpanMasks(0.4, 2, 0.0, 1)), num_classes=NUM_CLASSES)
    plain = EncoderClassifier(encoder, plan_of(1, "last"), num_classes=NUM_CLASSES)
    plain.load_state_dict(network.state_dict())
    arguments = torch.randn(2, 20, encoder.hidden_size), torch.tensor([20, 15]), torch.zeros(2, 0)
    assert torch.equal(network.eval()(*arguments), plain.eval()(*arguments))
    assert not torch.allclose(network.train()(*arguments), plain.train()(*arguments))
