"""Optimisers by name, parameter groups, and the learning rate at every step."""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

OPTIMISERS = ("adamw", "adam", "sgd", "rmsprop")
SCHEDULES = ("constant", "cosine", "linear")

SGD_MOMENTUM = 0.9
WARMUP_SHARE = 0.05  # of all steps: 1.5 of 30 epochs, so that Adam's first estimates do not throw the weights about


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a peak learning rate and a weight decay, e.g. a head or a backbone.

    Attributes:
        name: for messages and results; no two groups of an optimiser share one
        parameters: the trained parameters
        learning_rate: peak learning rate, per step
        weight_decay: decoupled for AdamW, an L2 penalty otherwise; not applied to vectors (biases, norms)
        first_epoch: the epoch, from 1, at whose beginning the parameters thaw; before it they stay as they are
        last_epoch: the epoch at whose end they freeze again; None for never
    """

    name: str
    parameters: Sequence[nn.Parameter]
    learning_rate: float
    weight_decay: float
    first_epoch: int = 1
    last_epoch: int | None = None

    def __post_init__(self) -> None:
        if self.first_epoch < 1:
            raise ValueError(f"first_epoch={self.first_epoch} of group {self.name!r} must be at least 1")
        if self.last_epoch is not None and self.last_epoch < self.first_epoch:
            raise ValueError(f"last_epoch={self.last_epoch} of group {self.name!r} is before its first epoch")


def layerwise_groups(
    layers: Sequence[Sequence[nn.Parameter]],
    *,
    learning_rate: float,
    decay: float,
    weight_decay: float,
    first_epoch: int = 1,
) -> list[ParameterGroup]:
    """A group for each layer of a backbone, whose learning rates fall from the top to the bottom.

    Lower layers of a pretrained encoder hold what is general and are to move less (Howard and Ruder 2018,
    "discriminative fine-tuning").

    Args:
        layers: parameters of each layer, from bottom to top
        learning_rate: peak of the top layer, per step
        decay: each layer's rate by the rate of the one above it, in (0, 1]
        weight_decay: of all layers
        first_epoch: likewise

    Returns:
        from bottom to top, called ``layer.0``, ``layer.1`` and so on

    >>> groups = layerwise_groups([[], [], []], learning_rate=1.0, decay=0.5, weight_decay=0.0)
    >>> [(group.name, group.learning_rate) for group in groups]
    [('layer.0', 0.25), ('layer.1', 0.5), ('layer.2', 1.0)]
    """
    if not 0 < decay <= 1:
        raise ValueError(f"decay={decay} must be above 0 and at most 1")
    return [
        ParameterGroup(
            f"layer.{number}",
            parameters,
            learning_rate * decay ** (len(layers) - 1 - number),
            weight_decay,
            first_epoch,
        )
        for number, parameters in enumerate(layers)
    ]


def _leave_the_compiler_unloaded() -> None:
    """Mark the methods of torch's optimisers as already kept from the compiler.

    torch.optim keeps these methods out of ``torch.compile``, and imports the compiler (torch._dynamo, with triton and
    sympy) at their first call just to say so: 1.7 s and 100 MB for every worker. Nothing here compiles an optimiser,
    so they may stand as they are. The mark is the one that ``torch/_compile.py`` looks for; where another version of
    torch looks for another, the compiler is loaded and all else is the same.
    """
    for method in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        marked = getattr(getattr(torch.optim.Optimizer, method), "__wrapped__", None)
        if marked is not None:
            setattr(marked, "__dynamo_disable", marked)  # mypy knows no such attribute


_leave_the_compiler_unloaded()


def take_step(optimiser: torch.optim.Optimizer) -> None:
    """One step, as ``optimiser.step()`` does it, less the import of the compiler that its wrapper makes.

    Hooks on the step and the profiler's label are left out with the wrapper; nothing here uses them.
    """
    with torch.no_grad():
        inspect.unwrap(type(optimiser).step)(optimiser)


def build_optimiser(name: str, groups: Iterable[ParameterGroup]) -> torch.optim.Optimizer:
    """Optimiser over *groups*; each becomes two torch groups, with and without weight decay.

    Args:
        name: one of :data:`OPTIMISERS`
        groups: what is trained. Parameters that need no gradient when this is called are left out, and so are groups
            without others; groups that thaw later are in it, and :func:`thaw` keeps them still until then

    Raises:
        ValueError: if the name is not known, two groups share one, or nothing is trained in the first epoch
    """
    torch_groups: list[dict[str, object]] = []
    names: set[str] = set()
    for group in groups:
        if group.name in names:
            raise ValueError(f"two parameter groups are called {group.name!r}")
        names.add(group.name)
        trained = [parameter for parameter in group.parameters if parameter.requires_grad]
        for decayed in (True, False):
            members = [parameter for parameter in trained if (parameter.ndim >= 2) == decayed]
            if members:
                torch_groups.append(
                    {
                        "params": members,
                        "name": group.name,
                        "first_epoch": group.first_epoch,
                        "last_epoch": group.last_epoch,
                        "lr": group.learning_rate,
                        "peak_lr": group.learning_rate,
                        "weight_decay": group.weight_decay if decayed else 0.0,
                    }
                )
    if not any(group["first_epoch"] == 1 for group in torch_groups):
        raise ValueError("no parameter is trained in the first epoch")
    # A small network has dozens of small tensors: one fused call for all of them costs a fraction of one call each.
    if name == "adamw":
        return torch.optim.AdamW(torch_groups, fused=True)
    if name == "adam":
        return torch.optim.Adam(torch_groups, fused=True)
    if name == "sgd":
        return torch.optim.SGD(torch_groups, momentum=SGD_MOMENTUM, fused=True)
    if name == "rmsprop":
        return torch.optim.RMSprop(torch_groups, foreach=True)
    raise ValueError(f"optimiser {name!r} is not known; known are {', '.join(OPTIMISERS)}")


def thaw(optimiser: torch.optim.Optimizer, epoch: int) -> None:
    """Let the groups train whose epochs *epoch* is among, and no others.

    Parameters without a gradient are passed over by torch's optimisers: no step, no weight decay, no state. A function
    of the epoch alone, so a resumed training needs no state of it.
    """
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.requires_grad_(_trains(group, epoch))


def learning_rate_factor(schedule: str, step: int, total_steps: int, warmup_share: float = WARMUP_SHARE) -> float:
    """Share of the peak learning rate that step *step* uses.

    It rises linearly over the first *warmup_share* of the steps, then stays or falls to almost 0 at the last.
    A function of the step alone, so a resumed training needs no state of it.

    Args:
        schedule: one of :data:`SCHEDULES`
        step: 0-based step
        total_steps: steps of the whole training
        warmup_share: of them, in [0, 1]

    Returns:
        factor in (0, 1]

    >>> [round(learning_rate_factor("linear", step, 41), 2) for step in (0, 1, 2, 3, 22, 40)]
    [0.25, 0.5, 0.75, 1.0, 0.5, 0.03]
    """
    warmup_steps = math.ceil(warmup_share * total_steps)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / (total_steps - warmup_steps)  # in [0, 1)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1.0 - done
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    raise ValueError(f"schedule {schedule!r} is not known; known are {', '.join(SCHEDULES)}")


def set_learning_rates(
    optimiser: torch.optim.Optimizer,
    schedule: str,
    step: int,
    *,
    epochs: int,
    steps_an_epoch: int,
    warmup_share: float = WARMUP_SHARE,
) -> None:
    """Give every group the rate of a step: the schedule runs once over the epochs in which the group trains.

    Layers that thaw late warm up then, and do not come in where the others' rate has fallen already.

    Args:
        optimiser: from :func:`build_optimiser`
        schedule: one of :data:`SCHEDULES`
        step: 0-based step of the whole training
        epochs: of the whole training
        steps_an_epoch: batches
        warmup_share: of a group's steps, in [0, 1]
    """
    for group in optimiser.param_groups:
        begins = (group["first_epoch"] - 1) * steps_an_epoch
        ends = min(group["last_epoch"] or epochs, epochs) * steps_an_epoch
        trains = begins <= step < ends
        factor = learning_rate_factor(schedule, step - begins, ends - begins, warmup_share) if trains else 0.0
        group["lr"] = group["peak_lr"] * factor


def learning_rates(optimiser: torch.optim.Optimizer, epoch: int) -> dict[str, float]:
    """Learning rate of every group by its name, as last set; 0 for a group that does not train in *epoch*."""
    return {group["name"]: float(group["lr"]) if _trains(group, epoch) else 0.0 for group in optimiser.param_groups}


def _trains(group: Mapping[str, Any], epoch: int) -> bool:
    last = group["last_epoch"]
    return bool(group["first_epoch"] <= epoch and (last is None or epoch <= last))
