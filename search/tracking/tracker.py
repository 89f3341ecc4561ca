"""Weights & Biases while a search runs: whether it is on, and how it is kept up to date without anybody waiting.

The driver alone talks to W&B, on a thread of its own fed by a queue, so that neither a trial nor the search waits for
a network, and no key reaches a worker. W&B is a view: when it cannot be reached the search goes on. What is sent:
:mod:`search.tracking.writer`; later: ``python search/sync_wandb.py RUN``.
"""

import contextlib
import netrc
import os
import queue
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from rich.console import Console

from search.arguments import Arguments
from search.record import Event
from search.study import StudyTrial
from search.tracking.writer import WandbWriter
from ser_data.errors import UserError

CLOSE_SECONDS = 60.0
RETRY_SECONDS = 300.0  # W&B is left alone for so long after it failed
_KEY_VARIABLES = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


def choose_mode(asked: str | None) -> tuple[str, str]:
    """``online``, ``offline`` or ``disabled``, and the line that says so where nobody asked for it.

    Args:
        asked: ``--wandb``; None decides by whether a key is found where ``wandb`` itself looks for it

    Raises:
        UserError: online was asked for without a key; ``wandb`` would ask for one in the middle of the search
    """
    has_key = any(os.environ.get(name) for name in _KEY_VARIABLES) or _key_in_netrc()
    if asked == "online" and not has_key:
        raise UserError(
            "--wandb online: no key was found, neither in WANDB_API_KEY nor in ~/.netrc. Run `wandb login` first, or "
            "choose --wandb offline and upload with search/sync_wandb.py later."
        )
    if asked is not None:
        return asked, ""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "disabled"):
        return mode, f"W&B: {mode} (WANDB_MODE)"
    if has_key:
        return "online", "W&B: online"
    return "offline", (
        "W&B: offline, no key found. To upload it later: `wandb login`, then python search/sync_wandb.py and its folder"
    )


def _key_in_netrc() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(str(path)).authenticators(host) is not None
    return False


@contextlib.contextmanager
def track(
    folder: Path,
    config: Mapping[str, Any],
    arguments: Arguments,
    say: Callable[[str], None],
    *,
    upload_from: Path | None = None,
) -> Iterator["Tracker"]:
    """W&B's view of the search in *folder*, in the mode that *arguments* or the environment ask for.

    Raises:
        UserError: online was asked for without a key
    """
    mode, line = choose_mode(arguments.wandb)
    if line:
        say(line)
    with Tracker(
        folder, config, mode=mode, project=arguments.wandb_project, entity=arguments.wandb_entity, say=say,
        upload_from=upload_from,
    ) as tracker:  # fmt: skip
        yield tracker


def teller(console: Console) -> Callable[[str], None]:
    """Prints each line once, above a live table if there is one: several searches may have the same to say."""
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    return say


