"""Asking every node of the cluster something that concerns its own disk."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from search.storage.shared_files import NodeFiles

_TIDY_SECONDS = 30.0
_Answer = TypeVar("_Answer")


def on_every_node(function: Callable[..., _Answer], *arguments: Any, seconds: float) -> list[_Answer]:
    """What *function* gives on each node where trials may run; nodes that do not answer in time are passed over.

    Takes no cores, so that a node that is full of trials answers too.

    Args:
        function: of a module of this project
        arguments: of it
        seconds: to wait for all answers together
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked = []
    for node in ray.nodes():
        if node["Alive"] and (node["Resources"].get("CPU") or node["Resources"].get("GPU")):
            there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            task = ray.remote(function).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
            asked.append(task.remote(*arguments))
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=seconds) if asked else ([], [])
    found = []
    for answer in answered:
        try:
            found.append(ray.get(answer))
        except ray.exceptions.RayError:  # the node has just left
            continue
    return found


def tidy_nodes(files: NodeFiles, *, joined: bool) -> None:
    """Remove what workers kept of a run that has ended; a node that left the cluster keeps it.

    Args:
        files: of any part of the run
        joined: whether the cluster has nodes beside this machine
    """
    if joined:
        on_every_node(_remove, files.folder, seconds=_TIDY_SECONDS)
    else:
        _remove(files.folder)


def _remove(folder: str) -> None:
    shutil.rmtree(Path(folder).expanduser(), ignore_errors=True)
