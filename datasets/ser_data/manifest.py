"""The manifest: one row per clip that was found, with its labels, its checksum and, where it is left out, the reason.

Columns, in this order:

========================= ======= =============================================================================
clip                      str     name of the clip, unique
file                      str     where it was read, relative to the source (or as a table gave it)
actor                     str     speaker
sentence, level           str     what is said and how strongly; "" where a corpus has no such thing
emotion                   str     spelled out, e.g. ``anger``; "" where the name does not tell
duration                  float   seconds, of the decoded file; 0 where it could not be decoded
sha256                    str     of the decoded mono samples at the file's own rate; "" where it could not be decoded
excluded                  str     "" for a clip that is used, else the reason, as ``kind: detail``
sex, age, race, ethnicity         of the speaker; only where a table tells (age in years)
voice_vote, face_vote,    str     the crowd's emotion by voice, by face, by both; a tie as ``anger:disgust``
multimodal_vote
voice_level, face_level,  float   mean strength, 0 to 100, that the crowd gave to the voted emotion
multimodal_level
split                     str     only where a table brings a split of its own
offset, num_samples       int     where the clip lies in ``waveforms.i16``, in samples; 0, 0 where excluded
========================= ======= =============================================================================
"""

import hashlib
import io
from pathlib import Path

import pandas as pd

from ser_data.errors import UserError

REQUIRED_COLUMNS = ("clip", "file", "actor", "sentence", "emotion", "level", "duration", "sha256", "excluded")
CROWD_COLUMNS = ("voice_vote", "voice_level", "face_vote", "face_level", "multimodal_vote", "multimodal_level")
OPTIONAL_COLUMNS = ("sex", "age", "race", "ethnicity", *CROWD_COLUMNS, "split")
LAYOUT_COLUMNS = ("offset", "num_samples")
COLUMNS = (*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS, *LAYOUT_COLUMNS)

_NUMBERS = {"duration": "float64", "voice_level": "float64", "face_level": "float64", "multimodal_level": "float64"}
_WHOLE_NUMBERS = {"offset": "int64", "num_samples": "int64", "age": "Int64"}
_UNHASHED = ["file"]  # a path says nothing about the content, and would make the hash differ between machines


def normalised(rows: pd.DataFrame) -> pd.DataFrame:
    """*rows* with the manifest's column order and types; unknown columns are an error of ours, not the user's."""
    unknown = set(rows.columns) - set(COLUMNS)
    missing = {*REQUIRED_COLUMNS, *LAYOUT_COLUMNS} - set(rows.columns)
    if unknown or missing:
        raise ValueError(f"manifest columns: unknown {sorted(unknown)}, missing {sorted(missing)}")
    ordered = rows[[name for name in COLUMNS if name in rows.columns]].reset_index(drop=True)
    types = {name: _NUMBERS.get(name) or _WHOLE_NUMBERS.get(name) or "str" for name in ordered.columns}
    return ordered.astype(types)


def to_bytes(manifest: pd.DataFrame) -> bytes:
    """The manifest as the bytes of its CSV file."""
    return manifest.to_csv(index=False, lineterminator="\n").encode()


def from_bytes(data: bytes, path: Path) -> pd.DataFrame:
    """Read what `to_bytes` wrote.

    Args:
        data: content of the CSV file
        path: where it came from, for the message

    Raises:
        UserError: if columns are missing or a number is none
    """
    try:
        # Text stays text ("NA", "XX", "1001"): only the numeric columns may have missing values.
        text = pd.read_csv(io.BytesIO(data), dtype="str", keep_default_na=False, na_filter=False)
        numeric = [name for name in (*_NUMBERS, *_WHOLE_NUMBERS) if name in text.columns]
        text[numeric] = text[numeric].apply(pd.to_numeric)
        return normalised(text)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{path} is not a manifest that this version can read ({error}). Prepare the corpus again."
        ) from error


def manifest_hash(manifest: pd.DataFrame) -> str:
    """sha256 of everything in the manifest that is not a path: clips, labels, checksums, reasons, layout.

    Two copies of one corpus, in different folders or in different lossless formats, have the same hash.
    """
    return hashlib.sha256(to_bytes(manifest.drop(columns=_UNHASHED))).hexdigest()


def reason_kind(reason: str) -> str:
    """The part of a reason before its detail.

    >>> reason_kind("too short: 0.120 s, at least 0.3 s are needed")
    'too short'
    """
    return reason.partition(":")[0]
