"""Our step is torch's step, and no worker pays for a compiler that it does not use."""

import subprocess
import sys

import pytest
import torch

from ser_models.optimisers import (
    OPTIMISERS,
    ParameterGroup,
    build_optimiser,
    layerwise_groups,
    learning_rate_factor,
    learning_rates,
    set_learning_rates,
    take_step,
    thaw,
)


def _trained(name: str, *, ours: bool) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 2))
    optimiser = build_optimiser(name, [ParameterGroup("all", list(model.parameters()), 0.01, 0.1)])
    inputs = torch.randn(16, 5)
    for _ in range(3):
        optimiser.zero_grad()
        model(inputs).square().mean().backward()
        if ours:
            take_step(optimiser)
        else:
            optimiser.step()
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_step_gives_the_weights_that_torch_gives(name: str) -> None:
    for mine, theirs in zip(_trained(name, ours=True), _trained(name, ours=False), strict=True):
        assert torch.equal(mine, theirs)


def test_training_does_not_load_the_compiler() -> None:
    code = """
import sys, torch
from ser_models.optimisers import ParameterGroup, build_optimiser, take_step
layer = torch.nn.Linear(3, 2)
optimiser = build_optimiser("adamw", [ParameterGroup("all", list(layer.parameters()), .01, .1)])
layer(torch.randn(4, 3)).sum().backward()
torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
take_step(optimiser); optimiser.zero_grad(); optimiser.load_state_dict(optimiser.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _layers(number: int) -> list[list[torch.nn.Parameter]]:
    return [list(torch.nn.Linear(3, 3).parameters()) for _ in range(number)]


def test_layers_learn_slower_the_lower_they_are() -> None:
    layers = _layers(3)
    groups = layerwise_groups(layers, learning_rate=1e-3, decay=0.5, weight_decay=0.1, first_epoch=2)
    assert [group.name for group in groups] == ["layer.0", "layer.1", "layer.2"]
    assert [group.learning_rate for group in groups] == pytest.approx([2.5e-4, 5e-4, 1e-3])
    assert [group.parameters for group in groups] == layers
    assert {group.weight_decay for group in groups} == {0.1}
    assert {group.first_epoch for group in groups} == {2}


@pytest.mark.parametrize("decay", [0.0, -1.0, 1.1])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay={decay} must be above 0 and at most 1"):
        layerwise_groups(_layers(2), learning_rate=1e-3, decay=decay, weight_decay=0.0)


def test_groups_thaw_one_by_one_and_report_their_rates() -> None:
    bottom, top = _layers(2)
    groups = [ParameterGroup("top", top, 1.0, 0.0), ParameterGroup("bottom", bottom, 0.5, 0.0, first_epoch=3)]
    optimiser = build_optimiser("adamw", groups)
    for epoch, thawed in ((1, False), (2, False), (3, True), (4, True), (1, False)):
        thaw(optimiser, epoch)
        set_learning_rates(optimiser, "constant", epoch - 1, epochs=4, steps_an_epoch=1, warmup_share=0.0)
        assert all(parameter.requires_grad for parameter in top)
        assert all(parameter.requires_grad == thawed for parameter in bottom)
        assert learning_rates(optimiser, epoch) == {"top": 1.0, "bottom": 0.5 if thawed else 0.0}


def test_two_groups_of_one_name_are_refused() -> None:
    groups = [ParameterGroup("layer.0", layer, 0.1, 0.0) for layer in _layers(2)]
    with pytest.raises(ValueError, match=r"two parameter groups are called 'layer\.0'"):
        build_optimiser("adamw", groups)


def test_a_first_epoch_before_the_first_is_refused() -> None:
    with pytest.raises(ValueError, match="first_epoch=0 of group 'head' must be at least 1"):
        ParameterGroup("head", [], 0.1, 0.0, first_epoch=0)


def test_groups_freeze_again_after_their_last_epoch_and_report_no_rate() -> None:
    bottom, top = _layers(2)
    groups = [
        ParameterGroup("top", top, 1.0, 0.0),
        ParameterGroup("bottom", bottom, 0.5, 0.0, first_epoch=2, last_epoch=3),
    ]
    optimiser = build_optimiser("adamw", groups)
    for epoch, trains in ((1, False), (2, True), (3, True), (4, False), (9, False), (3, True)):
        thaw(optimiser, epoch)
        set_learning_rates(optimiser, "constant", epoch - 1, epochs=9, steps_an_epoch=1, warmup_share=0.0)
        assert all(parameter.requires_grad for parameter in top)
        assert all(parameter.requires_grad == trains for parameter in bottom)
        assert learning_rates(optimiser, epoch) == {"top": 1.0, "bottom": 0.5 if trains else 0.0}


def test_a_group_may_train_in_one_epoch_alone_and_not_in_none() -> None:
    layer = _layers(1)[0]
    optimiser = build_optimiser("sgd", [ParameterGroup("head", layer, 0.1, 0.0, last_epoch=1)])
    assert [learning_rates(optimiser, epoch)["head"] > 0 for epoch in (1, 2)] == [True, False]


def test_a_groups_schedule_runs_over_the_epochs_in_which_it_trains() -> None:
    bottom, top = _layers(2)
    groups = [
        ParameterGroup("whole", top, 1.0, 0.0),
        ParameterGroup("late", bottom[:1], 1.0, 0.0, first_epoch=3),
        ParameterGroup("early", bottom[1:], 1.0, 0.0, last_epoch=2),
    ]
    optimiser = build_optimiser("adamw", groups)
    rates: dict[str, list[float]] = {"whole": [], "late": [], "early": []}
    for step in range(40):
        set_learning_rates(optimiser, "linear", step, epochs=4, steps_an_epoch=10, warmup_share=0.1)
        for name, rate in {group["name"]: group["lr"] for group in optimiser.param_groups}.items():
            rates[name].append(rate)
    expected = [learning_rate_factor("linear", step, 20, 0.1) for step in range(20)]
    assert rates["whole"] == [learning_rate_factor("linear", step, 40, 0.1) for step in range(40)]
    assert rates["late"] == [0.0] * 20 + expected
    assert rates["early"] == expected + [0.0] * 20


def test_a_group_that_ends_before_it_begins_is_refused() -> None:
    layer = _layers(1)[0]
    with pytest.raises(ValueError, match="last_epoch=2 of group 'head' is before its first epoch"):
        ParameterGroup("head", layer, 0.1, 0.0, first_epoch=3, last_epoch=2)
