"""One sitting of a search over several spaces: a folder and a record for each, one budget, one board.

Each member's folder is a search of its own, with everything that a search leaves; what is here holds them together.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from rich.console import Console

from search import run_folder
from search.arguments import Arguments
from search.baselines import baselines_of
from search.cluster.placement import resources_of, share_gpus
from search.cluster.supply import supplied
from search.corpora import TaskData
from search.ending import (
    EXIT_OK,
    conclude,
    export_best,
    leave_page,
    remove_checkpoints,
    say_ended,
    say_failed,
    say_interrupted,
)
from search.finalists.final_round import Entrant, FinalRound, Outcome, check_can_be_judged, check_not_judged, is_pending
from search.full_disk import raise_if_full
from search.gains import gains
from search.leaderboard import caption, write_leaderboard
from search.live_page import live_page
from search.members import arguments_of_members
from search.opening import (
    INTERRUPTED,
    Search,
    continued,
    grown,
    is_over,
    load_data,
    open_search,
    what_ends,
)
from search.portfolio import Machine, MemberStudy, Portfolio
from search.portfolio_board import allocation_lines, portfolio_board
from search.record import Event, Record, read_events
from search.seldom import Seldom
from search.session import (
    add_classical,
    check_gpu_hours,
    deadline_of,
    ending_of,
    gpus_spent,
    interruptible,
    make_trial_plan,
    open_study,
    prepare,
    run_finalists,
    watch,
    watch_nodes,
)
from search.storage.run_storage import RunStorage, open_record
from search.study import Study, best_of, gpu_seconds_used, seconds_used, trials_of
from search.terminal import LiveView, board_table
from search.trial import place_of_member
from search.trial_plan import TrialPlan
from search.tuning import Resources, tune_several

if TYPE_CHECKING:
    from search.tracking.tracker import Tracker

MEMBERS = "members"  # in config.json: marks a search over several spaces


@dataclass(frozen=True, eq=False)
class PortfolioSearch:
    """A search over several spaces on disk, opened by this sitting, which holds its locks.

    Attributes:
        folder: the whole search's
        config: its ``config.json``
        arguments: of the whole search
        members: its spaces' own searches
        lock: on its record
    """

    folder: Path
    config: dict[str, Any]
    arguments: Arguments
    members: tuple[Search, ...]
    lock: FileLock
    storage: RunStorage | None = None

    @property
    def num_trials(self) -> int:
        return int(self.config["plan"]["num_trials"])

    @property
    def record_file(self) -> Path:
        return self.folder / run_folder.RECORD_FILE


def holds_portfolio(folder: Path | None) -> bool:
    """Whether *folder* is that of a search over several spaces."""
    return folder is not None and (folder / run_folder.CONFIG_FILE).is_file() and MEMBERS in run_folder.load(folder)


def run_portfolio(arguments: Arguments, command: str, console: Console, storage: RunStorage | None = None) -> int:
    """As :func:`search.session.run`, over several spaces."""
    with _opened(arguments, command, storage) as search:
        try:
            if storage is not None:
                storage.put()
            if arguments.resume is not None and arguments.finalists:
                check_not_judged(search)
            before = _records(search)
            if _is_finished(search, before) and not is_pending(search):
                # boards that a crash at the end cut, or kept from being written
                _conclude(search, before[0][-1]["reason"], Console(quiet=True), Outcome())
                leave_page(search.folder, console)
                console.print(
                    f"{search.folder} is finished ({_num_begun(before)} trials): see "
                    f"{search.folder / 'leaderboard.md'}. A larger --trials, --time-budget or --gpu-hours makes it "
                    "go on.",
                    soft_wrap=True,
                )
                return EXIT_OK
            quiet = Console(quiet=True)
            data = [load_data(member, quiet if place else console) for place, member in enumerate(search.members)]
            search.config["data"] = search.members[0].config["data"]
            run_folder.save(search.folder, search.config)
            if search.arguments.finalists:
                check_can_be_judged(data[0])
            with _tracked(search, console) as trackers:
                with ExitStack() as stack:
                    record = stack.enter_context(open_record(search.record_file, storage, search.lock))
                    records = [
                        stack.enter_context(open_record(member.folder / run_folder.RECORD_FILE, storage, member.lock))
                        for member in search.members
                    ]
                    ending, outcome = _sit(search, data, record, records, console, trackers[1:])
                code = _conclude(search, ending, console, outcome)
                for tracker in trackers:
                    tracker.conclude(interrupted=ending == INTERRUPTED or outcome.interrupted)
            return code
        except KeyboardInterrupt:
            return say_interrupted(search.folder, console)
        except OSError as error:
            raise_if_full(error, search.folder)
            raise


@contextmanager
def _tracked(search: PortfolioSearch, console: Console) -> Iterator[list["Tracker"]]:
    """W&B's view of the whole search, then of each member, which is a sweep of its own."""
    from search.tracking.tracker import teller, track

    say = teller(console)
    with ExitStack() as stack:
        searches = [(search.folder, search.config), *((member.folder, member.config) for member in search.members)]
        yield [
            stack.enter_context(track(folder, config, search.arguments, say, upload_from=search.folder))
            for folder, config in searches
        ]


