"""What runs on a worker: one configuration in, epochs out.

A trial always begins by looking for its own last checkpoint, so a resumed search, a retry and a lost node are one
case. It reports the epochs of the checkpoint again; the study passes over those it knows.
"""

import contextlib
import dataclasses
import errno
import importlib
import pickle
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.encoders import ENCODER
from search.inference_speed import measure_speed
from search.result_keys import (
    CACHE_HITS,
    CACHE_MISSES,
    EPOCH,
    EXTRAS,
    FACTS,
    GPU_MEMORY,
    LEARNING_RATE,
    NUM_PARAMETERS,
    PRECISION,
    SCORE,
)
from search.shared_files import NodeFiles, Pace, SharedFiles
from search.space import full_length
from search.supply import Supply, plan_here
from search.watchdog import Watchdog
from ser_data.cache_use import cache_use
from ser_data.errors import UserError
from ser_data.node_folder import FullDiskError
from ser_data.object_store import StorageError
from ser_data.seeds import derive_seed
from ser_data.staging import StagingError

if TYPE_CHECKING:
    from ser_models.task import Task

NUMBER = "number"
# in a search over several spaces a trial's number is its space's place times this, plus its own
MEMBER_SPAN = 1_000_000
CONFIG = "config"
CHECKPOINT_FILE = "checkpoint.pt"
SPACE_PROBLEM = "space_problem"  # reported instead of an epoch when a corner of the space cannot be trained
DISK_FULL = "disk_full"  # reported instead of an epoch when its checkpoint found no room
STORAGE_AWAY = "storage_away"  # likewise when the storage cannot be reached
NODE_PROBLEM = "node_problem"  # likewise when the node could not get its data
EXPORT_FOLDER = "export"  # of a bundle on its way through the storage
_PROBE_CLIPS = 12
_LEAST_FREE_BYTES = 4 * 2**20  # below, a failed write is blamed on the disk


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search share, as sent to the workers.

    Attributes:
        run_folder: the search's folder on the driver's machine, seen by every worker unless there are *files*
        family_module: builds the trial
        task: data, split, emotions, cache and device (:class:`ser_models.task.Task`, as a dict)
        seed: the search's seed
        max_epochs: a trial's full length, where its configuration names no shorter one
        threads: threads that torch may use
        corners: the space's smallest and largest configuration, tried out by each worker before its first trial; of a
            search over several encoders, those of each
        encoders: of such a search, by label, what a task's ``encoder`` then is
        epoch_timeout: seconds without an epoch after which a trial's process is ended; None for no limit
        first_number: of the search's first trial, where generators are derived from numbers (``--as-trial``)
        supply: what of the task a node may have to fetch; None on a single machine, and where a worker has done so
        files: where workers keep the search's files, where it has a storage
    """

    run_folder: str
    family_module: str
    task: dict[str, Any]
    seed: int
    max_epochs: int
    threads: int
    corners: tuple[Mapping[str, Any], ...] = ()
    epoch_timeout: float | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    first_number: int = 0
    supply: Supply | None = None
    files: NodeFiles | None = None

    @property
    def on_node(self) -> SharedFiles:
        """The search's files, for a worker."""
        if self.files is None:
            return SharedFiles(Path(self.run_folder))
        return SharedFiles(self.files.here, self.files.place)

    @property
    def on_driver(self) -> SharedFiles:
        """The same files, for the driver."""
        return SharedFiles(Path(self.run_folder), None if self.files is None else self.files.place)


def trial_name(number: int) -> str:
    """What the folder of trial *number* is called in the search's."""
    return f"trials/t{number:04d}"


def trial_folder(run_folder: Path, number: int) -> Path:
    """Where trial *number* keeps its checkpoint and its last words."""
    return run_folder / trial_name(number)


def checkpoint_name(number: int) -> str:
    """What the checkpoint of trial *number* is called in the search's folder."""
    return f"{trial_name(number)}/{CHECKPOINT_FILE}"


