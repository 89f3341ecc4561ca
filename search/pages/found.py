"""What is on disk of the runs that a page is to show, and what could not be read, in words."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from search import run_folder
from search.baselines import baselines_of
from search.finalists.board import CSV_FILE as FINALISTS_FILE
from search.finalists.board import MARKDOWN_FILE as VERDICTS_FILE
from search.finalists.judging import PREDICTIONS_FILE, last_predictions
from search.finalists.rounds import FOLDER as FINALISTS_FOLDER
from search.inference_speed import Speed, read_speed
from search.portfolio import ALLOCATED
from search.record import Event, read_events
from search.study import StudyTrial, gpu_seconds_by_trial, seconds_used, trials_of
from ser_data.errors import UserError
from ser_models.trial import Baseline

_TENSORS_FILE = "model.safetensors"
_BUNDLE_FILE = "bundle.json"


@dataclass(frozen=True, eq=False)
class FoundSearch:
    """One search over one space, as its record tells it.

    Attributes:
        folder: its own
        config: its ``config.json``
        events: its record
        trials: by number
        baselines: what the family reaches without a search
    """

    folder: Path
    config: Mapping[str, Any]
    events: Sequence[Event]
    trials: Mapping[int, StudyTrial]
    baselines: Sequence[Baseline]

    @property
    def space(self) -> str:
        return str(self.config["arguments"]["space"])

    @property
    def data(self) -> Mapping[str, Any] | None:
        """What ``config.json`` says of the data, None where the search ended before they were open."""
        data: Mapping[str, Any] | None = self.config.get("data")
        return data

    @property
    def ending(self) -> str | None:
        """What ended the last sitting; None while one runs, or after a kill."""
        last = self.events[-1] if self.events else {"kind": ""}
        return str(last["reason"]) if last["kind"] == "ended" else None

    @property
    def ended(self) -> bool:
        """Whether its trials without an outcome will not go on."""
        return self.ending not in (None, "interrupted")

    def epochs_at(self) -> Iterator[tuple[float, StudyTrial, Mapping[str, Any]]]:
        """Every reported epoch with the seconds of the search until then; pauses between sittings do not count."""
        used = start = latest = 0.0
        for event in self.events:
            if event["kind"] == "sitting":
                used += latest - start
                start = event["at"]
            latest = event.get("at", latest)
            if event["kind"] == "epoch":
                yield used + latest - start, self.trials[event["number"]], event["report"]

    def gpu_seconds(self) -> dict[int, float]:
        """Seconds of each trial's epochs times the GPUs that it had; empty where no trial had one."""
        found = dict.fromkeys(self.trials, 0.0) | gpu_seconds_by_trial(self.events)
        return found if any(found.values()) else {}


@dataclass(frozen=True)
class FoundBundle:
    """The exported model of a run.

    Attributes:
        trial_id: whose it is, as its search calls it
        space: where that trial comes from
        num_bytes: of its tensors
        speed: of its inference, None where nobody measured it
    """

    trial_id: str
    space: str
    num_bytes: int
    speed: Speed | None


@dataclass(frozen=True, eq=False)
class FoundRun:
    """One run's folder: a search over one space or several.

    Attributes:
        folder: as it was named
        config: of the whole
        searches: one a space
        finalists: its finalists' board, None where there is none
        verdicts: what has to be said with it, a sentence each
        chosen: why each space was given its trials, in words, where several share a budget
        predictions: probabilities of every row of that board, one row a clip; None likewise
        bundles: the exported models
        problems: what of it could not be read
    """

    folder: Path
    config: Mapping[str, Any]
    searches: Sequence[FoundSearch]
    finalists: pd.DataFrame | None
    predictions: pd.DataFrame | None
    bundles: Sequence[FoundBundle]
    verdicts: Sequence[str] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def num_trials(self) -> int:
        return sum(len(search.trials) for search in self.searches)

    @property
    def seconds(self) -> float:
        """Wall time of all its sittings."""
        events = [event for search in self.searches for event in search.events if "at" in event]
        return seconds_used(sorted(events, key=lambda event: event["at"])) if events else 0.0


