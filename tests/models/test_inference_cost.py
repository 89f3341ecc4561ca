"""What a network costs to use: counted multiply-adds against those that follow from its sizes."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ser_models.inference_cost import CLIP_SECONDS, gmacs_per_second

STEPS = 300


def weights_of(module: nn.Module) -> int:
    return sum(parameter.numel() for name, parameter in module.named_parameters() if "weight" in name)


def counted(module: nn.Module, inputs: torch.Tensor) -> float:
    return gmacs_per_second(lambda: module(inputs)) * 1e9 * CLIP_SECONDS


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}], ids=["plain", "deep"])
@pytest.mark.parametrize("training", [True, False])
def test_a_recurrent_layer_reads_all_its_weights_at_every_step(
    kind: Callable[..., nn.Module], options: dict[str, object], training: bool
) -> None:
    layer = kind(40, 64, batch_first=True, **options).train(training)
    assert counted(layer, torch.zeros(1, STEPS, 40)) == pytest.approx(STEPS * weights_of(layer), rel=5e-3)


def test_a_convolution_reads_its_weights_at_every_place_of_its_output() -> None:
    layer = nn.Conv2d(1, 8, 3, stride=2)
    places = math.prod(layer(torch.zeros(1, 1, 64, STEPS)).shape[2:])
    assert counted(layer, torch.zeros(1, 1, 64, STEPS)) == pytest.approx(places * weights_of(layer), rel=5e-3)


def test_attention_costs_its_products_too() -> None:
    query = torch.zeros(1, 4, STEPS, 16)
    attention = gmacs_per_second(lambda: nn.functional.scaled_dot_product_attention(query, query, query))
    assert attention * 1e9 * CLIP_SECONDS == pytest.approx(2 * 4 * STEPS * STEPS * 16, rel=5e-3)


def test_what_multiplies_nothing_costs_nothing() -> None:
    assert gmacs_per_second(lambda: torch.zeros(3) + 1) == 0.0
