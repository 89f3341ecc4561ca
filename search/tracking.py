"""Weights & Biases: one run per trial with its configuration and every epoch, grouped by search.

The driver alone talks to W&B, on a thread of its own fed by a queue, so that neither a trial nor the search waits for
a network, and no key reaches a worker. W&B is a view: when it cannot be reached the search goes on.
"""

import contextlib
import netrc
import os
import queue
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlparse

from search.encoders import ENCODER, encoder_of
from search.record import Event
from search.result_keys import EPOCH, HITS, SCORE
from search.study import StudyTrial
from ser_data.errors import UserError

CLOSE_SECONDS = 60.0
SENT_FILE = "sent.txt"  # ids of trials whose runs are complete, a line each
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
            "choose --wandb offline and upload with `wandb sync` later."
        )
    if asked is not None:
        return asked, ""
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("offline", "disabled"):
        return mode, f"W&B: {mode} (WANDB_MODE)"
    if has_key:
        return "online", "W&B: online"
    return "offline", "W&B: offline, no key found (`wandb login` and --wandb online upload runs as they happen)"


def _key_in_netrc() -> bool:
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        return netrc.netrc(str(path)).authenticators(host) is not None
    return False


class Tracker:
    """Sends what the record says of each trial to its W&B run. Use as a context manager around the search."""

    def __init__(
        self,
        run_folder: Path,
        config: Mapping[str, Any],
        *,
        mode: str,
        project: str,
        entity: str | None,
        say: Callable[[str], None],
    ) -> None:
        """Log to runs called ``<search id>-<trial id>``.

        Args:
            run_folder: the search's; offline runs are kept under ``wandb/`` in it
            config: the search's ``config.json``
            mode: ``online``, ``offline`` or ``disabled``
            project: W&B project
            entity: W&B team or user; None for the key's own
            say: prints one line to the user
        """
        self._folder = run_folder
        self._config = config
        self._mode = mode
        self._project = project
        self._entity = entity
        self._say = say
        self._queue: queue.Queue[tuple[StudyTrial, Event] | None] = queue.Queue()
        self._runs: dict[int, Any] = {}
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)

    def __enter__(self) -> "Tracker":
        if self._mode != "disabled":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._mode != "disabled":
            self._queue.put(None)
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                self._say("W&B: not everything could be sent; the record and the board have it all")

    def on_event(self, trial: StudyTrial, event: Event) -> None:
        """A study's listener."""
        if self._mode != "disabled" and event["kind"] != "suggested":
            self._queue.put((trial, event))

    def make_up_for(self, trials: Iterable[StudyTrial]) -> None:
        """Send finished trials whose runs are not complete: the driver was killed before, or sent nothing then."""
        if self._mode == "disabled":
            return
        path = self._sent_file()
        sent = set(path.read_text().splitlines()) if path.exists() else set()
        for trial in trials:
            if trial.outcome is not None and trial.trial_id not in sent:
                self._queue.put((trial, {"kind": "ended before"}))

    def _sent_file(self) -> Path:
        return self._folder / "wandb" / SENT_FILE

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failed:
                continue
            trial, event = item
            try:
                self._send(trial, event)
            # whatever W&B or its service raises must not reach the search; it is said once
            except Exception as error:
                self._failed = True
                first_line = str(error).partition("\n")[0]
                self._say(f"W&B: stopped after {type(error).__name__}: {first_line}; the search goes on")
        for number in list(self._runs):
            with contextlib.suppress(Exception):
                self._runs.pop(number).finish(exit_code=255)

    def _send(self, trial: StudyTrial, event: Event) -> None:
        is_epoch = event["kind"] == "epoch"
        run = self._runs.get(trial.number)
        if run is None:
            run = self._start(trial)
            # a trial that an earlier sitting began: offline runs of one id replace each other, so each holds it all
            for report in trial.epochs[: event["report"][EPOCH] - 1] if is_epoch else trial.epochs:
                _log(run, report)
        if is_epoch:
            _log(run, event["report"])
            return
        best = trial.best_epoch
        run.summary.update(
            {"status": trial.outcome, "reason": trial.reason, **({f"best_{SCORE}": best[SCORE]} if best else {})}
        )
        run.finish(exit_code=1 if trial.outcome == "failed" else 0)
        del self._runs[trial.number]
        self._sent_file().parent.mkdir(parents=True, exist_ok=True)
        with self._sent_file().open("a") as file:
            file.write(f"{trial.trial_id}\n")

    def _start(self, trial: StudyTrial) -> Any:
        import wandb

        search_id, data, plan = self._config["search_id"], self._config["data"], self._config["plan"]
        encoder = encoder_of(plan, trial.config.get(ENCODER))
        marks = ["generated-speech"] if data["generated"] else []
        marks += ["random-weights"] if encoder and not encoder["pretrained"] else []
        run = wandb.init(
            project=self._project,
            entity=self._entity,
            id=f"{search_id}-{trial.trial_id}",
            name=f"{self._folder.name}-{trial.trial_id}",
            group=search_id,
            job_type=self._config["arguments"]["space"],
            tags=[plan["family"], data["split"], *marks],
            config={
                **trial.config,
                **{key: self._config["arguments"][key] for key in ("space", "seed", "sampler", "scheduler")},
                "split": data["split"],
                "leaky": data["leaky"],
                "manifest_hash": data["manifest_hash"],
                "commit": self._config["commit"],
                **({"encoder": encoder["label"]} if encoder else {}),
            },
            dir=str(self._folder),
            mode=cast(Literal["online", "offline"], self._mode),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, init_timeout=30),
        )
        self._runs[trial.number] = run
        return run


def _log(run: Any, report: Mapping[str, Any]) -> None:
    run.log({key: value for key, value in report.items() if key not in (EPOCH, HITS)}, step=report[EPOCH])
