"""Bringing W&B up to date with a search's record, one call after the other: the sweep, its runs, its results.

Every call compares what the record has with what W&B has and sends the difference, so that a first sending, a resume
and a late upload are the same code. The calls wait for W&B and raise what it raises;
:mod:`search.tracking.tracker` keeps both from the search.
"""

import contextlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from search.run_folder import write_atomically
from search.study import StudyTrial
from search.tracking.results import RESULTS_TYPE, log_results, results_digest
from search.tracking.runs import exit_code_of, final_tags, logged_epochs, run_id, run_settings, summary_of
from search.tracking.sweep import (
    SweepState,
    create_sweep,
    describe_sweep,
    set_sweep_state,
    stored_space,
    sweep_parameters,
    sweep_state,
)

FOLDER = "wandb"
SENT_FILE = "sent.txt"  # ids of trials whose offline runs are whole, a line each
SWEEPS_FILE = "sweeps.json"  # by destination: the sweep that the search is there
START_SECONDS, FINISH_SECONDS = 30.0, 20.0  # that a run may take to begin, and to end
_ARTIFACT_SECONDS = 600.0  # that the results may take: a bundle can be large
_LAGS = (0.0, 1.0, 3.0)  # seconds before W&B is asked again what it has: it answers before it has stored


@dataclass(frozen=True)
class RemoteRun:
    """What W&B has of a run.

    Attributes:
        lines: of its history
        tags: its own
        sweep: id of the sweep that it belongs to, None where it belongs to none
    """

    lines: int
    tags: frozenset[str]
    sweep: str | None


