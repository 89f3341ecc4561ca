"""Named splits: one CSV file each, in a folder that belongs to a corpus.

The columns are ``actor,split`` (by actor), ``fold,actor,split`` (by actor, several folds) or ``clip,split`` (by clip).
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from ser_data.errors import UserError
from ser_data.split_checks import PARTS, some


class Assignment(NamedTuple):
    """What a split file says: the part of every actor, or of every clip."""

    key: Literal["actor", "clip"]
    part_of: dict[str, str]


def split_files(folder: Path) -> dict[str, Path]:
    """The split files of a folder by name, sorted."""
    return {path.stem: path for path in sorted(folder.glob("*.csv"))}


def fold_names(path: Path) -> tuple[str, ...]:
    """The folds of a split file as they are typed, ``emo_superb:1`` …; empty where it has none."""
    return tuple(f"{path.stem}:{fold}" for fold in _folds(_read_rows(path)))


def typed_name(path: Path) -> str:
    """What a user types for a split file: ``tfds``, or ``emo_superb:1..5`` where there are folds."""
    with path.open(encoding="utf-8") as file:
        header = file.readline()
    if "fold" not in header.strip().split(","):
        return path.stem
    folds = _folds(_read_rows(path))
    return f"{path.stem}:{folds[0]}..{folds[-1]}"


def read_assignment(name: str, path: Path) -> Assignment:
    """The rows of *path* that belong to *name*.

    Args:
        name: as typed, with its fold where the file has folds: ``tfds``, ``emo_superb:2``
        path: the split file

    Raises:
        UserError: a fold that is not there, an unreadable file, an unknown part, an actor or clip in two parts
    """
    rows = _read_rows(path)
    _, colon, fold = name.partition(":")
    folds = _folds(rows)
    if folds and fold not in folds:
        raise UserError(
            f"--split {name!r}: {path.stem} has the folds {', '.join(folds)}. Choose one, e.g. "
            f"--split {path.stem}:{folds[0]}."
        )
    if colon and not folds:
        raise UserError(f"--split {name!r}: {path.stem} has no folds. Write --split {path.stem}.")
    key: Literal["actor", "clip"] = "actor" if "actor" in rows[0] else "clip"
    part_of: dict[str, str] = {}
    twice: dict[str, str] = {}
    for row in rows:
        if folds and row["fold"] != fold:
            continue
        value, part = row[key], row["split"]
        if part not in PARTS:
            raise UserError(f"{path}: {key} {value} is in {part!r}; parts are {', '.join(PARTS)}. Mend that row.")
        if part_of.setdefault(value, part) != part:
            twice[value] = f"{value} in {part_of[value]} and {part}"
    if twice:
        raise UserError(
            f"{path} puts the same {key} into two parts: {some(tuple(twice.values()))}. Mend these rows: one part each."
        )
    return Assignment(key, part_of)


def _read_rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a split: {error}. It has to be a CSV file in UTF-8.") from error
    columns = set(rows[0]) if rows else set()
    if "split" not in columns or not columns & {"actor", "clip"}:
        raise UserError(
            f"{path} is not a split: its columns are {', '.join(sorted(map(str, columns))) or 'none'}; needed are "
            "split and either actor or clip, and fold where there are several."
        )
    return rows


def _folds(rows: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["fold"] for row in rows)) if "fold" in rows[0] else ()
