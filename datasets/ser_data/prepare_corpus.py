"""Decoding, checking and packing the clips of a corpus in parallel; what CREMA-D and tables have in common."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser_data.corpus import Corpus, is_prepared, open_corpus, read_header
from ser_data.errors import UserError
from ser_data.left_out import nothing_left
from ser_data.prepared_folder import Identity, PreparedFolderWriter, locked
from ser_data.waveforms import to_int16

_AHEAD = 16  # clips decoded ahead per thread; bounds the memory


@dataclass(frozen=True)
class FoundClip:
    """One clip before it is decoded.

    Attributes:
        row: the manifest's columns that a name or a table tells; ``clip`` at least
        files: files that hold the clip, the preferred one first; the others stand in for one that cannot be used
        excluded: reason known already, in which case no file is opened
    """

    row: dict[str, object]
    files: tuple[str, ...]
    excluded: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that differs between kinds of corpora.

    Attributes:
        source: what the user gave
        found: the clips, in the order of the manifest
        open_file: from a name in `FoundClip.files` to what `read_clip` takes
        conflicts: reasons, by row, for clips that contradict each other; called with all rows
        identify: what the corpus is, from the finished rows; may raise `UserError`
        advice: the next step for a user of whose clips none is left
        remarks: what else the user should know, from the finished rows; kept in ``corpus.json``
    """

    source: Path
    found: Sequence[FoundClip]
    open_file: Callable[[str], Path | bytes]
    conflicts: Callable[[pd.DataFrame], dict[int, str]]
    identify: Callable[[pd.DataFrame], Identity]
    advice: str
    remarks: Callable[[pd.DataFrame], list[str]]


@dataclass(frozen=True)
class PackedClip:
    """One clip after decoding: the file used, seconds, checksum, reason or "", and 16 kHz int16 samples if kept."""

    file: str
    duration: float
    sha256: str
    excluded: str
    samples: NDArray[np.int16] | None


def prepare_planned(
    make_plan: Callable[[], Plan], out: Path, *, fingerprint: str, jobs: int | None, progress: bool
) -> Corpus:
    """Prepare a corpus into *out*, or open the one that is there if it was made from the same source listing.

    Args:
        make_plan: called only if there is work to do
        out: folder to write to; other files in it are left alone
        fingerprint: of the source listing
        jobs: threads, default one per core. Decoding, resampling and hashing release Python's lock, and threads need
            neither a second interpreter's memory nor an importable ``__main__``
        progress: show a progress bar on stderr

    Raises:
        UserError: if nothing is left, the disk is full, or *out* cannot be written
    """
    if jobs is not None and jobs < 1:
        raise UserError(f"--jobs {jobs} is not possible. Give 1 or more, or leave it out for one per core.")
    with locked(out):
        if is_current(out, fingerprint):
            return open_corpus(out)
        plan = make_plan()
        num_clips = len(plan.found)
        with PreparedFolderWriter(out, num_clips=num_clips) as writer, _progress(progress, num_clips) as step:
            rows = []
            for found, packed in zip(plan.found, _pack_all(plan, jobs or _num_cores()), strict=True):
                rows.append(_row(found, packed, offset=writer.append(packed.samples)))
                step()
            for index, reason in plan.conflicts(pd.DataFrame(rows)).items():
                rows[index].update(excluded=reason, offset=0, num_samples=0)
            manifest = pd.DataFrame(rows)
            if not (manifest["excluded"] == "").any():
                raise nothing_left(manifest, plan.source, plan.advice)
            identity = plan.identify(manifest)
            writer.finish(manifest, identity, source=plan.source, fingerprint=fingerprint, notes=plan.remarks(manifest))
        return open_corpus(out)


def is_current(out: Path, fingerprint: str) -> bool:
    """Whether *out* holds a finished corpus made from a source listing of this fingerprint."""
    if not is_prepared(out):
        return False
    try:
        if read_header(out).get("source_fingerprint") != fingerprint:
            return False
        open_corpus(out)  # also refuses one that lost a file or was edited; it is then made anew
    except UserError:
        return False
    return True


def pack_clip(files: Iterable[str], open_file: Callable[[str], Path | bytes]) -> PackedClip:
    """Decode, check, hash and resample one clip from the first of *files* that can be used.

    Where none can, the result carries the first one's reason.
    """
    from ser_data.audio_files import ClipError, audio_sha256, read_clip, refuse_unusable, to_16k

    first: PackedClip | None = None
    for file in files:
        duration, checksum = 0.0, ""
        try:
            try:
                audio = open_file(file)
            except OSError as error:
                raise ClipError(f"unreadable: {error.strerror or error}") from error
            samples, rate = read_clip(audio)
            duration, checksum = round(len(samples) / rate, 4), audio_sha256(samples, rate)
            refuse_unusable(samples, rate)
            return PackedClip(file, duration, checksum, "", to_int16(to_16k(samples, rate)))
        except ClipError as error:
            first = first or PackedClip(file, duration, checksum, str(error), None)
    if first is None:
        raise ValueError("a clip without files has to be excluded beforehand")
    return first


def _row(found: FoundClip, packed: PackedClip, *, offset: int) -> dict[str, object]:
    # A file name may hold bytes that are no text, for which a CSV has no room.
    named = {
        name: value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        for name, value in {**found.row, "file": packed.file}.items()
    }
    return {
        **named,
        "duration": packed.duration,
        "sha256": packed.sha256,
        "excluded": packed.excluded,
        "offset": offset,
        "num_samples": 0 if packed.samples is None else len(packed.samples),
    }


def _pack_all(plan: Plan, jobs: int) -> Iterator[PackedClip]:
    """Results in the order of ``plan.found``, so that neither jobs nor timing change a byte of the output."""
    waiting: deque[Future[PackedClip]] = deque()
    with ThreadPoolExecutor(jobs, thread_name_prefix="prepare") as pool:
        try:
            for found in plan.found:
                waiting.append(pool.submit(_pack_found, found, plan.open_file))
                if len(waiting) >= jobs * _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C or a full disk, do not decode the rest


def _pack_found(found: FoundClip, open_file: Callable[[str], Path | bytes]) -> PackedClip:
    if found.excluded:
        return PackedClip(found.files[0], 0.0, "", found.excluded, None)
    return pack_clip(found.files, open_file)


@contextmanager
def _progress(show: bool, num_clips: int) -> Iterator[Callable[[], None]]:
    if not show:
        yield lambda: None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("preparing clips"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=num_clips)
        yield lambda: bar.advance(task)


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # what this process may use, not what the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
