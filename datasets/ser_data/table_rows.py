"""Reading and checking the table of a corpus: columns, emotions, split names; no audio is opened."""

import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ser_data.errors import UserError

REQUIRED = ("file", "speaker", "emotion")
OPTIONAL = ("sex", "split", "duration")
SPLIT_NAMES = {
    "train": "train",
    "dev": "validation",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "": "",
}

_FORMAT = "Needed: file, speaker, emotion; optional: sex, split, duration; separated by commas."


def read_table_file(table: Path) -> bytes:
    """Content of the CSV file.

    Raises:
        UserError: if it is missing, a folder, or not permitted
    """
    try:
        return table.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"there is no table {table}. Give a CSV file. {_FORMAT}") from error
    except PermissionError as error:
        raise UserError(f"the table {table} cannot be read: no permission. Check with `ls -l {table}`.") from error
    except OSError as error:
        raise UserError(f"the table {table} cannot be read: {error.strerror}. Give a CSV file. {_FORMAT}") from error


def checked_rows(table: Path, content: bytes) -> list[dict[str, str]]:
    """The rows of a table, known columns only, as stripped text.

    Args:
        table: its path, for messages
        content: of the CSV file, UTF-8

    Returns:
        one dict per row with the keys of `REQUIRED` and those of `OPTIONAL` that the table has; ``split`` is ``train``,
        ``validation``, ``test`` or ""; ``sex`` is in lower case

    Raises:
        UserError: if there is no row, a column is missing, there are fewer than two emotions or one of them is written
            in two ways, a split name is unknown, or the rows are parts of files
    """
    try:
        frame = pd.read_csv(io.BytesIO(content), dtype="str", na_filter=False, encoding="utf-8-sig")
    except pd.errors.EmptyDataError as error:
        raise UserError(f"the table {table} is empty. {_FORMAT}") from error
    except ValueError as error:  # pandas' parser errors and wrong encodings
        raise UserError(f"{table} is not a CSV table in UTF-8 ({str(error).strip()}). {_FORMAT}") from error
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    missing = [name for name in REQUIRED if name not in frame.columns]
    if missing:
        raise UserError(
            f"the table {table} has no column {', '.join(missing)}; its columns: {', '.join(frame.columns)}. {_FORMAT}"
        )
    if frame.empty:
        raise UserError(f"the table {table} has no rows, only the heading. Write one row per clip.")
    _refuse_segments(table, frame)
    known = [name for name in (*REQUIRED, *OPTIONAL) if name in frame.columns]
    rows = [{name: str(row[name]).strip() for name in known} for row in frame.to_dict("records")]
    _refuse_emotions(table, sorted({row["emotion"] for row in rows} - {""}))
    for number, row in enumerate(rows, start=1):
        if "sex" in row:
            row["sex"] = row["sex"].lower()
        if "split" in row:
            row["split"] = _split_name(table, number, row["split"])
    return rows


def _refuse_segments(table: Path, frame: pd.DataFrame) -> None:
    if "start" in frame and (pd.to_numeric(frame["start"], errors="coerce") > 0).any():
        raise UserError(
            f"the table {table} lists parts of files (column start). Only whole files can be used: cut the audio into "
            f"one file per clip, and list those."
        )


def _refuse_emotions(table: Path, emotions: Sequence[str]) -> None:
    if len(emotions) < 2:
        held = f"one emotion only ({emotions[0]})" if emotions else "no emotion in any row"
        raise UserError(f"the table {table} has {held}. At least two are needed to tell apart.")
    by_case = Counter(name.casefold() for name in emotions)
    double = [name for name in emotions if by_case[name.casefold()] > 1]
    if double:
        raise UserError(f"the table {table} writes one emotion in several ways: {', '.join(double)}. Choose one.")


def _split_name(table: Path, number: int, name: str) -> str:
    if name.lower() not in SPLIT_NAMES:
        raise UserError(
            f"the table {table} has the split {name!r} in row {number}. Accepted: train, dev (or val, validation), "
            f"test, or nothing for a clip that is not to be used."
        )
    return SPLIT_NAMES[name.lower()]
