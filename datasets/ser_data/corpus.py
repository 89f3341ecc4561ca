"""A prepared corpus: a folder with ``corpus.json``, ``manifest.csv`` and ``waveforms.i16``."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser_data.errors import UserError
from ser_data.manifest import from_bytes
from ser_data.waveforms import SAMPLE_RATE, SAMPLE_TYPE, Waveforms

FORMAT_VERSION = 1  # of a prepared folder; raised when an older one can no longer be read
CORPUS_FILE = "corpus.json"  # written last: a folder without it is not finished
MANIFEST_FILE = "manifest.csv"
WAVEFORMS_FILE = "waveforms.i16"
GENERATED_MARKER = "sample_corpus.json"  # in a source folder: its speech is synthetic, and every board must say so

_PREPARE = "python -m crema_d.prepare {source} --out {out}"


@dataclass(frozen=True)
class Corpus:
    """What a search needs to know of a corpus. Open one with `open_corpus`.

    Attributes:
        folder: the prepared folder
        name: what boards call it
        kind: ``crema_d`` (CREMA-D's names and splits) or ``table`` (from a CSV)
        generated: True for synthetic speech, on which no claim of accuracy may rest
        emotions: label order
        default_split: the split to use where the user names none
        manifest: every clip found, excluded ones too; columns as in `ser_data.manifest`
        manifest_hash: sha256 of the manifest's content, the same on every machine
    """

    folder: Path
    name: str
    kind: str
    generated: bool
    emotions: tuple[str, ...]
    default_split: str
    manifest: pd.DataFrame
    manifest_hash: str

    @cached_property
    def clips(self) -> pd.DataFrame:
        """The kept rows of the manifest, indexed 0 … n-1."""
        kept = self.manifest[self.manifest["excluded"] == ""]
        return kept.reset_index(drop=True)

    @cached_property
    def waveforms(self) -> Waveforms:
        """Samples of the kept clips, indexed like `clips`."""
        offsets, lengths = (self.clips[name].to_numpy(dtype=np.int64) for name in ("offset", "num_samples"))
        return Waveforms(self.folder / WAVEFORMS_FILE, offsets, lengths)

    def labels(self, emotions: Sequence[str] | None = None) -> NDArray[np.int64]:
        """Label of each kept clip.

        Args:
            emotions: label order, all of the corpus by default

        Returns:
            int64, shape ``(num_clips,)``: index into *emotions*, -1 where a clip has another emotion

        Raises:
            UserError: if one of *emotions* is not in the corpus
        """
        order = self.emotions if emotions is None else tuple(emotions)
        unknown = [name for name in order if name not in self.emotions]
        if unknown:
            raise UserError(
                f"emotion {unknown[0]!r} is not in the corpus {self.name}. Its emotions: {', '.join(self.emotions)}."
            )
        index = {name: position for position, name in enumerate(order)}
        return np.array([index.get(name, -1) for name in self.clips["emotion"]], dtype=np.int64)


def is_prepared(folder: Path) -> bool:
    """Whether *folder* looks like a prepared corpus, finished or of another version."""
    return os.path.isfile(os.path.join(folder, CORPUS_FILE))  # False, and no exception, where it may not be looked at


def open_corpus(folder: Path) -> Corpus:
    """Open a prepared corpus; reads the manifest, maps nothing yet.

    Raises:
        UserError: if the folder is missing, not prepared, of another format version, incomplete or changed
    """
    folder = Path(folder)
    header = read_header(folder)
    advice = f"Prepare it again: {_PREPARE.format(source='SOURCE', out=folder)}."
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        num_bytes = (folder / WAVEFORMS_FILE).stat().st_size
    except FileNotFoundError as error:
        raise UserError(f"{folder} lacks {Path(error.filename).name}. {advice}") from error
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}. Check its permissions.") from error
    if hashlib.sha256(data).hexdigest() != header["manifest_file_sha256"]:
        raise UserError(f"{folder / MANIFEST_FILE} was changed after the corpus was prepared. {advice}")
    if num_bytes != header["num_samples"] * SAMPLE_TYPE.itemsize:
        expected = header["num_samples"] * SAMPLE_TYPE.itemsize
        raise UserError(f"{folder / WAVEFORMS_FILE} has {num_bytes} bytes, {expected} were written. {advice}")
    return Corpus(
        folder=folder,
        name=header["name"],
        kind=header["kind"],
        generated=header["generated"],
        emotions=tuple(header["emotions"]),
        default_split=header["default_split"],
        manifest=from_bytes(data, folder / MANIFEST_FILE),
        manifest_hash=header["manifest_hash"],
    )


def read_header(folder: Path) -> dict[str, Any]:
    """The content of ``corpus.json``.

    Raises:
        UserError: if *folder* is not a prepared corpus of this format version
    """
    prepare = _PREPARE.format(source=folder, out="DIR")
    if not os.path.exists(folder):
        raise UserError(
            f"no corpus at {folder}: there is no such folder. Prepare one: {_PREPARE}".format(
                source="SOURCE", out=folder
            )
            + "."
        )
    try:
        header: dict[str, Any] = json.loads((folder / CORPUS_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} is not a prepared corpus: it has no {CORPUS_FILE}. If it holds audio, prepare it: {prepare}."
        ) from error
    except PermissionError as error:
        raise UserError(f"{folder / CORPUS_FILE} cannot be read: no permission. Check with ls -l.") from error
    except ValueError as error:
        raise UserError(
            f"{folder / CORPUS_FILE} is damaged ({error}). Prepare the corpus again: "
            f"{_PREPARE.format(source='SOURCE', out=folder)}."
        ) from error
    if header.get("format_version") != FORMAT_VERSION or header.get("sample_rate") != SAMPLE_RATE:
        raise UserError(
            f"{folder} was prepared in format {header.get('format_version')} at {header.get('sample_rate')} Hz; this "
            f"version reads format {FORMAT_VERSION} at {SAMPLE_RATE} Hz. "
            f"Prepare it again: {_PREPARE.format(source='SOURCE', out=folder)}."
        )
    return header
