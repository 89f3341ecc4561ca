"""What the official repository holds: its ZIP archive has every clip as a Git LFS pointer, and the tables as they are.

So one request of about 24 MB gives the list of clips with size and sha256. (The 7,442 pointers can also be had one by
one from raw.githubusercontent.com, which answers 429 after a while.)
"""

import csv
import os
import re
import zipfile
from pathlib import Path, PurePosixPath

from crema_d.fetch import Checksum

CHECKSUMS_FILE = "checksums.csv"
AUDIO_FOLDER = "AudioWAV"

_CLIP_PATH = re.compile(rf"{AUDIO_FOLDER}/[A-Za-z0-9_]+\.wav")
_KEPT_FILES = ("SentenceFilenames.csv", "VideoDemographics.csv", "processedResults/summaryTable.csv", "LICENSE.txt")
_LONGEST_POINTER_BYTES = 1024  # what Git LFS itself takes for a pointer
_POINTER = re.compile(
    r"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:(?P<sha256>[0-9a-f]{64})\nsize (?P<size>\d+)\n"
)


class ArchiveError(Exception):
    """The archive is damaged, or not the one expected; the text says what is wrong."""


def parse_pointer(data: bytes) -> Checksum | None:
    """Size and sha256 out of a Git LFS pointer; None if *data* is something else.

    >>> text = "version https://git-lfs.github.com/spec/v1\\noid sha256:" + "0" * 64 + "\\nsize 72000\\n"
    >>> parse_pointer(text.encode()).size
    72000
    """
    if len(data) > _LONGEST_POINTER_BYTES:
        return None
    match = _POINTER.fullmatch(data.decode("utf-8", errors="replace"))
    return Checksum(int(match["size"]), match["sha256"]) if match else None


def unpack_archive(archive: Path, folder: Path) -> dict[str, Checksum]:
    """Read the clips' checksums out of the repository's archive, and write its tables to *folder*.

    Args:
        archive: ZIP with one top folder
        folder: where the tables go, under the paths they have in the repository

    Returns:
        checksum by path, e.g. ``AudioWAV/1001_DFA_ANG_XX.wav``; sorted

    Raises:
        ArchiveError: no ZIP, damaged, or without clips
        OSError: a table cannot be written
    """
    checksums: dict[str, Checksum] = {}
    try:
        with zipfile.ZipFile(archive) as content:
            for entry in content.infolist():
                path = str(PurePosixPath(*PurePosixPath(entry.filename).parts[1:]))
                if path in _KEPT_FILES:
                    target = folder / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read(entry))
                elif _CLIP_PATH.fullmatch(path):
                    checksum = None if entry.file_size > _LONGEST_POINTER_BYTES else parse_pointer(content.read(entry))
                    if checksum is None:
                        raise ArchiveError(f"{path} is no Git LFS pointer; the repository has changed its form")
                    checksums[path] = checksum
    except zipfile.BadZipFile as error:
        raise ArchiveError(f"it is damaged: {error}") from error
    if not checksums:
        raise ArchiveError(f"it holds no {AUDIO_FOLDER}/*.wav")
    return dict(sorted(checksums.items()))


def write_checksums(checksums: dict[str, Checksum], path: Path) -> None:
    """Write a CSV file with the columns ``file,size,sha256``, whole or not at all."""
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "size", "sha256"])
        table.writerows([name, checksum.size, checksum.sha256] for name, checksum in checksums.items())
    os.replace(part, path)


def read_checksums(path: Path) -> dict[str, Checksum] | None:
    """What `write_checksums` wrote; None if there is no such file, or not a good one."""
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        checksums = {row["file"]: Checksum(int(row["size"]), row["sha256"]) for row in rows}
    except (FileNotFoundError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError):
        return None
    return checksums if checksums and all(map(_CLIP_PATH.fullmatch, checksums)) else None
