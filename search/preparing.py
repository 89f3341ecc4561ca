"""Before the trials: what they all share is computed on a whole node, by one task that the driver watches.

A family says what that is (:attr:`search.families.Family.prepare`). A worker that joins later makes for itself what its
node lacks, so nothing depends on this but the time it saves and the family's baselines.
"""

import contextlib
import importlib
import json
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.baselines import check_baseline
from search.cluster.lost_nodes import MOST_LOST_IN_A_ROW
from search.cluster.node_watch import away_from_unfit, usable_nodes
from search.encoders import ENCODER
from search.run_folder import write_atomically
from search.storage.shared_files import SharedFiles
from search.trial import check_configurations, task_and_settings
from search.trial_plan import TrialPlan, plan_here
from search.tuning import Resources, corner_problem
from ser_data.errors import UserError
from ser_data.node_folder import size_text
from ser_models.memory import give_back_freed_memory
from ser_models.trial import Baseline

if TYPE_CHECKING:
    from ser_models.task import Task

PROGRESS_FILE = ".preparing.json"
ERROR_FILE = "preparation_error.txt"
_POLL_SECONDS = 0.25
_WRITE_SECONDS = 0.2
_STORAGE_SECONDS = 2.0  # between two looks at the progress, where each is a request


def prepare_node(
    configs: Sequence[Mapping[str, Any]],
    plan: TrialPlan,
    resources: Resources,
    *,
    stopped: Callable[[], bool],
    show: Callable[[str], None],
    lost: int = 0,
) -> list[Baseline]:
    """Let a worker with a whole node to itself prepare *configs*, and wait for it.

    Args:
        configs: cover what trials will need
        plan: as trials have it
        resources: of one trial; where it takes a GPU, so does this
        stopped: whether the sitting ends; then the worker is ended, and what it began is left to a resume
        show: is told what the worker does, in a line
        lost: nodes that were lost over it

    Returns:
        the family's baselines; none if the sitting ended before

    Raises:
        UserError: the space has a corner that cannot be trained, or something failed: then its traceback is in
            :data:`ERROR_FILE`
    """
    import ray

    files = plan.on_driver
    cores, gpus = largest_node(usable_nodes(), with_gpu=resources.gpus > 0)
    for left_over in (ERROR_FILE, PROGRESS_FILE):  # of an earlier sitting
        files.remove(left_over)
    progress = _Look(files)
    # its process ends with it and gives back its memory; a second try would only fail the same way, later
    work = ray.remote(max_calls=1)(_prepare).options(num_cpus=cores, num_gpus=gpus, max_retries=0, **away_from_unfit())
    running = work.remote(configs, replace(plan, threads=cores, gpu_memory=1.0))
    try:
        while not ray.wait([running], timeout=_POLL_SECONDS)[0]:
            if stopped():
                ray.cancel(running, force=True)
                return []
            if (line := progress.line()) is not None:
                show(line)
        if (line := progress.line(at_once=True)) is not None:
            show(line)
        baselines: list[Baseline] = ray.get(running)
        return baselines
    except ray.exceptions.RayError as error:
        if stopped():  # a signal of the terminal reaches workers too
            return []
        if isinstance(error, ray.exceptions.NodeDiedError) and lost + 1 < MOST_LOST_IN_A_ROW:
            return prepare_node(configs, plan, resources, stopped=stopped, show=show, lost=lost + 1)
        raise _told(error, files) from error
    finally:
        files.remove(PROGRESS_FILE)


def largest_node(nodes: Sequence[Mapping[str, Any]], *, with_gpu: bool) -> tuple[int, int]:
    """Cores of the node that has most of them, and the GPU that it gives.

    Args:
        nodes: resources of each by name, as Ray counts them; nodes that a launcher may still start among them
        with_gpu: whether a GPU is needed; then nodes without one do not count
    """
    fitting = [node for node in nodes if not with_gpu or node.get("GPU", 0) >= 1]
    cores = max((int(node.get("CPU", 0)) for node in fitting), default=1)
    return max(cores, 1), int(with_gpu)


