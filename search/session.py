"""One sitting of a search: from arguments to a board, whether it begins, goes on or is extended.

The order is deliberate: arguments and spaces are checked first, the run's folder and ``config.json`` follow, then the
data, and only then Ray. What ends a sitting (all trials done, time, Ctrl-C) ends it in one place, with a board.
"""

import dataclasses
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from search import run_folder
from search.arguments import Arguments
from search.corpora import TaskData, check_names, find_source, open_source, task_data
from search.families import Family, get_family
from search.record import Record, read_events
from search.rungs import RungGroups, StoppingRule, make_rule
from search.space import REDUCTION_FACTOR, Space, load_space
from search.study import Study, StudyTrial, seconds_used, trials_of
from search.trial import TrialPlan, checkpoint_file, export_trial, trial_folder
from search.tuning import Resources, choose_resources, tune_study
from ser_data.errors import UserError

EXIT_OK, EXIT_NOTHING, EXIT_INTERRUPTED = 0, 1, 130
ALL_TRIED = "the end of the grid"


@dataclass
class _Search:
    """A search on disk, opened by this sitting."""

    folder: Path
    config: dict[str, Any]
    arguments: Arguments
    space: Space
    family: Family

    @property
    def num_trials(self) -> int:
        return int(self.config["plan"]["num_trials"])


def run(arguments: Arguments, command: str, console: Console) -> int:
    """Search, or go on searching; print where the results are.

    Returns:
        the exit code: 0 with a result, 1 if nothing succeeded, 130 if interrupted

    Raises:
        UserError: something the user can mend; nothing that was there is lost
    """
    search = _open_search(arguments, command)
    if _is_finished(search):
        return _say_finished(search, console)
    try:
        data = _load_data(search, console)
        with Record(search.folder / run_folder.RECORD_FILE) as record:
            if record.lost_bytes:
                console.print(f"the record ended in a torn line of {record.lost_bytes} bytes, which was cut")
            ending = _sit(search, data, record, console)
        return _conclude(search, ending, console)
    except KeyboardInterrupt:  # before Ray runs, or after: while it runs, the signal ends the sitting
        return _say_interrupted(search, console)


def _open_search(arguments: Arguments, command: str) -> _Search:
    folder = arguments.resume or arguments.out or run_folder.default_folder(arguments.space)
    if arguments.resume is not None or run_folder.holds_search(folder):
        config = run_folder.load(folder)
        stored = run_folder.stored_arguments(config)
        if arguments.resume is None:
            run_folder.check_same_search(folder, stored, arguments)
        if arguments.data is not None:
            config["source"] = find_source(arguments.data)  # moved, or another: its content is compared when it is open
        arguments = _continued(stored, arguments)
        space = load_space(arguments.space, arguments.fix)
        # a search may only grow: fewer trials than were asked for before would leave some without a place
        config["plan"]["num_trials"] = max(config["plan"]["num_trials"], arguments.trials or 0)
        config["arguments"]["time_budget"] = arguments.time_budget
        run_folder.save(folder, config)
    else:
        space = load_space(arguments.space, arguments.fix)
        _check_grace(arguments, space)
        source = find_source(arguments.data)
        check_names(source, arguments.split, arguments.emotions)
        config = run_folder.create(folder, arguments, space, source, command)
    return _Search(folder, config, arguments, space, get_family(space.family))


def _check_grace(arguments: Arguments, space: Space) -> None:
    _rule(arguments.scheduler, arguments.grace or space.grace, space.max_epochs)()


def _rule(scheduler: str, grace: int, max_epochs: int) -> Callable[[], StoppingRule]:
    """What makes a new stopping rule of the search."""
    return partial(make_rule, scheduler, grace=grace, reduction_factor=REDUCTION_FACTOR, max_epochs=max_epochs)


def _continued(stored: Arguments, given: Arguments) -> Arguments:
    """The stored arguments with what a resume may change."""
    changes = {
        name: getattr(given, name)
        for name in ("trials", "time_budget", "max_concurrent", "wandb")
        if getattr(given, name) is not None
    }
    for name in ("address", "cache_dir", "cache_gb"):
        if getattr(given, name) != getattr(Arguments(), name):
            changes[name] = getattr(given, name)
    return dataclasses.replace(stored, **changes)