def find_run(folder: Path) -> FoundRun:
    """Read a run, as far as it can be read.

    Raises:
        UserError: the folder holds no search, or one of another version
    """
    config = run_folder.load(folder)
    problems: list[str] = []
    if (note := config.pop(run_folder.RECOVERED, None)) is not None:
        problems.append(note)
    searches = []
    for place in [folder / name for name in config["members"]] if "members" in config else [folder]:
        try:
            searches.append(_find_search(place, config if place == folder else run_folder.load(place)))
        except UserError as error:
            if place == folder:
                raise
            problems.append(str(error))
    for search in searches:
        if search.data is None:
            problems.append(f"{search.folder} never got as far as its data: there is nothing of it to show yet")
        elif not search.trials:
            problems.append(f"{search.folder} has no trial yet")
    finalists = _table(folder / FINALISTS_FILE, {"name", "role", "test_uar"}, problems)
    predictions = _predictions(folder, problems)
    if finalists is not None and predictions is None and not any(PREDICTIONS_FILE in line for line in problems):
        problems.append(
            f"{folder} has {FINALISTS_FILE} but no {FINALISTS_FOLDER}/round-*/{PREDICTIONS_FILE}: what its finalists "
            "said of each clip is gone, so there are no views of the models"
        )
    bundles = [_find_bundle(one.folder, problems) for one in searches if one.trials]
    whole = [bundle for bundle in bundles if bundle is not None]
    verdicts = _verdicts(folder) if finalists is not None else []
    chosen = _chosen(read_events(folder / run_folder.RECORD_FILE)) if "members" in config else {}
    return FoundRun(folder, config, searches, finalists, predictions, whole, verdicts, chosen, problems)


def _chosen(events: Sequence[Event]) -> dict[str, str]:
    """How often each space was chosen for which reason."""
    reasons = [(event["space"], event["reason"]) for event in events if event["kind"] == ALLOCATED]
    told: dict[str, list[str]] = {}
    for (space, reason), count in Counter(reasons).items():
        told.setdefault(space, []).append(f"{count} {reason}")
    return {space: ", ".join(counts) for space, counts in told.items()}


def _verdicts(folder: Path) -> list[str]:
    """The sentences above the table of ``finalists.md``, which is where they are kept."""
    try:
        lines = (folder / VERDICTS_FILE).read_text().splitlines()
    except OSError:
        return []
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


def _find_search(folder: Path, config: Mapping[str, Any]) -> FoundSearch:
    events = read_events(folder / run_folder.RECORD_FILE)
    try:
        trials = trials_of(events)
        seconds_used(events)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / run_folder.RECORD_FILE} does not hold together (event without {error}). Restore it from a "
            "copy; the other runs are shown."
        ) from error
    return FoundSearch(folder, config, events, trials, baselines_of(events))


def _table(path: Path, needed: set[str], problems: list[str]) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    try:
        found = pd.read_csv(path, dtype={"name": str, "speaker": str, "clip": str, "row": str})
    except (OSError, ValueError, pd.errors.ParserError) as error:
        problems.append(f"{path} cannot be read ({error}); it is left out")
        return None
    if lacking := sorted(needed - set(found.columns)):
        problems.append(f"{path} lacks the columns {', '.join(lacking)}; it is left out")
        return None
    return found


def _predictions(folder: Path, problems: list[str]) -> pd.DataFrame | None:
    """Those of the last round that was judged to its end."""
    last = last_predictions(folder)
    return _table(last, {"row", "clip", "speaker", "emotion", "predicted"}, problems) if last is not None else None


def _find_bundle(folder: Path, problems: list[str]) -> FoundBundle | None:
    best = folder / run_folder.BEST_FOLDER
    try:
        origin = json.loads((best / _BUNDLE_FILE).read_text())["provenance"]
        num_bytes = (best / _TENSORS_FILE).stat().st_size
        return FoundBundle(str(origin["trial_id"]), str(origin["space"]), num_bytes, read_speed(best))
    except FileNotFoundError:
        if best.exists():
            problems.append(f"{best} is not whole: size and speed of its model are not shown")
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{best} cannot be read ({type(error).__name__}: {error}): its model's size is not shown")
        return None
