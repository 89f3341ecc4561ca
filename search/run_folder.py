"""A search's folder: its names, its ``config.json``, and what makes two searches the same."""

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from search import provenance
from search.arguments import Arguments, encoder_names
from search.corpora import TaskData
from search.encoders import planned
from search.record import lock_file, lock_record
from search.space import Space
from ser_data.errors import UserError

FORMAT_VERSION = 1
UNBOUNDED = 1_000_000  # trials, where a time budget alone ends the search
CONFIG_FILE = "config.json"
PREVIOUS_CONFIG_FILE = ".config.json.before"
RECOVERED = "recovered"  # a note in a configuration that was read from there; never written
RECORD_FILE = "events.jsonl"
JOURNAL_FILE = "study.journal"
BEST_FOLDER = "best"
STORAGE = "storage"  # in config.json: the run's own address, where --storage was given
#: Arguments that decide what is searched: a search is only continued with the same ones.
IDENTITY = (
    "space", "split", "emotions", "sampler", "scheduler", "grace", "fix", "seed", "encoder", "pretrained", "precision",
    "cache_precision", "as_trial",
)  # fmt: skip


def write_atomically(path: Path, text: str) -> None:
    """Replace *path* with *text* in one step, so that a reader never sees half of it."""
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.write_text(text)
    unfinished.replace(path)


def default_folder(space: str) -> Path:
    return Path("runs") / f"{space}-{datetime.now():%Y%m%d-%H%M%S}"


def holds_search(folder: Path) -> bool:
    """Whether a search in *folder* got as far as its record; one that failed before (bad data) may begin anew."""
    return (folder / CONFIG_FILE).is_file() and (folder / RECORD_FILE).is_file()


def claim(folder: Path) -> FileLock:
    """Make *folder* if need be, and take the right to write in it, before anything in it is changed.

    Raises:
        UserError: another search writes there, it holds something else, or it cannot be written
    """
    if not (folder / CONFIG_FILE).is_file():
        _check_vacant(folder)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return lock_record(folder / RECORD_FILE)


def _check_vacant(folder: Path) -> None:
    ours = {CONFIG_FILE, lock_file(folder / RECORD_FILE).name}
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - ours):
        raise UserError(
            f"--out {folder} is not empty and holds no search (no {CONFIG_FILE} with {RECORD_FILE}). It takes a new or "
            "empty folder, or one of a search to go on with."
        )


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"--out {folder} cannot be written ({error.strerror}). Choose a folder you may write to."
        ) from error


def create(
    folder: Path,
    arguments: Arguments,
    space: Space,
    source: str,
    command: str,
    *,
    encoders: Sequence[Mapping[str, Any]] = (),
    storage: str | None = None,
) -> dict[str, Any]:
    """Make a new search's folder and write ``config.json``, before anything slow.

    Args:
        folder: the search's
        arguments: as given
        space: what is searched
        source: where the data come from
        command: as typed
        encoders: from :func:`search.encoder_choice.open_space`
        storage: its address, of a search with one

    Raises:
        UserError: the folder holds something else, or cannot be written
    """
    _check_vacant(folder)
    plan = {
        "family": space.family,
        "num_trials": num_trials(arguments, space.trials),
        "max_epochs": space.max_epochs,
        "grace": arguments.grace or space.grace,
        **planned(encoders),
    }
    config = new_config(arguments, command, {"source": source, "plan": plan}, storage=storage)
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        save(folder, config)
    return config


def new_config(
    arguments: Arguments, command: str, own: Mapping[str, Any], *, storage: str | None = None
) -> dict[str, Any]:
    """``config.json`` of a search that begins now.

    Args:
        arguments: as given
        command: as typed
        own: what it says of its plan and data
        storage: its address, of a search with one
    """
    return {
        "format": FORMAT_VERSION,
        "search_id": secrets.token_hex(4),
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command,
        "arguments": plain(arguments),
        **({STORAGE: storage} if storage is not None else {}),
        **own,
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
    }


def num_trials(arguments: Arguments, default: int) -> int:
    """``--trials``; without it *default*, or as many as another budget allows where one was given."""
    if arguments.trials is not None:
        return arguments.trials
    return default if arguments.time_budget is None and arguments.gpu_hours is None else UNBOUNDED


def save(folder: Path, config: Mapping[str, Any]) -> None:
    """Write ``config.json``, and keep what it was: the only state that the record does not hold."""
    path, text = folder / CONFIG_FILE, json.dumps(config, indent=2) + "\n"
    with contextlib.suppress(OSError, ValueError):
        before = path.read_text()
        if before != text and isinstance(json.loads(before), dict):
            write_atomically(folder / PREVIOUS_CONFIG_FILE, before)
    write_atomically(path, text)


