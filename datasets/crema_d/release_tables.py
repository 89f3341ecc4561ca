"""The release's own tables, joined to the clips: who the actors are, and what the crowd heard."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import pandas as pd

from crema_d.naming import VOTE_CODES
from ser_data.sources import Source

DEMOGRAPHICS = "VideoDemographics.csv"
VOTES = "summaryTable.csv"
NAMES = (DEMOGRAPHICS, VOTES)

_DEMOGRAPHICS_COLUMNS = ("ActorID", "Age", "Sex", "Race", "Ethnicity")
_VOTES_PREFIXES = {"Voice": "voice", "Face": "face", "MultiModal": "multimodal"}
_BESIDE = ("", "metadata", "processedResults")  # folders beside the audio's in which releases keep the tables


@dataclass(frozen=True)
class ReleaseTables:
    """Manifest columns by actor and by clip, and remarks on tables that are missing or cannot be used."""

    by_actor: dict[str, dict[str, object]] = field(default_factory=dict)
    by_clip: dict[str, dict[str, object]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def columns(self, actor: str, clip: str) -> dict[str, object]:
        """The columns for one clip; blank where a table does not know it, absent where there is no table."""
        return {**self._blank, **self.by_actor.get(actor, {}), **self.by_clip.get(clip, {})}

    @cached_property
    def _blank(self) -> dict[str, object]:
        examples = [row for table in (self.by_actor, self.by_clip) for row in list(table.values())[:1]]
        return {name: "" if isinstance(value, str) else None for row in examples for name, value in row.items()}


def tables_beside(root: Path) -> dict[str, Path]:
    """Tables that lie next to the audio folder or archive, where releases keep them; by table name."""
    parent = root.resolve().parent
    places = [(name, parent / folder / name) for name in NAMES for folder in _BESIDE]
    found = {}
    for name, path in places:
        if name not in found and os.path.isfile(path):
            found[name] = path
    return found


def read_release_tables(source: Source) -> ReleaseTables:
    """Find the tables anywhere in *source* or beside it, and read them. Fails on nothing: what is wrong is a note."""
    inside = {PurePosixPath(file.path).name: file.path for file in reversed(source.files)}
    beside = tables_beside(source.root)
    notes = []
    parsed: dict[str, dict[str, dict[str, object]]] = {name: {} for name in NAMES}
    parsers: dict[str, Callable[[pd.DataFrame], dict[str, dict[str, object]]]] = {
        DEMOGRAPHICS: _demographics,
        VOTES: _votes,
    }
    for name, parse in parsers.items():
        try:
            if name in inside:
                content = source.read(inside[name])
            elif name in beside:
                content = beside[name].read_bytes()
            else:
                notes.append(f"{name} is neither in {source.root} nor beside it: those columns are missing")
                continue
            parsed[name] = parse(pd.read_csv(io.BytesIO(content), dtype="str", na_filter=False, encoding="utf-8-sig"))
        except (OSError, ValueError, KeyError) as error:
            notes.append(f"{name} could not be used ({error}): those columns are missing")
    return ReleaseTables(parsed[DEMOGRAPHICS], parsed[VOTES], tuple(notes))


def _demographics(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    _require(table, _DEMOGRAPHICS_COLUMNS)
    return {
        actor: {"sex": sex.lower(), "age": int(age) if age else None, "race": race, "ethnicity": ethnicity}
        for actor, age, sex, race, ethnicity in table[list(_DEMOGRAPHICS_COLUMNS)].itertuples(index=False)
    }


def _votes(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    _require(table, ("FileName", *(prefix + part for prefix in _VOTES_PREFIXES for part in ("Vote", "Level"))))
    return {
        str(row["FileName"]): {
            name: value
            for prefix, ours in _VOTES_PREFIXES.items()
            for name, value in (
                (f"{ours}_vote", _vote(str(row[prefix + "Vote"]))),
                (f"{ours}_level", _level(str(row[prefix + "Level"]))),
            )
        }
        for row in table.to_dict("records")
    }


def _vote(codes: str) -> str:
    """``A:D`` (a tie) to ``anger:disgust``."""
    return ":".join(VOTE_CODES[code] for code in codes.split(":")) if codes else ""


def _level(levels: str) -> float | None:
    """The mean of ``37.2:58.6``, the strengths heard by the voters of each tied emotion."""
    values = [float(level) for level in levels.split(":")] if levels else []
    return sum(values) / len(values) if values else None


def _require(table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in table.columns]
    if missing:
        raise ValueError(f"it has no column {', '.join(missing)}")