def checkpoint_file(run_folder: Path, number: int) -> Path:
    return run_folder / checkpoint_name(number)


def error_name(number: int) -> str:
    """What the last words of trial *number* are called in the search's folder."""
    return f"{trial_name(number)}/error.txt"


def error_file(run_folder: Path, number: int) -> Path:
    return run_folder / error_name(number)


def run_trial(config: Mapping[str, Any], plan: TrialPlan) -> None:
    """The function that Ray Tune runs on a worker, once per trial."""
    from ray import tune

    with Watchdog(trial_folder(plan.on_node.folder, config[NUMBER]), plan.epoch_timeout) as watchdog:
        try:
            plan = plan_here(plan)
            problem = _check_corners(plan, config[CONFIG].get(ENCODER))
            if problem is not None:
                tune.report({SPACE_PROBLEM: problem})
                return
            for report in epochs_of_trial(config[NUMBER], config[CONFIG], plan):
                tune.report(report)
                watchdog.pat()
        except (DiskFullError, FullDiskError) as error:
            tune.report({DISK_FULL: str(error)})
        except StagingError as error:
            tune.report({NODE_PROBLEM: str(error)})
        except StorageError as error:
            tune.report({STORAGE_AWAY: str(error)})


#: Where several spaces' trials share a Tuner: from a number there to the place of its space, and its number in it.
PlaceOf = Callable[[int], tuple[int, int]]


def place_of_member(number: int) -> tuple[int, int]:
    """
    >>> place_of_member(2 * MEMBER_SPAN + 7)
    (2, 7)
    """
    return divmod(number, MEMBER_SPAN)


def run_trial_of_several(config: Mapping[str, Any], plans: Sequence[TrialPlan], place_of: PlaceOf) -> None:
    """As :func:`run_trial`, where several spaces share a Tuner: *place_of* says which of the *plans* is the trial's."""
    place, number = place_of(config[NUMBER])
    run_trial({**config, NUMBER: number}, plans[place])


def epochs_of_trial(number: int, config: Mapping[str, Any], plan: TrialPlan) -> Iterator[dict[str, Any]]:
    """Train one trial, from its last checkpoint if it left one.

    Yields:
        the report of each epoch, after its checkpoint is on disk; epochs of the checkpoint first

    Raises:
        DiskFullError: a checkpoint could not be written for want of room; the one before is still there
        FullDiskError: a cache could not
        StorageError: the storage cannot be reached
        Exception: whatever building or training raised; its traceback is left in the trial's folder
    """
    files, checkpoint, last_words = plan.on_node, checkpoint_name(number), error_name(number)
    trial_folder(files.folder, number).mkdir(parents=True, exist_ok=True)
    there = files.names(trial_name(number))  # of an earlier try; mostly nothing, which one request tells
    if last_words in there:
        files.remove(last_words)
    try:
        cache_use.take()  # of the trial before
        trial = _build(number, config, plan)
        if checkpoint in there:
            load_checkpoint(trial, files.fetch(checkpoint))
        for result in trial.trainer.history:
            yield _report(trial, result)
        pace = Pace()
        for result in trial.trainer.run():
            _keep_checkpoint(trial, files, checkpoint, pace)
            yield {**_report(trial, result), **_measured(plan)}
    except (DiskFullError, FullDiskError, StorageError):
        raise  # not of the trial's making
    except Exception as error:
        # Ray hands the driver a pickled traceback at best; a file survives the worker
        text = "".join(traceback.format_exception(error))
        (files.folder / last_words).write_text(text)
        files.publish_if_easy(last_words)
        raise
    finally:
        files.forget(checkpoint)


def _keep_checkpoint(trial: Any, files: SharedFiles, name: str, pace: Pace) -> None:
    """Write the checkpoint of the epoch that has just ended; with a storage, if it is worth being put there."""
    if files.store is not None and not _is_best(trial.trainer.history) and not pace.is_due():
        return
    _save_checkpoint(trial, files.folder / name)
    started = time.monotonic()
    files.publish(name)
    pace.took(time.monotonic() - started)