def _is_finished(search: _Search) -> bool:
    path = search.folder / run_folder.RECORD_FILE
    events = read_events(path) if path.exists() else []
    if not events or events[-1]["kind"] != "ended":
        return False
    reason: str = events[-1]["reason"]
    if reason == "time budget":
        budget = search.arguments.time_budget
        return budget is not None and seconds_used(events) >= budget
    enough = len(trials_of(events)) >= search.num_trials or reason == ALL_TRIED
    return enough and reason != "interrupted"


def _say_finished(search: _Search, console: Console) -> int:
    board = search.folder / "leaderboard.md"
    num_trials = len(trials_of(read_events(search.folder / run_folder.RECORD_FILE)))
    console.print(
        f"{search.folder} is finished ({num_trials} trials): see {board}. A larger --trials or --time-budget "
        "makes it go on.",
        soft_wrap=True,
    )
    return EXIT_OK


def _load_data(search: _Search, console: Console) -> TaskData:
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


def _sit(search: _Search, data: TaskData, record: Record, console: Console) -> str:
    """Run what is left of the search; returns what ended the sitting."""
    from search.cluster import joined_cluster
    from search.leaderboard import leaderboard, write_leaderboard
    from search.proposals import Proposer, StudyJournal
    from search.terminal import LiveView
    from search.tracking import Tracker, choose_mode
    from search.tune_adapters import SittingStopper

    arguments, plan = search.arguments, search.config["plan"]
    mode, line = choose_mode(arguments.wandb)
    study_name = f"{search.space.name}-{search.config['search_id']}"
    used = seconds_used(record.events)
    study = Study(
        record,
        Proposer(search.space, sampler=arguments.sampler, seed=arguments.seed, study_name=study_name),
        RungGroups(_rule(arguments.scheduler, plan["grace"], plan["max_epochs"]), search.family.rung_group),
        num_trials=search.num_trials,
        max_epochs=plan["max_epochs"],
        journal=lambda finished: StudyJournal(search.folder / run_folder.JOURNAL_FILE, study_name, finished),
    )
    deadline = None if arguments.time_budget is None else time.monotonic() + arguments.time_budget - used
    stopper = SittingStopper(deadline)
    with joined_cluster(arguments.address) as cluster, _interruptible(stopper), ExitStack() as stack:
        console.print(
            f"{cluster.description}: {cluster.cpus} cores, {cluster.gpus} GPUs; results in {search.folder}",
            soft_wrap=True,
        )
        resources = choose_resources(arguments, search.family, cores=cluster.cpus, gpus=cluster.gpus)
        trial_plan = _trial_plan(search, data, threads=resources.cpus, device="cuda" if resources.gpus else "cpu")
        shown_trials = search.num_trials if search.num_trials < run_folder.UNBOUNDED else None
        view = LiveView(console, num_trials=shown_trials, max_epochs=plan["max_epochs"], known=study.trials)
        if line:
            view.say(line)
        tracker = stack.enter_context(
            Tracker(search.folder, search.config, mode=mode, project=arguments.wandb_project,
                    entity=arguments.wandb_entity, say=view.say)
        )  # fmt: skip

        def keep_board(trial: StudyTrial, event: dict[str, Any]) -> None:
            if event["kind"] in ("done", "stopped", "failed"):
                write_leaderboard(
                    search.folder, leaderboard(study.trials.values(), search.config), search.config, ending=None
                )
                _remove_checkpoints(search.folder, study)

        study.listeners += [view.on_event, tracker.on_event, keep_board]
        stack.enter_context(view)
        tune_study(study, trial_plan, stopper, resources, max_failures=arguments.max_failures)
        ending = _ending(stopper, study)
        if study.best is not None and ending != "interrupted":
            _export_best(search, study.best, trial_plan, resources)
        study.end(ending)  # last: a search that is killed before has not ended, and a resume makes up for it
    return ending


def _ending(stopper: Any, study: Study) -> str:
    if stopper.interrupted:
        return "interrupted"
    if stopper.out_of_time and study.unfinished:
        return "time budget"
    return ALL_TRIED if study.exhausted else "trials"


