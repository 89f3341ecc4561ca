"""One sitting of a search: from arguments to a board, whether it begins, goes on or is extended.

Opened in :mod:`search.opening`, ended in :mod:`search.ending`; between them the study runs on Ray. What ends a sitting
(all trials done, time, Ctrl-C) ends it in one place, with a board.
"""

import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from search import run_folder
from search.arguments import Arguments
from search.baselines import CLASSICAL_NAME, check_baseline
from search.cluster.autoscaling import total
from search.cluster.node_watch import away_from_unfit
from search.cluster.on_nodes import tidy_nodes
from search.cluster.placement import resources_of, share_gpus
from search.cluster.supply import Supply, supplied
from search.corpora import TaskData
from search.ending import EXIT_INTERRUPTED, conclude, export_best, remove_checkpoints, say_finished, say_interrupted
from search.finalists.final_round import Entrant, FinalRound, Outcome, check_can_be_judged, check_not_judged, is_pending
from search.full_disk import raise_if_full
from search.leaderboard import leaderboard, write_leaderboard
from search.live_page import live_page
from search.opening import (
    ALL_TRIED,
    GPU_BUDGET,
    INTERRUPTED,
    TIME_BUDGET,
    TRIALS,
    Search,
    is_finished,
    ladder_of,
    load_data,
    open_search,
    rule_maker,
)
from search.portfolio import Portfolio
from search.preparing import prepare_node
from search.record import Record, read_events
from search.result_keys import SCORE
from search.rungs import RungGroups
from search.seldom import Seldom
from search.storage.run_storage import RunStorage, open_record
from search.study import Study, put_back, seconds_used, trials_of
from search.terminal import LiveView
from search.trial import classical_baseline
from search.trial_plan import TrialPlan
from search.tuning import Resources, tune_study
from ser_data.errors import UserError

if TYPE_CHECKING:
    from search.cluster.joining import Cluster
    from search.proposals import Proposer
    from search.tracking.tracker import Tracker


def run(arguments: Arguments, command: str, console: Console, storage: RunStorage | None = None) -> int:
    """Search, or go on searching; print where the results are.

    Args:
        arguments: as given
        command: as typed
        console: where things are told
        storage: where the search lies too

    Returns:
        the exit code: 0 with a result, 1 if nothing succeeded, 130 if interrupted

    Raises:
        UserError: something the user can mend; nothing that was there is lost
    """
    from search.tracking.tracker import teller, track

    search = open_search(arguments, command, storage)
    try:
        if storage is not None:
            storage.put()  # from here on another machine can go on
        if arguments.resume is not None and arguments.finalists:
            check_not_judged(search)
        if (note := search.config.pop(run_folder.RECOVERED, None)) is not None:
            console.print(f"note: {note}", soft_wrap=True)
        if is_finished(search) and not is_pending(search):
            rebuild_views(search)
            return say_finished(search, console)
        data = load_data(search, console)
        if search.arguments.finalists:
            check_can_be_judged(data)
        with track(search.folder, search.config, search.arguments, teller(console)) as tracker:
            with open_record(search.folder / run_folder.RECORD_FILE, storage, search.lock) as record:
                if record.lost_bytes:
                    console.print(f"the record ended in a torn line of {record.lost_bytes} bytes, which was cut")
                ending, outcome = _sit(search, data, record, console, tracker)
            code = conclude(search, ending, console, finalists=outcome)
            tracker.conclude(interrupted=ending == INTERRUPTED or outcome.interrupted)
        return code
    except KeyboardInterrupt:  # before Ray runs, or after: while it runs, the signal ends the sitting
        return say_interrupted(search.folder, console)
    except OSError as error:
        raise_if_full(error, search.folder)
        raise
    finally:
        search.lock.release()


