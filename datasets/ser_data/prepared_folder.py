"""Writing a prepared folder so that it is either complete or not there: lock, temporary names, renames."""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from ser_data import corpus
from ser_data.errors import UserError
from ser_data.manifest import manifest_hash, normalised, reason_kind, to_bytes
from ser_data.waveforms import SAMPLE_RATE

LOCK_FILE = ".prepare.lock"
_PARTIAL = ".partial"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Identity:
    """What a corpus is, apart from its clips; see `ser_data.corpus.Corpus`."""

    name: str
    kind: str
    generated: bool
    emotions: tuple[str, ...]
    default_split: str


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold *out* for one preparation; it is made if missing and removed again if the preparation leaves it empty.

    Raises:
        UserError: if *out* is a file, or may not be written
    """
    made = not os.path.exists(out)
    lock = FileLock(out / LOCK_FILE)
    try:
        out.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting: another process is preparing {out}", file=sys.stderr)
            lock.acquire()
            out.mkdir(exist_ok=True)  # the other one may have failed and tidied up
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"{out} is a file. Give a folder, new or existing, with --out.") from error
    except OSError as error:
        raise _unwritable(out, error) from error
    try:
        yield
    finally:
        lock.release()
        if made and {path.name for path in out.iterdir()} <= {LOCK_FILE}:
            shutil.rmtree(out, ignore_errors=True)


class PreparedFolderWriter:
    """Collects packed samples under a temporary name; `finish` puts the three files in place, ``corpus.json`` last.

    A process killed at any moment leaves a folder without ``corpus.json``, or the one that was there before.
    Use it as a context manager: leaving it without `finish` removes what was written.

    Args:
        out: existing folder
        num_clips: how many clips will be announced, for the estimate of the space needed
    """

    def __init__(self, out: Path, *, num_clips: int) -> None:
        self._out = out
        self._num_clips = num_clips
        self._clips_done = 0
        self._free_bytes = shutil.disk_usage(out).free
        self._partial = {
            name: out / (name + _PARTIAL) for name in (corpus.WAVEFORMS_FILE, corpus.MANIFEST_FILE, corpus.CORPUS_FILE)
        }
        self._samples: BinaryIO | None = None
        self.num_samples = 0

    def __enter__(self) -> "PreparedFolderWriter":
        with self._explained():
            self._samples = self._partial[corpus.WAVEFORMS_FILE].open("wb", buffering=1 << 20)
        return self

    def __exit__(self, *_: object) -> None:
        if self._samples is not None:
            with suppress(OSError):  # a full disk complains a second time when the buffer is flushed
                self._samples.close()
        for path in self._partial.values():
            path.unlink(missing_ok=True)

    def append(self, samples: NDArray[np.int16] | None) -> int:
        """Append one clip, None if it is left out; returns its offset in samples (0 if left out)."""
        self._clips_done += 1
        if samples is None:
            return 0
        offset = self.num_samples
        self.num_samples += len(samples)
        with self._explained():
            self._file.write(samples.tobytes())
        return offset

    def finish(
        self, manifest: pd.DataFrame, identity: Identity, *, source: Path, fingerprint: str, notes: list[str]
    ) -> None:
        """Write manifest and header, and give the three files their names."""
        manifest = normalised(manifest)
        content = to_bytes(manifest)
        kinds = manifest.loc[manifest["excluded"] != "", "excluded"].map(reason_kind)
        header = {
            "format_version": corpus.FORMAT_VERSION,
            **asdict(identity),
            "sample_rate": SAMPLE_RATE,
            "num_samples": self.num_samples,
            "manifest_hash": manifest_hash(manifest),
            "manifest_file_sha256": hashlib.sha256(content).hexdigest(),
            "source": str(source),
            "source_fingerprint": fingerprint,
            "counts": {
                "found": len(manifest),
                "kept": int((manifest["excluded"] == "").sum()),
                "left_out": {kind: int(count) for kind, count in kinds.value_counts(sort=False).items()},
            },
            "notes": notes,
        }
        with self._explained():
            _sync_and_close(self._file)
            for name, data in (
                (corpus.MANIFEST_FILE, content),
                (corpus.CORPUS_FILE, (json.dumps(header, indent=1) + "\n").encode()),
            ):
                file = self._partial[name].open("wb")
                file.write(data)
                _sync_and_close(file)
            # From here to the last rename the folder counts as not prepared, never as a mixture of two corpora.
            (self._out / corpus.CORPUS_FILE).unlink(missing_ok=True)
            for name, path in self._partial.items():
                path.replace(self._out / name)

    @property
    def _file(self) -> BinaryIO:
        if self._samples is None:
            raise ValueError("use PreparedFolderWriter in a with statement")
        return self._samples

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise _unwritable(self._out, error) from error
            written = self.num_samples * 2
            needed = written * self._num_clips // max(1, self._clips_done)
            raise UserError(
                f"the disk of {self._out} is full: about {needed / 1e6:.1f} MB ({needed} bytes) are needed there, "
                f"{self._free_bytes / 1e6:.1f} MB were free. Free some space, or choose a folder on another disk "
                f"(--out, or --cache-dir of a search), and run the same command again. Nothing half-written was left."
            ) from error


def _sync_and_close(file: BinaryIO) -> None:
    """Have the content on disk before the name, so that a power cut cannot leave a named but empty file."""
    with file:
        file.flush()
        os.fsync(file.fileno())


def _unwritable(out: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write to {out}: {error.strerror or error}. Give a folder that you may write to "
        f"(--out, or --cache-dir of a search)."
    )