@contextmanager
def _opened(arguments: Arguments, command: str, storage: RunStorage | None) -> Iterator[PortfolioSearch]:
    folder = arguments.resume or arguments.out or run_folder.default_folder(arguments.space.replace(",", "-"))
    if arguments.resume is not None:
        run_folder.load(folder)
    goes_on = holds_portfolio(folder)
    with ExitStack() as stack:
        lock = run_folder.claim(folder)
        stack.callback(lock.release)
        if goes_on:
            config = run_folder.load(folder)
            stored = run_folder.stored_arguments(config)
            if arguments.resume is None:
                run_folder.check_same_search(folder, stored, arguments)
            arguments = continued(stored, arguments)
            config["plan"]["num_trials"] = grown(config["plan"]["num_trials"], arguments.trials)
            config["arguments"] |= what_ends(arguments)
        members = []
        for member in arguments_of_members(arguments, folder):
            members.append(open_search(member, command, storage))
            stack.callback(members[-1].lock.release)
        if not goes_on:
            config = _new_config(arguments, command, members, storage.store.uri if storage is not None else None)
        run_folder.save(folder, config)
        yield PortfolioSearch(folder, config, arguments, tuple(members), lock, storage)


def _new_config(arguments: Arguments, command: str, members: Sequence[Search], storage: str | None) -> dict[str, Any]:
    by_default = sum(member.space.trials for member in members)
    plan = {"family": "several", "num_trials": run_folder.num_trials(arguments, by_default)}
    return run_folder.new_config(
        arguments, command, {MEMBERS: [member.space.name for member in members], "plan": plan}, storage=storage
    )  # fmt: skip


def _records(search: PortfolioSearch) -> list[list[Event]]:
    """The events on disk: of the whole search, then of each member."""
    paths = [search.record_file, *(member.folder / run_folder.RECORD_FILE for member in search.members)]
    return [read_events(path) if path.exists() else [] for path in paths]


def _seconds_used(records: Iterable[Sequence[Event]]) -> float:
    """As :func:`search.study.seconds_used`, of records that were written side by side."""
    found = [event for events in records for event in events if "at" in event]
    return seconds_used(sorted(found, key=lambda event: event["at"]))


def _num_begun(records: Iterable[Sequence[Event]]) -> int:
    return sum(event["kind"] == "suggested" for events in records for event in events)


def _is_finished(search: PortfolioSearch, records: Sequence[Sequence[Event]]) -> bool:
    # a member's record that lost its end has something to make up for
    if any(not events or events[-1]["kind"] != "ended" for events in records):
        return False
    whole = records[0]
    return is_over(
        whole[-1]["reason"], search.arguments, num_begun=_num_begun(records), num_trials=search.num_trials,
        seconds=_seconds_used(records), gpu_seconds=sum(map(gpu_seconds_used, records)),
    )  # fmt: skip