def load(folder: Path) -> dict[str, Any]:
    """``config.json`` of the search in *folder*; where it is damaged, what it was before its last change.

    Raises:
        UserError: there is none, it is damaged and so is the one before, or another version wrote it
    """
    path = folder / CONFIG_FILE
    try:
        config = _parsed(path)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{folder} holds no search: it has no {CONFIG_FILE}. Name the folder that the search printed as results."
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    except ValueError as error:
        try:
            config = _parsed(folder / PREVIOUS_CONFIG_FILE)
        except (OSError, ValueError):
            raise UserError(f"{path} is damaged ({error}). Restore it from a copy, or start a new search.") from error
        config[RECOVERED] = f"{path} was damaged ({error}): what it was before its last change is used"
    if config.get("format") != FORMAT_VERSION:
        raise UserError(
            f"{path} has format {config.get('format')!r}; this version reads format {FORMAT_VERSION}. Resume it with "
            f"the version that wrote it (commit {config.get('commit', 'unknown')}), or start a new search."
        )
    lacking = [name for name in ("search_id", "arguments", "plan", "commit") if name not in config]
    if lacking:
        raise UserError(
            f"{path} is damaged (it lacks {', '.join(lacking)}). Restore it from a copy, or start a new search."
        )
    return config


def _parsed(path: Path) -> dict[str, Any]:
    config = json.loads(path.read_text())
    if not isinstance(config, dict):
        raise ValueError("no JSON object")
    return config


def stored_arguments(config: Mapping[str, Any]) -> Arguments:
    """The arguments a search was started with; those that came into being later have their defaults.

    ``--force`` holds for the command that it was given with, and for none after.

    Raises:
        UserError: a version wrote them that has others
    """
    values = {**config["arguments"], "force": False}
    unknown = sorted(values.keys() - {field.name for field in dataclasses.fields(Arguments)})
    if unknown:
        raise UserError(
            f"{CONFIG_FILE} of search {config['search_id']} has options that this version does not know: "
            f"{', '.join(unknown)}. Resume it with the version that wrote it (commit {config['commit']}), or start a "
            "new search."
        )
    for name in ("out", "resume", "cache_dir"):
        if values[name] is not None:
            values[name] = Path(values[name])
    if values["emotions"] is not None:
        values["emotions"] = tuple(values["emotions"])
    return Arguments(**values)


def check_same_search(folder: Path, stored: Arguments, given: Arguments) -> None:
    """Refuse to go on in a folder that holds another search.

    Raises:
        UserError: with every difference
    """
    differences = [
        f"{name} {getattr(stored, name)!r} there, {getattr(given, name)!r} now"
        for name in IDENTITY
        if _identity(stored, name) != _identity(given, name)
    ]
    if differences:
        raise UserError(
            f"--out {folder} holds another search ({'; '.join(differences)}). Choose another --out, or go on with "
            f"that one: --resume {folder}"
        )


def _identity(arguments: Arguments, name: str) -> object:
    """What two searches must have in common: of several encoders the set, since a search keeps its own order."""
    value = getattr(arguments, name)
    return set(encoder_names(value)) if name == "encoder" and value is not None else value


def describe_data(data: TaskData) -> dict[str, Any]:
    """What ``config.json`` says of the data; clips and actors are those with one of the search's emotions."""
    labels = data.corpus.labels(data.emotions)
    parts = {part: data.split.indices(part) for part in ("train", "validation", "test")}
    used = {part: clips[labels[clips] >= 0] for part, clips in parts.items()}
    return {
        "corpus": data.corpus.name,
        "prepared": os.fspath(data.corpus.folder),
        "manifest_hash": data.corpus.manifest_hash,
        "generated": data.corpus.generated,
        "emotions": list(data.emotions),
        "split": data.split.name,
        "leaky": data.split.leaky,
        "notes": list(data.notes),
        "clips": {part: len(clips) for part, clips in used.items()},
        "actors": {part: len(np.unique(data.split.clip_actors[clips])) for part, clips in used.items()},
        "val_speakers": list(data.val_speakers),
        "val_totals": data.val_totals.tolist(),
    }


def check_same_data(folder: Path, stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Refuse to go on with other data than a search began with.

    Raises:
        UserError: with what differs
    """
    if stored is None:
        return
    for key in ("manifest_hash", "split", "emotions", "val_totals"):
        if stored[key] != now[key]:
            raise UserError(
                f"{folder} was searched on other data: {key} was {stored[key]}, now it is {now[key]}. Scores on "
                "different data cannot share a board: give the original data, or start a new search."
            )


def plain(arguments: Arguments) -> dict[str, Any]:
    """The arguments as values that JSON takes; :func:`stored_arguments` reads them back."""
    values = dataclasses.asdict(arguments)
    return {name: os.fspath(value) if isinstance(value, Path) else value for name, value in values.items()}