def _is_best(history: Sequence[Any]) -> bool:
    """Whether the last epoch has the best score so far, or one that cannot be compared."""
    *before, last = [result.val_uar for result in history]
    return last is None or all(score is None or last > score for score in before)


_checked: set[tuple[str, str | None]] = set()  # run folders and encoders whose corners this worker has tried out


def _check_corners(plan: TrialPlan, encoder: str | None) -> str | None:
    """What is wrong with the space's corners; of several encoders, with those of the one that a trial is to have."""
    if (plan.run_folder, encoder) in _checked:
        return None
    problem = check_configurations([corner for corner in plan.corners if corner.get(ENCODER) == encoder], plan)
    if problem is None:
        _checked.add((plan.run_folder, encoder))
    return problem


def check_configurations(configs: Iterable[Mapping[str, Any]], plan: TrialPlan) -> str | None:
    """Build each configuration on a few clips and train one epoch of it.

    Returns:
        what went wrong with the first that failed, None if all went through
    """
    for config in configs:
        try:
            trial = _build(0, config, dataclasses.replace(plan, max_epochs=1), probe_clips=_PROBE_CLIPS)
            next(trial.trainer.run())
        except FullDiskError:
            raise  # no fault of the space
        except UserError as error:
            return str(error)
        except Exception as error:
            return f"{type(error).__name__}: {error} (with {dict(config)})"
    return None


def export_trial(
    number: int, config: Mapping[str, Any], plan: TrialPlan, folder: Path, provenance: Mapping[str, object]
) -> None:
    """Write the best epoch of a trial as a bundle.

    Args:
        number: whose checkpoint to take
        config: its configuration
        plan: as the trial had it
        folder: where the bundle goes; with a storage it goes there instead, for the driver to fetch
        provenance: where the result comes from, stored in the bundle with the best epoch and its score
    """
    trial = _build(number, config, plan_here(plan))
    _load_last_checkpoint(trial, number, plan)
    # a trial that the end of the time cut off may have saved an epoch that it could no longer report
    best = max(trial.trainer.history, key=lambda result: result.val_uar)
    files = plan.on_node
    if files.store is not None:
        folder = files.folder / EXPORT_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
    trial.export(folder, {**provenance, SCORE: best.val_uar, EPOCH: best.epoch})
    with contextlib.suppress(UserError, OSError):  # what is not measured stands as a dash
        measure_speed(folder)
    files.publish_folder(EXPORT_FOLDER)


def _load_last_checkpoint(trial: Any, number: int, plan: TrialPlan) -> None:
    """Put *trial* where the checkpoint of trial *number* left it, on whatever node that was."""
    files, name = plan.on_node, checkpoint_name(number)
    load_checkpoint(trial, files.fetch(name))
    files.forget(name)


def judge_trial(number: int, config: Mapping[str, Any], plan: TrialPlan) -> tuple[float, Any]:
    """Judge the best epoch of a trial on the clips of *plan*'s task.

    Args:
        number: whose checkpoint to take
        config: its configuration
        plan: as the trial had it, save for the part that its task judges on

    Returns:
        the epoch's validation UAR, and float64 (num_clips, num_classes), probabilities in the corpus's order of clips
    """
    import numpy as np

    trial = _build(number, config, plan_here(plan))
    _load_last_checkpoint(trial, number, plan)
    best = max(trial.trainer.history, key=lambda result: result.val_uar)
    return best.val_uar, np.asarray(trial.trainer.predict_with_best_weights(), dtype=np.float64)


def judge_classical(plan: TrialPlan) -> tuple[float, Any]:
    """As :func:`judge_trial`, of the classical baseline; it is trained for it."""
    from ser_models.classical import fit_classical
    from ser_models.task import Task

    task = plan_here(plan).task
    selecting, judging = (Task.from_dict({**task, "judged": part}) for part in ("validation", task["judged"]))
    model = fit_classical(selecting)
    return model.baseline(selecting).report[SCORE], model.probabilities(judging)