class WandbWriter:
    """One search in W&B, or in its offline runs."""

    def __init__(
        self, run_folder: Path, config: Mapping[str, Any], *, mode: str, project: str, entity: str | None
    ) -> None:
        """Nothing is sent yet.

        Args:
            run_folder: the search's; what W&B's client keeps is under ``wandb/`` in it
            config: the search's ``config.json``
            mode: ``online`` or ``offline``
            project: W&B project
            entity: W&B team or user; None for the key's own
        """
        self._folder = run_folder
        self._config = config
        self._mode = mode
        self._project = project
        self._entity = entity
        self._runs: dict[int, Any] = {}
        self._next_steps: dict[int, int] = {}
        self._sweep: str | None = None
        self._is_open = False

    @property
    def online(self) -> bool:
        return self._mode == "online"

    @property
    def sweep_url(self) -> str:
        """Where the sweep is looked at; empty offline."""
        if self._sweep is None:
            return ""
        import wandb

        return f"{wandb.setup().settings.app_url}/{self._entity}/{self._project}/sweeps/{self._sweep}"

    def open(self) -> None:
        """Make the search's sweep, or find the one that it is already. Again and again does no harm."""
        if self._is_open:
            return
        if self.online:
            import wandb

            self._entity = self._entity or wandb.Api().default_entity
            if "members" not in self._config:  # a search over several spaces is a sweep for each
                self._sweep = self._find_sweep() or self._create_sweep()
                self.set_sweep_state("RUNNING")
        self._is_open = True

    def _find_sweep(self) -> str | None:
        found = [self._sweeps().get(self._destination), *(run.sweep for run in self._remote().values())]
        # one that somebody deleted is no sweep any more
        return next((name for name in found if name and sweep_state(name, **self._where) is not None), None)

    def _create_sweep(self) -> str:
        described = describe_sweep(self._folder.name, self._config, sweep_parameters(stored_space(self._config)))
        prior = [name for name in self._remote() if not name.endswith(RESULTS_TYPE)]
        sweep = create_sweep(described, **self._where, prior_runs=prior)
        self._own_folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._own_folder / SWEEPS_FILE, json.dumps({**self._sweeps(), self._destination: sweep}))
        return sweep

    def set_sweep_state(self, state: SweepState) -> None:
        """Say whether the search runs, may go on, or is over; offline there is nothing to say it to."""
        if self._sweep is not None:
            set_sweep_state(self._sweep, state, **self._where)

    def update(self, trial: StudyTrial, *, ended: bool = False) -> None:
        """Send what W&B lacks of a trial, and end its run when the trial has ended.

        Args:
            trial: one of the study's; another thread may add epochs to it
            ended: whether the search ended for good, so that no trial goes on
        """
        is_over = trial.outcome is not None or ended  # before the epochs: those of one that is over are all there
        run = self._runs.get(trial.number) or self._start(trial)
        for step, values in logged_epochs(trial, first=self._next_steps[trial.number]):
            run.log(values, step=step, commit=True)
            self._next_steps[trial.number] = step + 1
        if is_over:
            self._finish(trial, ended=ended)

    def _start(self, trial: StudyTrial) -> Any:
        self.open()
        run = self._init(**run_settings(trial, self._config, self._folder))
        self._runs[trial.number] = run
        self._next_steps[trial.number] = run.starting_step  # after what W&B has of it already
        return run

    def _finish(self, trial: StudyTrial, *, ended: bool) -> None:
        run = self._runs.pop(trial.number)
        run.summary.update(summary_of(trial, ended=ended))
        tags = run_settings(trial, self._config, self._folder)["tags"]
        run.tags = (*tags, *final_tags(trial, self._config, ended=ended))
        run.finish(exit_code=exit_code_of(trial, ended=ended))
        if not self.online and trial.outcome is not None:
            self._own_folder.mkdir(parents=True, exist_ok=True)
            with (self._own_folder / SENT_FILE).open("a") as file:
                file.write(f"{trial.trial_id}\n")

    def interrupt(self, trials: Mapping[int, StudyTrial]) -> None:
        """End the runs that are open: their trials were cut off with the sitting, and may go on in another."""
        for number in list(self._runs):
            with contextlib.suppress(Exception):  # the next sitting sends what this one could not
                self._finish(trials[number], ended=False)

    def start_over(self) -> None:
        """After a failure: let go of all runs, and of the client's service with what it still tries to send.

        The service goes on holding the id of a run that it could not begin, and would refuse it later. What is lost
        with it is sent again from the record.
        """
        import wandb

        self._runs.clear()
        self._is_open = False
        wandb.teardown(exit_code=255)

    def lacking(self, trials: Iterable[StudyTrial], *, ended: bool = False) -> list[StudyTrial]:
        """Those of *trials* with something to show that W&B, or the offline folder, does not have whole.

        Args:
            trials: of the study
            ended: whether the search ended for good, so that no trial goes on
        """
        shown = [trial for trial in trials if trial.outcome is not None or trial.epochs]
        if not self.online:
            path = self._own_folder / SENT_FILE
            sent = set(path.read_text().splitlines()) if path.exists() else set()
            return [trial for trial in shown if trial.trial_id not in sent]
        self.open()
        remote = self._remote()
        return [trial for trial in shown if not self._is_whole(trial, remote, ended=ended)]

    def _is_whole(self, trial: StudyTrial, remote: Mapping[str, RemoteRun], *, ended: bool) -> bool:
        found = remote.get(run_id(self._config, trial))
        tags = final_tags(trial, self._config, ended=ended)
        return found is not None and found.lines >= len(trial.epochs) and found.tags.issuperset(tags)

    def confirm(self, trials: Iterable[StudyTrial], *, ended: bool = False) -> list[StudyTrial]:
        """As :meth:`lacking`, of trials that were just sent: W&B is given a few seconds to have stored them."""
        lacking = list(trials)
        for seconds in _LAGS if self.online else (0.0,):
            if lacking:
                time.sleep(seconds)
                lacking = self.lacking(lacking, ended=ended)
        return lacking

    def publish(self) -> bool:
        """Send board, finalists and bundle as they are in the folder; gives False where W&B has these already."""
        self.open()
        digest = f"results-{results_digest(self._folder)}"
        name = f"{self._config['search_id']}-{RESULTS_TYPE}"
        if self.online and digest in self._remote().get(name, RemoteRun(0, frozenset(), None)).tags:
            return False
        run = self._init(
            sweep=False, finish_seconds=_ARTIFACT_SECONDS, id=name, name=f"{self._folder.name}-{RESULTS_TYPE}",
            group=self._config["search_id"], job_type=RESULTS_TYPE, config={"commit": self._config["commit"]},
        )  # fmt: skip
        try:
            log_results(run, self._folder, self._config)
            run.tags = (digest,)
        finally:
            run.finish()
        return True

    @property
    def _own_folder(self) -> Path:
        return self._folder / FOLDER

    @property
    def _where(self) -> dict[str, Any]:
        return {"project": self._project, "entity": self._entity}

    @property
    def _destination(self) -> str:
        import wandb

        return f"{wandb.setup().settings.base_url}/{self._entity}/{self._project}"

    def _sweeps(self) -> dict[str, str]:
        try:
            return dict(json.loads((self._own_folder / SWEEPS_FILE).read_text()))
        except (OSError, ValueError):  # none yet, or torn: runs that are there know their sweep
            return {}

    def _remote(self) -> dict[str, RemoteRun]:
        """What W&B has of the search, by the id of the run."""
        import wandb

        found = wandb.Api().runs(
            f"{self._entity}/{self._project}", filters={"group": self._config["search_id"]}, per_page=500
        )
        try:
            return {
                run.id: RemoteRun(int(run.history_line_count or 0), frozenset(run.tags or ()), run.sweep_name)
                for run in found
            }
        except ValueError as error:
            if "Could not find project" in str(error):  # it comes into being with its first sweep or run
                return {}
            raise

    def _init(self, *, sweep: bool = True, finish_seconds: float = FINISH_SECONDS, **settings: Any) -> Any:
        import wandb

        if not self.online:
            self._remove_offline(settings["id"])
        return wandb.init(
            project=self._project,
            entity=self._entity,
            dir=str(self._folder),
            mode=cast(Literal["online", "offline"], self._mode),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                sweep_id=self._sweep if sweep else None,
                silent=True,
                console="off",
                host="search",  # a run folder can be published: no host name, no packages, no code
                x_disable_stats=True,
                x_disable_meta=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                init_timeout=START_SECONDS,
                finish_timeout=finish_seconds,
                finish_timeout_raises=True,
            ),
            **settings,
        )

    def _remove_offline(self, name: str) -> None:
        """An offline run cannot be gone on with: it is written whole again, and the one before is in the way."""
        for folder in self._own_folder.glob(f"offline-run-*-{name}"):
            shutil.rmtree(folder, ignore_errors=True)