def _sit(search: Search, data: TaskData, record: Record, console: Console, tracker: "Tracker") -> tuple[str, Outcome]:
    """Run what is left of the search, and its finalists; returns what ended the search, and what came of these."""
    from search.cluster.joining import joined_cluster
    from search.tune_adapters import SittingStopper

    arguments = search.arguments
    used = seconds_used(record.events)
    study = open_study(search, record, num_trials=search.num_trials)
    stopper = SittingStopper(deadline_of(arguments, used), gpus_spent(arguments, [study]))
    with (
        joined_cluster(arguments.address) as cluster,
        supplied(cluster, [search], data.corpus, search.storage, console) as supply,
        interruptible(stopper, search.storage),
        live_page(search.folder, lambda line: console.print(line, soft_wrap=True), wanted=arguments.live),
        ExitStack() as watching,
    ):
        cluster.introduce(search.folder, console)
        cluster = watch_nodes(cluster, [search.folder], search.storage, arguments, stopper, watching, console)
        for each in (search.storage, supply):
            if each is not None:
                each.introduce(console)
        resources = resources_of(search, cluster)
        check_gpu_hours(arguments, resources.gpus)
        trial_plan = make_trial_plan(search, data, resources, supply)
        with ExitStack() as stack:
            resources, trial_plan = share_gpus(search, study, trial_plan, resources, cluster, stopper, console)
            shown_trials = search.num_trials if search.num_trials < run_folder.UNBOUNDED else None
            view = LiveView(
                console, num_trials=shown_trials, known=study.trials, rungs=ladder_of(search.config),
                seconds_left=stopper.seconds_left,
            )  # fmt: skip
            watch(search, study, view, tracker)
            stack.enter_context(view)
            if search.family.prepare and study.remaining and not stopper.stop_all():
                prepare(search, study, trial_plan, resources, stopper, view)
            if not stopper.stop_all():
                tune_study(study, trial_plan, stopper, resources, arguments)
            ending = ending_of(stopper, study)
            if ending != INTERRUPTED:
                if search.family.classical and study.best is not None:
                    add_classical([study], trial_plan, view)
                if study.best is not None:
                    export_best(search, study.best, trial_plan, resources)
            remove_checkpoints(search.folder, study, search.storage)
            study.end(ending)  # last: a search that is killed before has not ended, and a resume makes up for it
        final = FinalRound(search, data, (Entrant(search, trial_plan, resources),), console)
        return ending, run_finalists(final, ending, joined=cluster.joined)


def run_finalists(final: FinalRound, ending: str, *, joined: bool) -> Outcome:
    """What comes of the finalists of a search, in time of their own; nothing where *ending* says that it goes on.

    Where it does not, what its workers kept is removed. *joined* says whether they are on other machines too.
    """
    from search.tune_adapters import SittingStopper

    if ending == INTERRUPTED:
        return Outcome()
    outcome = Outcome()
    if final.search.arguments.finalists:
        stopper = SittingStopper(None)
        with interruptible(stopper, final.search.storage):
            outcome = final.run(stopper)
    files = final.entrants[0].plan.files
    if files is not None and not outcome.interrupted:
        tidy_nodes(files, joined=joined)
    return outcome


def rebuild_views(search: Search) -> None:
    """Write board, epochs and Optuna's journal of a finished search anew from its record, whatever became of them."""
    from search.proposals import StudyJournal, finished_trials

    events = read_events(search.folder / run_folder.RECORD_FILE)
    conclude(search, events[-1]["reason"], Console(quiet=True), Outcome())
    proposer, study_name = _proposer(search)
    put_back(proposer, trials_of(events), events)
    StudyJournal(search.folder / run_folder.JOURNAL_FILE, study_name, finished_trials(proposer.frozen_trials))


def _proposer(search: Search) -> tuple["Proposer", str]:
    """The search's proposer, without a trial yet, and the name of its study."""
    from search.proposals import Proposer

    arguments = search.arguments
    study_name = f"{search.space.name}-{search.config['search_id']}"
    return Proposer(search.space, sampler=arguments.sampler, seed=arguments.seed, study_name=study_name), study_name