def _sit(
    search: PortfolioSearch,
    data: Sequence[TaskData],
    record: Record,
    records: Sequence[Record],
    console: Console,
    trackers: Sequence["Tracker"],
) -> tuple[str, Outcome]:
    """Run what is left of the budget, and the finalists; returns what ended the search, and what came of these."""
    from search.cluster.joining import joined_cluster
    from search.tune_adapters import SittingStopper

    arguments = search.arguments
    used = _seconds_used([record.events, *(one.events for one in records)])
    studies = [
        open_study(member, one, num_trials=run_folder.UNBOUNDED, space=member.space.name)
        for member, one in zip(search.members, records, strict=True)
    ]
    stopper = SittingStopper(deadline_of(arguments, used), gpus_spent(arguments, studies))
    with (
        joined_cluster(arguments.address) as cluster,
        supplied(cluster, search.members, data[0].corpus, search.storage, console) as supply,
        interruptible(stopper, search.storage),
        live_page(search.folder, lambda line: console.print(line, soft_wrap=True), wanted=arguments.live),
        ExitStack() as watching,
    ):
        cluster.introduce(search.folder, console)
        cluster = watch_nodes(
            cluster, [member.folder for member in search.members], search.storage, arguments, stopper, watching, console
        )
        for each in (search.storage, supply):
            if each is not None:
                each.introduce(console)
        resources = [resources_of(member, cluster) for member in search.members]
        check_gpu_hours(arguments, max(one.gpus for one in resources))
        plans = [make_trial_plan(*each, supply) for each in zip(search.members, data, resources, strict=True)]
        with ExitStack() as stack:
            for place, one_of_each in enumerate(zip(search.members, studies, plans, resources, strict=True)):
                resources[place], plans[place] = share_gpus(*one_of_each, cluster, stopper, console)
            joined = [
                MemberStudy(member.space.name, study, len(member.space.start_configurations()), one.cpus, one.gpus)
                for member, study, one in zip(search.members, studies, resources, strict=True)
            ]
            machine = Machine(cluster.cpus, cluster.gpus, arguments.max_concurrent)
            portfolio = Portfolio(record, joined, machine, num_trials=search.num_trials)
            shown = search.num_trials if search.num_trials < run_folder.UNBOUNDED else None
            view = LiveView(console, num_trials=shown, known=portfolio.trials, seconds_left=stopper.seconds_left)
            board = keep_board(search, studies)
            for member, study, tracker in zip(search.members, studies, trackers, strict=True):
                watch(member, study, view, tracker)
                study.listeners.append(board)
            stack.enter_context(view)
            for member, study, plan, one in zip(search.members, studies, plans, resources, strict=True):
                if member.family.prepare and portfolio.remaining and not stopper.stop_all():
                    prepare(member, study, plan, one, stopper, view)
            if not stopper.stop_all():
                tune_several(
                    portfolio, plans, resources, stopper, search.folder.resolve(), place_of=place_of_member,
                    arguments=arguments,
                )  # fmt: skip
            ending = ending_of(stopper, portfolio)
            if ending != INTERRUPTED:
                _export(search, studies, plans, resources, view)
            for member, study in zip(search.members, studies, strict=True):
                remove_checkpoints(member.folder, study)
            portfolio.end(ending)
        entrants = tuple(Entrant(*each) for each in zip(search.members, plans, resources, strict=True))
        final = FinalRound(search, data[0], entrants, console)
        return ending, run_finalists(final, ending, joined=cluster.joined)


def keep_board(search: PortfolioSearch, studies: Sequence[Study]) -> Seldom:
    """What keeps the whole search's board up to date: a listener that all *studies* share."""

    def write() -> None:
        found = [(list(study.trials.values()), study.baselines) for study in studies]
        board = portfolio_board(search.members, found, ended=False)
        write_leaderboard(search.folder, board, search.config, ending=None)

    return Seldom(write)


def _export(
    search: PortfolioSearch,
    studies: Sequence[Study],
    plans: Sequence[TrialPlan],
    resources: Sequence[Resources],
    view: LiveView,
) -> None:
    """The classical baseline, each member's bundle, and the winner's as the whole search's."""
    best = best_of(study.best for study in studies if study.best is not None)
    if best is None:
        return
    several = [study for member, study in zip(search.members, studies, strict=True) if member.family.classical]
    if several:
        add_classical(several, plans[0], view)
    for member, study, plan, one in zip(search.members, studies, plans, resources, strict=True):
        if study.best is not None:
            export_best(member, study.best, plan, one)
        # a search of its own from now on, as long as it is: --resume SPACE --finalists K does not search on
        member.config["plan"]["num_trials"] = len(study.trials)
        run_folder.save(member.folder, member.config)
    target = search.folder / run_folder.BEST_FOLDER
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(search.folder / best.space / run_folder.BEST_FOLDER, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


def _conclude(search: PortfolioSearch, ending: str, console: Console, finalists: Outcome) -> int:
    interrupted = ending == INTERRUPTED
    for member in search.members:
        conclude(member, ending, Console(quiet=True), Outcome())
    records = [read_events(member.folder / run_folder.RECORD_FILE) for member in search.members]
    found = [(list(trials_of(events).values()), baselines_of(events)) for events in records]
    board = portfolio_board(search.members, found, ended=not interrupted)
    lines = allocation_lines(search.members, read_events(search.record_file), [trials for trials, _ in found])
    best = best_of(trial for trials, _ in found for trial in trials)
    baselines = {one.name: one for _, several in found for one in several}
    won = [] if interrupted else gains(best, baselines.values(), search.config["data"]["val_totals"])
    write_leaderboard(
        search.folder, board, search.config, ending=None if interrupted else ending, gains=[*won, *lines]
    )  # fmt: skip
    if len(board):
        console.print(board_table(board))
        for line in (*caption(board, search.config), *won, *lines):
            console.print(line, soft_wrap=True)
    failed = board[board["status"] == "failed"]
    if len(failed):
        how_many = f"{len(failed)} of {_num_begun(records)}"
        say_failed(console, how_many, failed["trial_id"].iloc[0], failed["reason"].iloc[0])
    if interrupted:
        return say_interrupted(search.folder, console)
    return say_ended(
        search.folder, search.config, ending, finalists, console, succeeded=best is not None
    )  # fmt: skip
