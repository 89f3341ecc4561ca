"""What a person sees while a search runs: a calm table and a progress bar, or a line per trial where it is piped."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from heapq import nlargest
from operator import attrgetter
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from search.encoders import ENCODER
from search.leaderboard import extra_scores, head, split_settings
from search.parameters import short
from search.record import Event
from search.result_keys import RECONSTRUCTION, ROC_AUC, SCORE
from search.study import FINAL_EVENTS, StudyTrial, best_of

_LEADERS = 5
_MOST_RUNNING = 32  # rows of running trials: more fit on no screen, and a cluster may run hundreds
_SAY_SECONDS = 60.0
_LATEST_EPOCHS = 40  # that the pace is of
_FEWEST_TRIALS = 2  # that have to end before time is foretold from them
_EXTRA_TITLES = {ROC_AUC: "ROC-\nAUC", RECONSTRUCTION: "recon-\nstruct."}
_STATUS_STYLE = {"completed": "green", "stopped": "yellow", "failed": "red", "running": "cyan"}


class LiveView:
    """Shows the study's trials as events come in. Use as a context manager; add :meth:`on_event` as a listener."""

    def __init__(
        self,
        console: Console,
        *,
        num_trials: int | None,
        known: Mapping[int, StudyTrial],
        title: str = "searching",
        name_of: Callable[[StudyTrial], str] = attrgetter("name"),
        rungs: Sequence[int] = (),
        seconds_left: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Show *known* trials of earlier sittings and those to come.

        Args:
            console: where to
            num_trials: of the whole search, None if time alone ends it
            known: the study's own mapping, which grows while it runs
            title: what the bar calls it
            name_of: what a trial is called
            rungs: epochs at which trials are compared; none where that is not the same for all
            seconds_left: until the time budget ends, None where there is none
        """
        self._console = console
        self._trials = known
        self._name_of = name_of
        self._preparing: str | None = None
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._num_trials = num_trials
        self._finished_before = self._finished()
        self._rungs = rungs
        self._seconds_left = seconds_left
        self._epochs: deque[float] = deque(maxlen=_LATEST_EPOCHS)  # when the latest were reported
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("trials"),
            TimeElapsedColumn(), console=console,
        )  # fmt: skip
        self._bar = self._progress.add_task(title, total=num_trials, completed=self._finished())
        self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> "LiveView":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def say(self, line: str) -> None:
        """Print one line above the table."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def preparing(self) -> Iterator[Callable[[str], None]]:
        """Gives a function that shows, until the context ends, how far what comes before the trials has got.

        Piped, it prints a line when something else begins to be counted, and once a minute.
        """
        said, said_at = "", self._started

        def show(line: str) -> None:
            nonlocal said, said_at
            self._preparing = line
            now, name = time.monotonic(), line.partition(":")[0]
            if not self._console.is_terminal and (name != said or now - said_at >= _SAY_SECONDS):
                said, said_at = name, now
                self.say(f"[{now - self._started:6.1f} s] {line}")

        self._preparing = "preparing what the trials share"
        try:
            yield show
        finally:
            self._preparing = None

    def on_event(self, trial: StudyTrial, event: Event) -> None:
        """A study's listener."""
        with self._lock:
            self._progress.update(self._bar, completed=self._finished())
            if event["kind"] == "epoch":
                self._epochs.append(time.monotonic())
        if event["kind"] in FINAL_EVENTS and not self._console.is_terminal:
            self.say(f"[{time.monotonic() - self._started:6.1f} s] {self._name_of(trial)} {_end_of(trial)}")

    def _finished(self) -> int:
        return sum(trial.outcome is not None for trial in list(self._trials.values()))

    def _render(self) -> RenderableType:
        trials = list(self._trials.values())
        running = [trial for trial in trials if trial.outcome is None]
        ended = [trial for trial in trials if trial.outcome is not None and trial.epochs]
        leaders = nlargest(_LEADERS, ended, key=lambda trial: trial.best_score)
        table = Table(box=None, pad_edge=False)
        titles = [("trial", "left"), ("", "left"), ("epoch", "right"), ("best UAR", "right")]
        if self._rungs:
            titles.insert(3, ("next rung", "right"))
        for name, justify in titles:
            table.add_column(name, justify=justify)  # type: ignore[arg-type]  # rich's Literal
        table.add_column("configuration", no_wrap=True, overflow="ellipsis")
        for trial in [*leaders, *running[:_MOST_RUNNING]]:
            status = trial.outcome or "running"
            table.add_row(
                self._name_of(trial),
                f"[{_STATUS_STYLE[status]}]{status}[/]",
                f"{len(trial.epochs)}/{trial.length}",
                *([self._next_rung(trial)] if self._rungs else []),
                f"{trial.best_score:.3f}" if trial.epochs else "",
                settings(trial.params),
            )
        preparing = self._preparing
        with self._lock:
            shown: RenderableType = table if preparing is None else Text(preparing)
            return Group(shown, Text(self._summary(trials), style="bold"), self._progress.get_renderable())

    def _next_rung(self, trial: StudyTrial) -> str:
        """Where a running trial is compared next; empty for one that has ended."""
        if trial.outcome is not None:
            return ""
        return str(next((rung for rung in self._rungs if len(trial.epochs) < rung < trial.length), "end"))

    def _summary(self, trials: Sequence[StudyTrial]) -> str:
        """Best so far, pace and time left, in a line; what is not known yet is left out."""
        best = best_of(trials)
        running = sum(trial.outcome is None for trial in trials)
        told = [f"best so far {best.best_score:.3f} ({self._name_of(best)})" if best is not None else "no score yet",
                f"{running} running", self._pace(), self._time_left()]  # fmt: skip
        return " · ".join(filter(None, told))

    def _pace(self) -> str:
        if len(self._epochs) < 2:
            return ""
        per_second = (len(self._epochs) - 1) / max(time.monotonic() - self._epochs[0], 1e-3)
        return f"{per_second:.1f} epochs/s" if per_second >= 0.2 else f"{1 / per_second:.0f} s an epoch"

    def _time_left(self) -> str:
        left = self._seconds_left()
        if left is not None:
            return f"{clock(left)} left of the time"
        ended = self._finished() - self._finished_before
        if self._num_trials is None or ended < _FEWEST_TRIALS:
            return ""
        each = (time.monotonic() - self._started) / ended
        return f"about {clock(each * max(0, self._num_trials - self._finished()))} left"


def clock(seconds: float) -> str:
    """
    >>> clock(8), clock(75), clock(7260)
    ('8 s', '1:15 min', '2:01 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02d} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def settings(params: Mapping[str, Any]) -> str:
    """Parameters in one line, numbers short."""
    return " ".join(f"{name}={short(value)}" for name, value in params.items())


def _end_of(trial: StudyTrial) -> str:
    reached = f"{trial.best_score:.3f} after {len(trial.epochs)} epochs" if trial.epochs else "no epoch"
    reason = f" ({trial.reason})" if trial.reason else ""
    return f"{trial.outcome}: {reached}{reason}"


def board_table(board: pd.DataFrame, rows: int = 10) -> Table:
    """The head of the leaderboard for the terminal, with the baselines wherever they stand."""
    # no lines between columns, so that numbers stay whole on 80 columns; only the settings may wrap
    table = Table(
        title="leaderboard", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True,
        padding=(0, 0),
    )  # fmt: skip
    extras = extra_scores(board)
    accuracy = "accu-\nracy" if extras else "accuracy"
    titles = [_EXTRA_TITLES[name] for name in extras]
    for name in ("rank", "trial", "status", "val UAR", "95 % over\nspeakers", accuracy, *titles, "epochs", "s"):
        left = name in ("trial", "status", "95 % over\nspeakers")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    table.add_column("settings that differ", overflow="fold")
    _, varying = split_settings(board)
    for row in head(board, rows).to_dict("records"):
        chosen = {name: row[f"config.{name}"] for name in varying if pd.notna(row[f"config.{name}"])}
        has_score = pd.notna(row[SCORE])
        table.add_row(
            str(row["rank"]),
            # an encoder's own baseline has a long name, and its encoder among the settings
            str(row["trial_id"]).partition(" ")[0] if ENCODER in chosen else str(row["trial_id"]),
            f"[{_STATUS_STYLE[row['status']]}]{row['status']}[/]",
            f"{row[SCORE]:.3f}" if has_score else "–",
            f"{row['val_uar_low']:.3f}–{row['val_uar_high']:.3f}" if pd.notna(row["val_uar_low"]) else "–",
            f"{row['val_accuracy']:.3f}" if has_score else "–",
            *(f"{row[name]:.3f}" if pd.notna(row[name]) else "–" for name in extras),
            str(row["epochs"]),
            f"{row['seconds']:.0f}",
            settings(chosen),
        )
    return table