def _told(error: Exception, files: SharedFiles) -> UserError:
    """What a user is told of a preparation that failed."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause  # Ray's own has the worker's traceback for a message
    path = files.fetch_if_easy(ERROR_FILE)
    if cause is None:
        what = "its worker process died (out of memory, or killed from outside)"
    else:
        first_line = str(cause).partition("\n")[0]
        what = f"{type(cause).__name__}: {first_line} (traceback in {path})"
    return UserError(
        f"what the trials share could not be prepared, so no trial was started: {what}. Mend it, then go on with "
        f"--resume {files.folder}"
    )


def _prepare(configs: Sequence[Mapping[str, Any]], plan: TrialPlan) -> list[Baseline]:
    """What runs on the worker."""
    import torch

    files = plan.on_node
    files.folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.set_num_threads(plan.threads)
        plan = plan_here(plan)
        # preparing may take an hour: what each worker will ask before its first trial is asked first
        if (problem := check_configurations(plan.corners, plan)) is not None:
            raise corner_problem(problem)
        give_back_freed_memory()
        family = importlib.import_module(plan.family_module)
        progress = _Progress(files)
        work = _by_encoder(configs, plan)
        if len(work) > 1:
            sizes = {str(label): family.cached_bytes(settings, task) for label, (settings, task) in work.items()}
            _check_cache(sizes, plan.task["cache_gb"])
        baselines: list[Baseline] = []
        for label, (settings, task) in work.items():
            made = family.prepare(settings, task, progress=progress if label is None else progress.of(label))
            baselines += [replace(baseline, encoder=label or "") for baseline in made]
        for baseline in baselines:
            check_baseline(baseline)
        return baselines
    except UserError:
        raise
    except Exception as error:
        (files.folder / ERROR_FILE).write_text("".join(traceback.format_exception(error)))
        files.publish_if_easy(ERROR_FILE)
        raise


def _by_encoder(
    configs: Sequence[Mapping[str, Any]], plan: TrialPlan
) -> dict[str | None, tuple[list[dict[str, Any]], "Task"]]:
    """What the family reads of the configurations of each encoder, and their task, by label; None for a single one."""
    groups: dict[str | None, tuple[list[dict[str, Any]], Task]] = {}
    for config in configs:
        task, settings = task_and_settings(config, plan)
        groups.setdefault(config[ENCODER] if plan.encoders else None, ([], task))[0].append(settings)
    return groups


def _check_cache(sizes: Mapping[str, int], cache_gb: float) -> None:
    """Refuse networks whose prefixes the cache cannot hold all at once: trials would compute them again and again.

    Args:
        sizes: bytes by network
        cache_gb: what there is for them

    Raises:
        UserError: with the sizes
    """
    needed, allowed = sum(sizes.values()), int(cache_gb * 1e9)
    if needed > allowed:
        told = ", ".join(f"{label} {size_text(size)}" for label, size in sizes.items())
        raise UserError(
            f"what the frozen layers of the networks give takes {size_text(needed)} together ({told}), more than the "
            f"{size_text(allowed)} of --cache-gb. Give --cache-gb {needed / 1e9 + 0.1:.1f} or more, or fewer networks."
        )


class _Progress:
    """Leaves the worker's last word in a file, a few times a second at most."""

    def __init__(self, files: SharedFiles, whose: str = "") -> None:
        self._files = files
        self._whose = whose
        self._written = (0.0, "")
        self._seconds = _WRITE_SECONDS if files.store is None else _STORAGE_SECONDS

    def of(self, label: str) -> "_Progress":
        """The same for one of several encoders, which every word then names."""
        return _Progress(self._files, f" of {label}")

    def __call__(self, what: str, done: int, total: int) -> None:
        """Note that *done* of *total* are through.

        Args:
            what: e.g. ``"frozen layers"``; counts clips, unless it names something else behind a comma, as in
                ``"linear probe, epochs"``
        """
        written, last = self._written
        if done < total and what == last and time.monotonic() - written < self._seconds:
            return
        self._written = time.monotonic(), what
        name, comma, counted = what.partition(", ")
        with contextlib.suppress(OSError):  # a full disk ends the work itself, which has a better message
            told = json.dumps([f"{name}{self._whose}{comma}{counted}", done, total])
            write_atomically(self._files.folder / PROGRESS_FILE, told)
            self._files.publish_if_easy(PROGRESS_FILE)


class _Look:
    """The driver's at the worker's last word."""

    def __init__(self, files: SharedFiles) -> None:
        self._files = files
        self._next = float("-inf")

    def line(self, *, at_once: bool = False) -> str | None:
        """The word, None where there is none."""
        if self._files.store is not None and (at_once or time.monotonic() >= self._next):
            self._files.fetch_if_easy(PROGRESS_FILE)
            self._next = time.monotonic() + _STORAGE_SECONDS
        return _progress_line(self._files.folder)


def _progress_line(folder: Path) -> str | None:
    try:
        what, done, total = json.loads((folder / PROGRESS_FILE).read_text())
    except FileNotFoundError:
        return None
    name, _, counted = str(what).partition(", ")
    if total <= 1:
        return name  # a single step has no count worth showing
    return f"{name}: {done:,} of {total:,} {counted or 'clips'}"
