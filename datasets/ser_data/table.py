"""Any corpus by one table: ``python -m ser_data.table clips.csv --out DIR``, or ``--data clips.csv`` of a search.

The table is a CSV with the columns file, speaker, emotion and optionally sex, split, duration, one row per clip. Paths
are absolute or relative to the table's folder; the audio may be of any rate and format (WAV, FLAC, MP3, Ogg, Opus).
"""

import argparse
import os
import re
from collections import Counter
from pathlib import Path

import pandas as pd

from ser_data.command import run_command
from ser_data.corpus import Corpus
from ser_data.duplicates import contradictory_labels
from ser_data.errors import UserError
from ser_data.left_out import NothingLeftError, print_left_out, print_summary
from ser_data.prepare_corpus import FoundClip, Plan, is_current, prepare_planned
from ser_data.prepared_folder import Identity
from ser_data.sources import SourceFile, listing_fingerprint
from ser_data.table_rows import REQUIRED, checked_rows, read_table_file

DEFAULT_SPLIT = "speaker_kfold:5:1"  # where the table brings none: speaker-independent for any corpus
DURATION_TOLERANCE_SECONDS = 0.05  # tables round, encoders pad by a frame


def prepare_table(table: Path, out: Path, *, jobs: int | None = None, progress: bool = True) -> Corpus:
    """Prepare the corpus that *table* lists into *out*, or open *out* if table and audio are unchanged.

    Args:
        table: CSV file as the module describes
        out: folder for manifest and packed samples, 115 MB per hour of speech
        jobs: threads, default one per core
        progress: show a progress bar on stderr

    Raises:
        UserError: if the table is missing, empty, lacks a column, has one emotion only or an unknown split, or none
            of its clips can be used; if the disk is full
    """
    listed = _Listed(table)
    return prepare_planned(listed.plan, Path(out), fingerprint=listed.fingerprint, jobs=jobs, progress=progress)


def prepare_table_once(table: Path, cache: Path, *, jobs: int | None = None, progress: bool = True) -> Path:
    """Prepare the corpus that *table* lists into a cache, once for all searches that use it.

    Args:
        table: CSV file as the module describes
        cache: the corpus goes to ``cache/corpora/NAME-FINGERPRINT``; a changed table or audio gets a folder of its own

    Returns:
        the prepared folder

    Raises:
        UserError: as `prepare_table`
    """
    listed = _Listed(table)
    out = Path(cache) / "corpora" / f"{listed.name}-{listed.fingerprint}"
    if not is_current(out, listed.fingerprint):
        prepare_planned(listed.plan, out, fingerprint=listed.fingerprint, jobs=jobs, progress=progress)
    return out


class _Listed:
    """A table that was read and checked, its paths resolved; no audio is opened."""

    def __init__(self, table: Path) -> None:
        self.path = Path(table)
        self.folder = self.path.resolve().parent
        self.name = re.sub(r"[^\w.-]+", "_", self.path.stem)
        content = read_table_file(self.path)
        self.rows = checked_rows(self.path, content)
        # normpath and not resolve: a link into a shared store keeps the name that the table gave it.
        self.files = [
            os.path.normpath(self.folder / (row["file"] or f"row {number} without a file"))
            for number, row in enumerate(self.rows, start=1)
        ]
        self.fingerprint = listing_fingerprint(map(_listed_file, self.files), str(self.folder), content.decode())

    def plan(self) -> Plan:
        found = []
        first_rows: dict[tuple[str, ...], int] = {}
        for number, (row, path, clip) in enumerate(
            zip(self.rows, self.files, _clip_names(self.files), strict=True), start=1
        ):
            columns: dict[str, object] = {"clip": clip, "actor": row["speaker"], "sentence": "", "level": ""}
            columns |= {name: row[name] for name in ("emotion", "sex", "split") if name in row}
            empty = [name for name in REQUIRED if not row[name]]
            same = first_rows.setdefault((path, *(text for name, text in row.items() if name != "file")), number)
            excluded = ""
            if empty:
                excluded = f"incomplete row: no {' and no '.join(empty)} given"
            elif same != number:
                excluded = f"listed twice: the same as row {same} of the table"
            found.append(FoundClip(columns, (row["file"],), excluded))
        return Plan(
            source=self.path,
            found=found,
            open_file=lambda file: self.folder / file,
            conflicts=contradictory_labels,
            identify=self._identity,
            advice=f"Paths are absolute or relative to the table's folder {self.folder}.",
            remarks=self._remarks,
        )

    def _identity(self, manifest: pd.DataFrame) -> Identity:
        emotions = tuple(sorted(set(manifest.loc[manifest["excluded"] == "", "emotion"])))
        if len(emotions) < 2:
            raise UserError(
                f"{self.path}: the clips that can be used have one emotion only ({emotions[0]}), at least two are "
                f"needed. Run python -m ser_data.table {self.path} --out DIR to see what was left out."
            )
        return Identity(self.name, "table", False, emotions, "table" if "split" in self.rows[0] else DEFAULT_SPLIT)

    def _remarks(self, manifest: pd.DataFrame) -> list[str]:
        """A word on lengths that differ from the table's: it may describe other files than those on disk."""
        told = pd.to_numeric(pd.Series([row.get("duration", "") for row in self.rows]), errors="coerce")
        wrong = (manifest["excluded"] == "") & ((told - manifest["duration"]).abs() > DURATION_TOLERANCE_SECONDS)
        if not wrong.any():
            return []
        first = manifest[wrong].iloc[0]
        return [
            f"{int(wrong.sum())} clips are not as long as the table says, e.g. {first['clip']}: "
            f"{told[wrong].iloc[0]} s in the table, {first['duration']} s decoded; the decoded length counts"
        ]


def _listed_file(path: str) -> SourceFile:
    try:
        status = os.stat(path)
    except OSError:  # missing or not permitted: becomes a row with its reason when it is opened
        return SourceFile(path, -1, 0)
    return SourceFile(path, status.st_size, status.st_mtime_ns)


def _clip_names(files: list[str]) -> list[str]:
    """Unique names: paths below the folder that holds all clips, without suffix where that is enough."""
    folder = os.path.commonpath([os.path.dirname(file) for file in files])
    paths = [Path(os.path.relpath(file, folder)).as_posix() for file in files]
    stems = [os.path.splitext(path)[0] for path in paths]
    num_paths = Counter(stem for stem, _ in set(zip(stems, paths, strict=True)))
    names = [stem if num_paths[stem] == 1 else path for stem, path in zip(stems, paths, strict=True)]
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return unique


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m ser_data.table", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, metavar="TABLE", help="CSV file with one row per clip")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to (115 MB per hour of speech)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: one per core)")
    options = parser.parse_args(arguments)
    try:
        corpus = prepare_table(options.table, options.out, jobs=options.jobs)
    except NothingLeftError as error:
        print_left_out(error.manifest)
        raise
    print_summary(corpus)
    return 0


if __name__ == "__main__":
    run_command(main)
