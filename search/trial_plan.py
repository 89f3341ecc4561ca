"""What all trials of a search share, as sent to the workers, and what their files are called."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.cluster.supply import Supply, have, spec_here
from search.storage.shared_files import NodeFiles, SharedFiles

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search share, as sent to the workers.

    Attributes:
        run_folder: the search's folder on the driver's machine, seen by every worker unless there are *files*
        family_module: builds the trial
        task: data, split, emotions, cache and device (:class:`ser_models.task.Task`, as a dict)
        seed: the search's seed
        max_epochs: a trial's full length, where its configuration names no shorter one
        threads: threads that torch may use, in each of a trial's processes
        corners: the space's smallest and largest configuration, tried out by each worker before its first trial; of a
            search over several encoders, those of each
        encoders: of such a search, by label, what a task's ``encoder`` then is
        epoch_timeout: seconds without an epoch after which a trial's process is ended; None for no limit
        first_number: of the search's first trial, where generators are derived from numbers (``--as-trial``)
        ranks: processes that train a trial together, its worker among them
        gpu_memory: share of its GPU's memory that a trial's process may hold
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
    ranks: int = 1
    gpu_memory: float = 1.0
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


def plan_here(plan: TrialPlan) -> TrialPlan:
    """*plan* with the folders of this node, which has all that it names from then on; itself on a single machine.

    Raises:
        StagingError: this node cannot get something
    """
    supply = plan.supply
    if supply is None:
        return plan
    task = {
        **plan.task,
        "corpus_folder": str(have(supply.corpus, supply).folder),
        "cache_dir": str(supply.cache_here),
        "encoder": spec_here(plan.task["encoder"], supply),
    }
    encoders = {label: spec_here(spec, supply) for label, spec in plan.encoders.items()}
    return replace(plan, task=task, encoders=encoders, supply=None)