def classical_baseline(plan: TrialPlan) -> Any:
    """The classical baseline on the validation clips, a `ser_models.trial.Baseline`."""
    from ser_models.classical import fit_classical
    from ser_models.task import Task

    task = Task.from_dict(plan_here(plan).task)
    return fit_classical(task).baseline(task)


def load_checkpoint(trial: Any, path: Path) -> None:
    """Put *trial* where its checkpoint left it; without one, or with one that a power cut left torn, it begins anew.

    Beginning anew costs time and nothing else: the same seed gives the same epochs, and the study knows them.
    """
    import torch

    try:
        state = torch.load(path, weights_only=True)
    except FileNotFoundError:
        return
    except (EOFError, RuntimeError, pickle.UnpicklingError):  # what torch raises for an empty and for a cut file
        return
    trial.trainer.load_state(state)


class DiskFullError(Exception):
    """A checkpoint could not be written for want of room."""


def _save_checkpoint(trial: Any, path: Path) -> None:
    import torch

    unfinished = path.with_suffix(".tmp")
    try:
        torch.save(trial.trainer.state(), unfinished)
        unfinished.replace(path)
    except (OSError, RuntimeError) as error:
        full = _is_disk_full(error, path.parent)
        with contextlib.suppress(OSError):
            unfinished.unlink()
        if full:
            raise DiskFullError(f"{path} cannot be written: the disk is full") from error
        raise


def _is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether *error* is for want of room; torch's zip writer tells no errno."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return shutil.disk_usage(folder).free < _LEAST_FREE_BYTES


def task_and_settings(config: Mapping[str, Any], plan: TrialPlan) -> tuple["Task", dict[str, Any]]:
    """The task of a configuration, with its own encoder where a search has several, and what its family reads of it."""
    from ser_models.task import Task

    task, settings = Task.from_dict(plan.task), dict(config)
    if plan.encoders:
        task = dataclasses.replace(task, encoder=plan.encoders[settings.pop(ENCODER)])
    return task, settings


def _build(number: int, config: Mapping[str, Any], plan: TrialPlan, probe_clips: int | None = None) -> Any:
    import torch

    from ser_models.memory import give_back_freed_memory

    torch.set_num_threads(plan.threads)
    family = importlib.import_module(plan.family_module)
    task, settings = task_and_settings(config, plan)
    trial = family.build(
        settings,
        task,
        seed=derive_seed(plan.seed, "trial", plan.first_number + number),
        max_epochs=full_length(config, plan.max_epochs),
        probe_clips=probe_clips,
    )
    give_back_freed_memory()  # computing features and fitting a scaler leave some 100 MB
    return trial


def _report(trial: Any, result: Any) -> dict[str, Any]:
    told = dict(trial.facts)
    if PRECISION in told:
        # a checkpoint from another kind of device may have brought its own
        told[PRECISION] = getattr(trial.trainer, "precision", told[PRECISION])
    rates = result.learning_rates if len(result.learning_rates) > 1 else {}
    measured = {**{f"{LEARNING_RATE}_{group}": rate for group, rate in rates.items()}, **result.extras}
    # pairs, since Tune would flatten a dictionary
    facts, extras = ([list(pair) for pair in named.items()] for named in (told, measured))
    return {**result.to_dict(), NUM_PARAMETERS: trial.num_parameters, FACTS: facts, EXTRAS: extras}


def _measured(plan: TrialPlan) -> dict[str, int]:
    """What the epoch that just ended took of the machine beside its time; nothing where there is nothing to tell."""
    import torch

    found = {}
    if plan.task.get("device") == "cuda":
        found[GPU_MEMORY] = round(torch.cuda.max_memory_allocated() / 2**20)
        torch.cuda.reset_peak_memory_stats()
    hits, misses = cache_use.take()
    return {**found, CACHE_HITS: hits, CACHE_MISSES: misses} if hits or misses else found