class Tracker:
    """Keeps W&B up to date with what the record says of each trial. Use as a context manager around the search.

    Nobody waits for it but the end of the search, and that for :data:`CLOSE_SECONDS` at most. When W&B fails, it is
    left alone for a while; then whatever it lacks is sent. What it lacks at the end is said, with the command that
    sends it.
    """

    def __init__(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        *,
        mode: str,
        project: str,
        entity: str | None,
        say: Callable[[str], None],
        upload_from: Path | None = None,
    ) -> None:
        """Log to runs called ``<search id>-<trial id>``.

        Args:
            run_folder: the search's; offline runs are kept under ``wandb/`` in it
            config: the search's ``config.json``
            mode: ``online``, ``offline`` or ``disabled``
            project: W&B project
            entity: W&B team or user; None for the key's own
            say: prints one line to the user
            upload_from: the folder to upload later, where it is not *run_folder*
        """
        self._say = say
        self._upload_from = upload_from or run_folder
        self._is_on = mode != "disabled"
        self._writer = WandbWriter(run_folder, config, mode=mode, project=project, entity=entity)
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._trials: dict[int, StudyTrial] = {}
        self._unchecked: list[StudyTrial] = []  # of earlier sittings: W&B was not asked yet whether it has them whole
        self._lacking: set[int] = set()  # ended trials whose runs are not whole
        self._sent: set[int] = set()  # those that were sent in this sitting
        self._failures: Counter[int] = Counter()
        self._unpublished = False
        self._ended = False
        self._away_until = 0.0  # W&B failed; until then nothing is tried, as time.monotonic() counts
        self._told = False
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)

    def __enter__(self) -> "Tracker":
        if self._is_on:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_on:
            return
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive() or self._lacking or self._unchecked or self._unpublished:
            self._say(f"W&B: not everything could be sent, and nothing is lost. {upload_hint(self._upload_from)}")

    def on_event(self, trial: StudyTrial, event: Event) -> None:
        """A study's listener."""
        if self._is_on and event["kind"] != "suggested":
            self._queue.put(lambda: self._update(trial))

    def make_up_for(self, trials: Iterable[StudyTrial]) -> None:
        """Send ended trials whose runs are not whole: the driver was killed before, or W&B failed."""
        known = list(trials)
        if self._is_on and known:
            self._queue.put(lambda: self._make_up_for(known))

    def conclude(self, *, interrupted: bool) -> None:
        """The sitting is over, and the folder holds what came of it; *interrupted*, the search may go on."""
        if self._is_on:
            self._queue.put(lambda: self._conclude(interrupted=interrupted))

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            job()
        self._attempt(self._bring)
        self._writer.interrupt(self._trials)
        self._attempt(self._confirm)

    def _attempt(self, job: Callable[[], object]) -> bool:
        """Do *job* unless W&B failed a short while ago; whatever it or its service raises must not reach the search."""
        if time.monotonic() < self._away_until:
            return False
        try:
            job()
        except Exception as error:
            if not self._told:
                first_line = str(error).partition("\n")[0]
                self._say(f"W&B: {type(error).__name__}: {first_line}; the search goes on, and nothing is lost")
            self._told = True
            with contextlib.suppress(Exception):
                self._writer.start_over()
            self._away_until = time.monotonic() + RETRY_SECONDS
            return False
        return True

    def _update(self, trial: StudyTrial) -> None:
        if trial.number in self._sent:  # with an event before this one, as far as the study was then
            return
        self._trials[trial.number] = trial
        if trial.outcome is not None:
            self._lacking.add(trial.number)
        self._attempt(lambda: self._bring(trial))

    def _make_up_for(self, trials: Sequence[StudyTrial]) -> None:
        self._trials |= {trial.number: trial for trial in trials}
        self._unchecked += [trial for trial in trials if trial.outcome is not None]
        self._attempt(self._bring)

    def _bring(self, *trials: StudyTrial) -> None:
        """Send what W&B lacks: of *trials*, and of all that could not be sent before."""
        if self._unchecked:
            self._lacking |= {trial.number for trial in self._writer.lacking(self._unchecked)}
            self._unchecked = []
        due = self._lacking | {trial.number for trial in trials}
        # one that cannot be sent at all must not stand before the others
        for number in sorted(due, key=lambda number: (self._failures[number], number)):
            self._failures[number] += 1
            self._writer.update(self._trials[number], ended=self._ended)
            self._failures[number] = 0
            if number in self._lacking:
                self._lacking.remove(number)
                self._sent.add(number)

    def _confirm(self) -> None:
        """Ask W&B whether it has what was sent: its client does not always say when it gave up."""
        sent = [self._trials[number] for number in sorted(self._sent)]
        lacking = self._writer.confirm(sent, ended=self._ended)
        self._lacking |= {trial.number for trial in lacking}

    def _conclude(self, *, interrupted: bool) -> None:
        self._ended = not interrupted
        if self._ended:
            self._lacking |= {number for number, trial in self._trials.items() if trial.outcome is None}
        self._unpublished = True
        self._attempt(self._bring)
        self._unpublished = not self._attempt(lambda: self._publish(interrupted=interrupted))

    def _publish(self, *, interrupted: bool) -> None:
        if not interrupted:
            self._writer.publish()
        self._writer.set_sweep_state("PAUSED" if interrupted else "FINISHED")


def upload_hint(folder: Path) -> str:
    """How what is kept in a search's *folder* gets to W&B later."""
    return f"Upload it with: python search/sync_wandb.py {shlex.quote(os.fspath(folder))}"
