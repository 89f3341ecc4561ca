"""Pooled vectors are those of each clip alone."""

import pytest
import torch

from ser_models.pooling import POOLINGS, build_pooling


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(3, 7, 4, generator=torch.Generator().manual_seed(0))


LENGTHS = torch.tensor([7, 1, 4])


@pytest.mark.parametrize("name", POOLINGS)
def test_padding_does_not_matter_whatever_stands_in_it(name: str, frames: torch.Tensor) -> None:
    pooling = build_pooling(name, 4)
    padded = frames.clone()
    for clip, length in enumerate(LENGTHS.tolist()):
        padded[clip, length:] = torch.inf if clip == 1 else 1e6
    pooled = pooling(padded, LENGTHS)
    assert pooled.shape == (3, pooling.output_dim)
    for clip, length in enumerate(LENGTHS.tolist()):
        alone = pooling(frames[clip : clip + 1, :length], LENGTHS[clip : clip + 1])
        torch.testing.assert_close(pooled[clip], alone[0])


@pytest.mark.parametrize("name", POOLINGS)
def test_gradients_are_finite_also_for_a_clip_of_one_frame(name: str, frames: torch.Tensor) -> None:
    frames.requires_grad_()
    build_pooling(name, 4)(frames, LENGTHS).sum().backward()
    assert torch.isfinite(frames.grad).all()
    assert (frames.grad[1, 1:] == 0).all()


def test_values_are_those_of_torch_on_one_clip(frames: torch.Tensor) -> None:
    clip, whole = frames[:1], torch.tensor([7])
    torch.testing.assert_close(build_pooling("mean", 4)(clip, whole), clip.mean(dim=1))
    torch.testing.assert_close(build_pooling("max", 4)(clip, whole), clip.amax(dim=1))
    expected = torch.cat([clip.mean(dim=1), clip.std(dim=1, correction=0)], dim=1)
    torch.testing.assert_close(build_pooling("statistics", 4)(clip, whole), expected, rtol=1e-4, atol=1e-5)


def test_attention_with_equal_scores_is_the_statistics(frames: torch.Tensor) -> None:
    attention = build_pooling("attention", 4)
    torch.nn.init.zeros_(attention.score[2].weight)
    torch.testing.assert_close(attention(frames, LENGTHS), build_pooling("statistics", 4)(frames, LENGTHS))


def test_an_unknown_pooling_is_refused() -> None:
    with pytest.raises(ValueError, match="pooling 'median' is not known; known are mean, max"):
        build_pooling("median", 4)
