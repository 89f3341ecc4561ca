"""Our step is torch's step, and no worker pays for a compiler that it does not use."""

import subprocess
import sys

import pytest
import torch

from ser_models.optimisers import OPTIMISERS, ParameterGroup, build_optimiser, take_step


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