def open_study(search: Search, record: Record, *, num_trials: int, space: str = "") -> Study:
    """The study of a search, replayed from its record.

    Args:
        search: whose
        record: open, and ours alone
        num_trials: how many trials it may have in all
        space: what its trials are told to come from, in a search over several spaces
    """
    from search.proposals import StudyJournal

    arguments, plan = search.arguments, search.config["plan"]
    proposer, study_name = _proposer(search)
    return Study(
        record,
        proposer,
        RungGroups(rule_maker(arguments.scheduler, plan["grace"], plan["max_epochs"]), search.family.rung_group),
        num_trials=num_trials,
        max_epochs=plan["max_epochs"],
        journal=lambda finished: StudyJournal(search.folder / run_folder.JOURNAL_FILE, study_name, finished),
        space=space,
    )


def watch(search: Search, study: Study, view: LiveView, tracker: "Tracker") -> None:
    """Let view, tracker and board follow the study."""

    def keep_board() -> None:
        board = leaderboard(study.trials.values(), search.config, baselines=study.baselines)
        write_leaderboard(search.folder, board, search.config, ending=None)
        remove_checkpoints(search.folder, study, search.storage)

    tracker.make_up_for(study.trials.values())
    study.listeners += [view.on_event, tracker.on_event, Seldom(keep_board)]


def watch_nodes(
    cluster: "Cluster", folders: Sequence[Path], storage: RunStorage | None, arguments: Arguments, stopper: Any,
    stack: ExitStack, console: Console,
) -> "Cluster":  # fmt: skip
    """Follow the nodes of a cluster that was there before, until *stack* is closed; none that does not fit is used.

    Args:
        cluster: that was joined, or started
        folders: of the searches, which nodes should see where there is no storage
        storage: which they should read and write, None where there is none
        arguments: of the search
        stopper: ends the sitting if no node is left that fits
        stack: the sitting's
        console: where to name nodes that do not fit

    Returns:
        *cluster* with what its nodes that fit have

    Raises:
        UserError: none does
    """
    from search.cluster.node_watch import watched_nodes

    if not cluster.joined:
        return cluster
    paths = [] if storage is not None else [folder.resolve() / run_folder.CONFIG_FILE for folder in folders]
    uri = storage.store.uri if storage is not None else ""
    say = partial(console.print, soft_wrap=True, highlight=False)
    watched = watched_nodes(paths, stopper, say, with_gpu=arguments.gpus_per_trial != 0, storage=uri)
    nodes = stack.enter_context(watched).capacity
    if not total(nodes, "CPU"):
        raise UserError(
            "no machine of the cluster has a core for trials: its head was started with --num-cpus=0, or gives none. "
            f"Let one join, then try again.{f' {cluster.hint}' if cluster.hint else ''}"
        )
    return replace(cluster, cpus=total(nodes, "CPU"), gpus=total(nodes, "GPU"))


def deadline_of(arguments: Arguments, used: float) -> float | None:
    """When the time budget ends, as :func:`time.monotonic` counts; *used* seconds of it are gone."""
    return None if arguments.time_budget is None else time.monotonic() + arguments.time_budget - used


def gpus_spent(arguments: Arguments, studies: Sequence[Study]) -> Callable[[], bool] | None:
    """What says whether the GPU hours are used up; None where they do not count."""
    hours = arguments.gpu_hours
    return None if hours is None else lambda: sum(study.gpu_seconds for study in studies) >= hours * 3600


def check_gpu_hours(arguments: Arguments, gpus: float) -> None:
    """Refuse a budget of GPU hours where trials take no GPU.

    Raises:
        UserError: it could never be used up
    """
    if arguments.gpu_hours is not None and not gpus:
        raise UserError(
            f"--gpu-hours {arguments.gpu_hours:g} would never be used up: trials take no GPU here. Set --time-budget "
            "or --trials instead, or run where there is a GPU."
        )


