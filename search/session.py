"""One sitting of a search: from arguments to a board, whether it begins, goes on or is extended.

Opened in :mod:`search.opening`, ended in :mod:`search.ending`; between them the study runs on Ray. What ends a sitting
(all trials done, time, Ctrl-C) ends it in one place, with a board.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from rich.console import Console

from search import run_folder
from search.arguments import Arguments
from search.corpora import TaskData
from search.ending import EXIT_INTERRUPTED, conclude, export_best, remove_checkpoints, say_finished, say_interrupted
from search.leaderboard import leaderboard, write_leaderboard
from search.opening import ALL_TRIED, Search, is_finished, load_data, open_search, rule_maker
from search.preparing import prepare_node
from search.record import Record
from search.result_keys import SCORE
from search.rungs import RungGroups
from search.study import FINAL_EVENTS, Study, StudyTrial, seconds_used
from search.terminal import LiveView
from search.trial import TrialPlan
from search.tuning import Resources, choose_resources, tune_study


def run(arguments: Arguments, command: str, console: Console) -> int:
    """Search, or go on searching; print where the results are.

    Returns:
        the exit code: 0 with a result, 1 if nothing succeeded, 130 if interrupted

    Raises:
        UserError: something the user can mend; nothing that was there is lost
    """
    search = open_search(arguments, command)
    try:
        if is_finished(search):
            return say_finished(search, console)
        data = load_data(search, console)
        with Record(search.folder / run_folder.RECORD_FILE, search.lock) as record:
            if record.lost_bytes:
                console.print(f"the record ended in a torn line of {record.lost_bytes} bytes, which was cut")
            ending = _sit(search, data, record, console)
        return conclude(search, ending, console)
    except KeyboardInterrupt:  # before Ray runs, or after: while it runs, the signal ends the sitting
        return say_interrupted(search, console)
    finally:
        search.lock.release()


def _sit(search: Search, data: TaskData, record: Record, console: Console) -> str:
    """Run what is left of the search; returns what ended the sitting."""
    from search.cluster import joined_cluster
    from search.proposals import Proposer, StudyJournal
    from search.tracking import Tracker, choose_mode
    from search.tune_adapters import SittingStopper

    arguments, plan = search.arguments, search.config["plan"]
    mode, line = choose_mode(arguments.wandb)
    study_name = f"{search.space.name}-{search.config['search_id']}"
    used = seconds_used(record.events)
    study = Study(
        record,
        Proposer(search.space, sampler=arguments.sampler, seed=arguments.seed, study_name=study_name),
        RungGroups(rule_maker(arguments.scheduler, plan["grace"], plan["max_epochs"]), search.family.rung_group),
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
            if event["kind"] in FINAL_EVENTS:
                board = leaderboard(study.trials.values(), search.config, baselines=study.baselines)
                write_leaderboard(search.folder, board, search.config, ending=None)
                remove_checkpoints(search.folder, study)

        study.listeners += [view.on_event, tracker.on_event, keep_board]
        stack.enter_context(view)
        if search.family.prepare and study.remaining:
            _prepare(search, study, trial_plan, resources, stopper, view)
        if not stopper.stop_all():
            tune_study(study, trial_plan, stopper, resources, max_failures=arguments.max_failures)
        ending = _ending(stopper, study)
        if study.best is not None and ending != "interrupted":
            export_best(search, study.best, trial_plan, resources)
        study.end(ending)  # last: a search that is killed before has not ended, and a resume makes up for it
    return ending


def _prepare(search: Search, study: Study, plan: TrialPlan, resources: Resources, stopper: Any, view: LiveView) -> None:
    """Compute what trials share, and write down what the family reaches without a search."""
    configs = search.space.to_prepare()
    with view.preparing() as show:
        baselines = prepare_node(configs, plan, resources, stopped=stopper.stop_all, show=show)
    for baseline in baselines:
        study.add_baseline(baseline)
        view.say(f"{baseline.title}: {baseline.report[SCORE]:.3f} in {baseline.report['seconds']:.0f} s")


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


def _trial_plan(search: Search, data: TaskData, *, threads: int, device: str) -> TrialPlan:
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
        encoder=search.encoders[0]["spec"] if len(search.encoders) == 1 else "",
        precision=arguments.precision,
        cache_precision=arguments.cache_precision,
    )
    return TrialPlan(
        run_folder=str(search.folder.resolve()),
        family_module=search.family.module,
        task=task.to_dict(),
        seed=arguments.seed,
        max_epochs=search.config["plan"]["max_epochs"],
        threads=threads,
        corners=search.space.smallest_and_largest(),
        encoders={each["label"]: each["spec"] for each in search.encoders} if len(search.encoders) > 1 else {},
    )


def command_line() -> str:
    """The command as it was typed, for ``config.json``."""
    return shlex.join(["python", *sys.argv])
