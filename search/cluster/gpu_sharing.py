"""What share of a GPU a trial takes: as many trials run on one as its memory holds, measured before the first trial.

A task with a GPU to itself trains the space's largest networks on full batches, the longest clip among them. What that
took of the memory, and the GPU, are in the record; a resume on the same kind of GPU measures nothing.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search.cluster.node_watch import away_from_unfit
from search.trial import try_out
from search.trial_plan import TrialPlan, plan_here

MOST_TRIALS = 8  # on one GPU: more wait for its arithmetic
#: Times what was measured: the corpus's frames may stay on the GPU beside a trial's own (``ser_models.frame_data``).
SPARE = 2.0
_BATCHES = 2
_POLL_SECONDS = 0.25
_PATIENCE_SECONDS = 1200.0  # until a GPU is free, or started


class NotMeasuredError(Exception):
    """What trials need could not be measured; the message says why."""


@dataclass(frozen=True)
class Need:
    """What the largest trials of a space took of the memory of one kind of GPU.

    Attributes:
        kind: Ray's name of the GPU, as in the resource ``accelerator_type:T4``; empty where it has none
        gpu: CUDA's name of it
        total_mb: its memory, in 2**20 bytes
        peak_mb: most that torch held at a time
        context_mb: taken beside that: by CUDA itself, and by whatever else is on the GPU
    """

    kind: str
    gpu: str
    total_mb: int
    peak_mb: int
    context_mb: int

    def trials_on_one(self, most: int) -> int:
        """How many trials fit on such a GPU with room to spare, from 1 to *most*."""
        return max(1, min(most, int(self.total_mb / (SPARE * self.peak_mb + self.context_mb))))


@dataclass(frozen=True)
class Sharing:
    """How trials share GPUs.

    Attributes:
        gpus: that one trial takes, 1 at most; None for the family's default
        memory: share of a GPU's memory that a trial's process may hold
        needs: what was measured, of each kind of GPU
    """

    gpus: float | None
    memory: float
    needs: tuple[Need, ...] = ()


def decide_sharing(
    configs: Sequence[Mapping[str, Any]],
    plan: TrialPlan,
    *,
    kinds: Sequence[str],
    most: int,
    earlier: Sequence[Mapping[str, Any]],
    stopped: Callable[[], bool],
    say: Callable[[str], None],
) -> Sharing | None:
    """Measure what trials need, unless an earlier sitting did so on such GPUs, and share them out.

    Args:
        configs: the space's largest
        plan: of trials that have a GPU each
        kinds: of GPUs that are there, by Ray's names
        most: trials on a GPU for which there are cores
        earlier: what an earlier sitting wrote down, from :func:`as_plain`
        stopped: whether the sitting ends; then nothing is decided
        say: is told what is done and what came of it

    Returns:
        None where nothing could be measured: the family's default holds
    """
    needs = [Need(**one) for one in earlier]
    again = {need.kind for need in needs} == set(kinds)
    if not again:
        say("measuring how many trials a GPU's memory holds")
        try:
            needs = measured_needs(configs, plan, kinds, stopped)
        except NotMeasuredError as error:
            say(f"it could not be measured, and the family's default holds: {error}")
            return None
    if not needs:
        return None
    together = min(need.trials_on_one(max(1, min(most, MOST_TRIALS))) for need in needs)
    tightest = max(needs, key=lambda need: need.peak_mb / need.total_mb)
    say(
        f"{f'{together} trials share a GPU' if together > 1 else 'a trial has a GPU to itself'}: the largest took "
        f"{tightest.peak_mb + tightest.context_mb:,} of its {tightest.total_mb:,} MB "
        f"({tightest.gpu}{', measured in an earlier sitting' if again else ''})"
    )
    if together == 1:
        return Sharing(1.0, 1.0, tuple(needs))
    share = math.floor(10_000 / together) / 10_000  # Ray counts ten-thousandths
    beside = max(need.context_mb / need.total_mb for need in needs)
    return Sharing(share, share - beside, tuple(needs))


def measured_needs(
    configs: Sequence[Mapping[str, Any]], plan: TrialPlan, kinds: Sequence[str], stopped: Callable[[], bool]
) -> list[Need]:
    """Let a worker with a GPU of each of *kinds* measure what *configs* take, and wait for it.

    Returns:
        nothing if the sitting ended before

    Raises:
        NotMeasuredError: it failed, or no GPU was free in time
    """
    import ray

    work = ray.remote(max_calls=1)(need_of)  # its process ends with it and gives back the memory
    needs: list[Need] = []
    for kind in kinds:
        there = {f"accelerator_type:{kind}": 0.001} if kind else {}
        options = {"num_cpus": 1, "num_gpus": 1, "max_retries": 0, "resources": there, **away_from_unfit()}
        running = work.options(**options).remote(configs, plan, kind)
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while not ray.wait([running], timeout=_POLL_SECONDS)[0]:
            if stopped() or time.monotonic() > give_up:
                with contextlib.suppress(ray.exceptions.RayError):
                    ray.cancel(running, force=True)
                if stopped():
                    return []
                raise NotMeasuredError(f"no whole GPU was free within {_PATIENCE_SECONDS / 60:.0f} minutes")
        try:
            needs.append(ray.get(running))
        except ray.exceptions.RayError as error:
            if stopped():
                return []
            cause = getattr(error, "cause", None)
            what = "its worker process died" if cause is None else f"{type(cause).__name__}: {cause}"
            raise NotMeasuredError(what.partition("\n")[0]) from error
    return needs


def need_of(configs: Sequence[Mapping[str, Any]], plan: TrialPlan, kind: str) -> Need:
    """What *configs* take of this process's GPU, which is called *kind*: runs on a worker that has it to itself."""
    import torch

    plan = plan_here(plan)
    for config in configs:
        try_out(config, plan, num_clips=_BATCHES * int(config.get("batch_size", 32)))
    free, total = torch.cuda.mem_get_info()
    held = torch.cuda.memory_reserved()
    peak, beside = torch.cuda.max_memory_reserved(), max(0, total - free - held)
    total_mb, peak_mb, context_mb = (math.ceil(value / 2**20) for value in (total, peak, beside))
    return Need(kind, torch.cuda.get_device_name(), total_mb, peak_mb, context_mb)


def kinds_of_gpus(nodes: Sequence[Mapping[str, float]]) -> list[str]:
    """Ray's names of the GPUs of *nodes*, whose resources go by name; empty names where it has none.

    >>> kinds_of_gpus([{"CPU": 8}, {"GPU": 1, "accelerator_type:T4": 1}, {"GPU": 2}])
    ['', 'T4']
    """
    mark = "accelerator_type:"
    found = {
        next((name.removeprefix(mark) for name in node if name.startswith(mark)), "")
        for node in nodes
        if node.get("GPU", 0) >= 1
    }
    return sorted(found)


def as_plain(needs: Sequence[Need]) -> list[dict[str, Any]]:
    """*needs* as values that JSON takes."""
    return [asdict(need) for need in needs]