@contextmanager
def _interruptible(stopper: Any) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sitting with a board; a second one ends it at once, and the record still holds."""

    def interrupt(signum: int, frame: object) -> None:
        if stopper.interrupted:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the live table hid the cursor
            os._exit(EXIT_INTERRUPTED)
        stopper.interrupt()

    previous = {which: signal.signal(which, interrupt) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


def _trial_plan(search: _Search, data: TaskData, *, threads: int, device: str) -> TrialPlan:
    from ser_models.task import Task

    arguments = search.arguments
    task = Task(
        corpus_folder=str(data.corpus.folder),
        split=data.split.name,
        emotions=data.emotions,
        seed=arguments.seed,
        cache_dir=str(arguments.cache_dir.expanduser()),
        cache_gb=arguments.cache_gb,
        device=device,
    )
    return TrialPlan(
        run_folder=str(search.folder.resolve()),
        family_module=search.family.module,
        task=task.to_dict(),
        seed=arguments.seed,
        max_epochs=search.config["plan"]["max_epochs"],
        threads=threads,
        corners=search.space.smallest_and_largest(),
    )


def _remove_checkpoints(folder: Path, study: Study) -> None:
    """Finished trials' checkpoints go, save the best one's: a running trial may lead and still fail."""
    finished = [trial for trial in study.trials.values() if trial.outcome in ("completed", "stopped")]
    leader = max(finished, key=lambda trial: trial.best_score, default=None)
    for trial in study.trials.values():
        if trial.outcome is not None and trial is not leader:
            checkpoint_file(folder, trial.number).unlink(missing_ok=True)
            kept = trial_folder(folder, trial.number)
            if kept.is_dir() and not any(kept.iterdir()):
                kept.rmdir()


def _export_best(search: _Search, best: StudyTrial, plan: TrialPlan, resources: Resources) -> None:
    """Write the best trial's bundle, on a worker that has the features mapped already."""
    import ray

    provenance = {
        "search_id": search.config["search_id"],
        "trial_id": best.trial_id,
        "space": search.space.name,
        "family": search.family.name,
        "seed": search.arguments.seed,
        "commit": search.config["commit"],
        "versions": search.config["versions"],
        **{key: search.config["data"][key] for key in ("corpus", "generated", "manifest_hash", "split", "leaky")},
        "judged_on_test": False,
    }
    folder = search.folder.resolve()
    unfinished = folder / f".{run_folder.BEST_FOLDER}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    export = ray.remote(export_trial).options(**resources.task_options())
    try:
        ray.get(export.remote(best.number, best.config, plan, unfinished, provenance))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error  # Ray's own has the worker's traceback for a message
        raise
    shutil.rmtree(folder / run_folder.BEST_FOLDER, ignore_errors=True)
    unfinished.replace(folder / run_folder.BEST_FOLDER)


def _conclude(search: _Search, ending: str, console: Console) -> int:
    """Write the final board and say what came of it."""
    from search.leaderboard import caption, equal_scores, leaderboard, write_epochs, write_leaderboard
    from search.terminal import board_table

    trials = trials_of(read_events(search.folder / run_folder.RECORD_FILE))
    interrupted = ending == "interrupted"
    board = leaderboard(trials.values(), search.config, ended=not interrupted)
    write_leaderboard(search.folder, board, search.config, ending=None if interrupted else ending)
    write_epochs(search.folder, trials.values())
    if len(board):
        console.print(board_table(board))
        for line in caption(board, search.config):
            console.print(line, soft_wrap=True)
    for first, second in equal_scores(trials.values()):
        console.print(
            f"warning: {first} and {second} have different configurations and equal losses and scores at every epoch: "
            "a parameter that differs between them may have no effect",
            style="yellow",
            soft_wrap=True,
        )
    failed = [trial for trial in trials.values() if trial.outcome == "failed"]
    if failed:
        console.print(
            f"{len(failed)} of {len(trials)} trials failed; {failed[0].trial_id}: {failed[0].reason}",
            style="red",
            soft_wrap=True,
        )
    if interrupted:
        return _say_interrupted(search, console)
    succeeded = any(trial.epochs for trial in trials.values() if trial.outcome != "failed")
    console.print(f"ended by: {ending}; {search.folder / 'leaderboard.md'}", soft_wrap=True)
    if succeeded:
        console.print(
            f"use the winner:  python search/predict.py {search.folder / run_folder.BEST_FOLDER} CLIP", soft_wrap=True
        )
    return EXIT_OK if succeeded else EXIT_NOTHING


def _say_interrupted(search: _Search, console: Console) -> int:
    again = f"python search/run.py --resume {shlex.quote(os.fspath(search.folder))}"
    console.print(f"interrupted; nothing is lost. Go on with:\n  {again}", soft_wrap=True)
    return EXIT_INTERRUPTED


def command_line() -> str:
    """The command as it was typed, for ``config.json``."""
    return shlex.join(["python", *sys.argv])