def add_classical(studies: Sequence[Study], plan: TrialPlan, view: LiveView) -> None:
    """What statistics and an SVM reach, once in the life of a search; *studies* share their data."""
    import ray

    lacking = [study for study in studies if all(known.name != CLASSICAL_NAME for known in study.baselines)]
    if lacking:
        try:
            baseline = ray.get(ray.remote(classical_baseline).options(num_cpus=1, **away_from_unfit()).remote(plan))
            check_baseline(baseline)
        except (ray.exceptions.RayError, ValueError) as error:  # it costs itself, not the search
            view.say(f"{CLASSICAL_NAME} could not be computed: {getattr(error, 'cause', None) or error}")
            return
        for study in lacking:
            study.add_baseline(baseline)
        view.say(f"{baseline.name}: {baseline.report[SCORE]:.3f} in {baseline.report['seconds']:.0f} s")


def prepare(search: Search, study: Study, plan: TrialPlan, resources: Resources, stopper: Any, view: LiveView) -> None:
    """Compute what trials share, and write down what the family reaches without a search."""
    configs = search.space.to_prepare()
    with view.preparing() as show:
        baselines = prepare_node(configs, plan, resources, stopped=stopper.stop_all, show=show)
    for baseline in baselines:
        study.add_baseline(baseline)
        view.say(f"{baseline.title}: {baseline.report[SCORE]:.3f} in {baseline.report['seconds']:.0f} s")


def ending_of(stopper: Any, study: Study | Portfolio) -> str:
    """What ended the sitting of *study*, in a word of :mod:`search.opening`.

    Raises:
        Exception: what it failed with before Tune ran, e.g. a node that joined and does not fit
    """
    if stopper.failure is not None:
        raise stopper.failure
    if stopper.interrupted:
        return INTERRUPTED
    if study.unfinished and (stopper.out_of_time or stopper.out_of_gpu_hours):
        return TIME_BUDGET if stopper.out_of_time else GPU_BUDGET
    return ALL_TRIED if study.exhausted else TRIALS


@contextmanager
def interruptible(stopper: Any, storage: RunStorage | None = None) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sitting with a board; a second one ends it at once, and the record still holds.

    A *storage* that stays away ends it too, with what it has failed with.
    """

    def interrupt(signum: int, frame: object) -> None:
        if stopper.interrupted:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), b"\x1b[?25h\n")  # the live table hid the cursor
            os._exit(EXIT_INTERRUPTED)
        stopper.interrupt()

    if storage is not None:
        storage.uploader.on_failure = stopper.fail
        storage.uploader.impatient = lambda: stopper.interrupted
    previous = {which: signal.signal(which, interrupt) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for which, handler in previous.items():
            signal.signal(which, handler)


def make_trial_plan(search: Search, data: TaskData, resources: Resources, supply: Supply | None = None) -> TrialPlan:
    """What the search's trials share; on a cluster that was joined its nodes get their data from *supply*."""
    from ser_models.task import Task

    arguments = search.arguments
    task = Task(
        corpus_folder=str(data.corpus.folder),
        split=data.split.name,
        emotions=data.emotions,
        seed=arguments.seed,
        cache_dir=str(arguments.cache_dir.expanduser()),
        cache_gb=arguments.cache_gb,
        device="cuda" if resources.gpus else "cpu",
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
        threads=max(1, resources.cpus // resources.ranks),
        ranks=resources.ranks,
        corners=search.space.smallest_and_largest(),
        epoch_timeout=arguments.epoch_timeout or None,
        first_number=arguments.as_trial,
        encoders={each["label"]: each["spec"] for each in search.encoders} if len(search.encoders) > 1 else {},
        supply=supply,
        files=search.storage.node_files(search.folder, arguments.cache_dir) if search.storage is not None else None,
    )


def command_line() -> str:
    """The command as it was typed, for ``config.json``."""
    return shlex.join(["python", *sys.argv])
