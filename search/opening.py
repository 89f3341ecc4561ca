"""Opening a search: a new folder or one to go on with, its configuration, and its data.

Arguments, the space and its encoder are checked first, the folder and ``config.json`` follow, then the data; nothing
slow comes before something that can be refused.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console

from search import run_folder
from search.arguments import CHANGEABLE, Arguments
from search.corpora import TaskData, check_names, find_source, open_source, task_data
from search.encoder_choice import open_space
from search.encoders import encoders_of, planned
from search.families import Family, check_gpus_per_trial, get_family
from search.record import read_events
from search.rungs import LADDERS, StoppingRule, make_rule, rung_epochs
from search.space import REDUCTION_FACTOR, Space
from search.storage.run_storage import RunStorage
from search.study import gpu_seconds_used, seconds_used, trials_of

# what ends a search, as boards say it
TRIALS, TIME_BUDGET, GPU_BUDGET, ALL_TRIED = "trials", "time budget", "GPU hours", "the end of the grid"
INTERRUPTED = "interrupted"


@dataclass
class Search:
    """A search on disk, opened by this sitting, which holds its lock."""

    folder: Path
    config: dict[str, Any]
    arguments: Arguments
    space: Space
    family: Family
    lock: FileLock
    storage: RunStorage | None = None

    @property
    def num_trials(self) -> int:
        return int(self.config["plan"]["num_trials"])

    @property
    def encoders(self) -> list[dict[str, Any]]:
        """What ``config.json`` says of the encoders; nothing in a space without one."""
        return encoders_of(self.config["plan"])


def open_search(arguments: Arguments, command: str, storage: RunStorage | None = None) -> Search:
    """Begin a search, or take up the one in its folder.

    Nobody else writes in the folder from here on until the search's lock is released.

    Args:
        arguments: as given
        command: as typed
        storage: where the search, or the one that it is a part of, lies too

    Raises:
        UserError: something that was asked for does not fit, or the folder belongs to another search
    """
    folder = arguments.resume or arguments.out or run_folder.default_folder(arguments.space)
    if arguments.resume is not None:
        run_folder.load(folder)  # no folder is made for one that holds no search
    if arguments.resume is not None or run_folder.holds_search(folder):
        lock = run_folder.claim(folder)
        with _released_on_error(lock):
            return _go_on(folder, arguments, lock, storage)
    space, encoders = open_space(arguments)
    _check_grace(arguments, space)
    check_gpus_per_trial(get_family(space.family), arguments.gpus_per_trial)
    source = find_source(arguments.data)
    check_names(source, arguments.split, arguments.emotions)
    lock = run_folder.claim(folder)
    with _released_on_error(lock):
        address = storage.address_of(folder) if storage is not None else None
        config = run_folder.create(folder, arguments, space, source, command, encoders=encoders, storage=address)
    return Search(folder, config, arguments, space, get_family(space.family), lock, storage)


def _go_on(folder: Path, given: Arguments, lock: FileLock, storage: RunStorage | None) -> Search:
    config = run_folder.load(folder)
    stored = run_folder.stored_arguments(config)
    if given.resume is None:
        run_folder.check_same_search(folder, stored, given)
    if given.data is not None:
        config["source"] = find_source(given.data)  # moved, or another: its content is compared when it is open
    arguments = continued(stored, given)
    space, encoders = open_space(arguments, encoders_of(config["plan"]))
    check_gpus_per_trial(get_family(space.family), arguments.gpus_per_trial)
    config["plan"] |= planned(encoders)  # the same ones, as they are called today
    config["plan"]["num_trials"] = grown(config["plan"]["num_trials"], arguments.trials)
    config["arguments"] |= what_ends(arguments)
    run_folder.save(folder, config)
    return Search(folder, config, arguments, space, get_family(space.family), lock, storage)


@contextmanager
def _released_on_error(lock: FileLock) -> Iterator[None]:
    try:
        yield
    except BaseException:
        lock.release()
        raise


def what_ends(arguments: Arguments) -> dict[str, Any]:
    """Of *arguments* those that decide when a search is finished: a plain ``--resume`` goes on with them."""
    return {name: getattr(arguments, name) for name in ("time_budget", "gpu_hours", "finalists", "seeds", "folds")}


def grown(stored: int, asked: int | None) -> int:
    """The number of trials from now on.

    A search only grows: with fewer, some of its trials would have no place. One that time alone ends may get a bound.
    """
    if asked is None or stored >= run_folder.UNBOUNDED:
        return asked or stored
    return max(stored, asked)


def _check_grace(arguments: Arguments, space: Space) -> None:
    rule_maker(arguments.scheduler, arguments.grace or space.grace, space.max_epochs)()


def rule_maker(scheduler: str, grace: int, max_epochs: int) -> Callable[[], StoppingRule]:
    """What makes a new stopping rule of the search."""
    return partial(make_rule, scheduler, grace=grace, reduction_factor=REDUCTION_FACTOR, max_epochs=max_epochs)


def ladder_of(config: Mapping[str, Any]) -> list[int]:
    """Epochs of the rungs of a search, by its ``config.json``; none where its scheduler has no single set of them."""
    plan, scheduler = config["plan"], config["arguments"].get("scheduler")
    return rung_epochs(plan["grace"], REDUCTION_FACTOR, plan["max_epochs"]) if scheduler in LADDERS else []


def continued(stored: Arguments, given: Arguments) -> Arguments:
    """The stored arguments with what a resume may change."""
    default = Arguments()
    changes = {name: getattr(given, name) for name in CHANGEABLE if getattr(given, name) != getattr(default, name)}
    return dataclasses.replace(stored, **changes)


def is_finished(search: Search) -> bool:
    path = search.folder / run_folder.RECORD_FILE
    events = read_events(path) if path.exists() else []
    if not events or events[-1]["kind"] != "ended":
        return False
    return is_over(
        events[-1]["reason"], search.arguments, num_begun=len(trials_of(events)), num_trials=search.num_trials,
        seconds=seconds_used(events), gpu_seconds=gpu_seconds_used(events),
    )  # fmt: skip


def is_over(
    reason: str, arguments: Arguments, *, num_begun: int, num_trials: int, seconds: float, gpu_seconds: float
) -> bool:
    """Whether what ended a search the last time ends it still, with the budgets that it has now.

    Args:
        reason: what ended it
        arguments: of the search, with today's budgets
        num_begun: trials that it began
        num_trials: that it may have
        seconds: wall time that it used
        gpu_seconds: GPU time that it used
    """
    if reason == TIME_BUDGET:
        return arguments.time_budget is not None and seconds >= arguments.time_budget
    if reason == GPU_BUDGET:
        return arguments.gpu_hours is not None and gpu_seconds >= arguments.gpu_hours * 3600
    return reason == ALL_TRIED or (num_begun >= num_trials and reason != INTERRUPTED)


def load_data(search: Search, console: Console) -> TaskData:
    arguments = search.arguments
    cache = arguments.cache_dir.expanduser()
    corpus = open_source(search.config["source"], cache, jobs=os.cpu_count() or 1)
    data = task_data(corpus, arguments.split, arguments.emotions, seed=arguments.seed)
    described = run_folder.describe_data(data)
    run_folder.check_same_data(search.folder, search.config.get("data"), described)
    search.config["data"] = described
    run_folder.save(search.folder, search.config)
    actors = described["actors"]
    console.print(
        f"{corpus.name}: {described['clips']['train']} clips of {actors['train']} actors to train on, "
        f"{described['clips']['validation']} of {actors['validation']} to select on (split {data.split.name})",
        soft_wrap=True,
    )
    for note in data.notes:
        console.print(f"note: {note}", soft_wrap=True, style="bold red" if note == data.split.leak_note else None)
    return data
