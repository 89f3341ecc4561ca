"""Where raw clips come from: a folder or a zip archive, listed once, read file by file."""

import hashlib
import os
import threading
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ser_data.errors import UserError

LOSSLESS_SUFFIXES = (".wav", ".flac")
AUDIO_SUFFIXES = (*LOSSLESS_SUFFIXES, ".opus", ".ogg", ".oga", ".mp3")
_FORMATS = "WAV, FLAC, MP3, Ogg or Opus"


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: path relative to it with ``/``, size in bytes, time of last change in ns."""

    path: str
    num_bytes: int
    changed_ns: int

    @property
    def stem(self) -> str:
        return PurePosixPath(self.path).stem

    @property
    def suffix(self) -> str:
        """In lower case, with its dot."""
        return PurePosixPath(self.path).suffix.lower()

    @property
    def folder(self) -> str:
        return str(PurePosixPath(self.path).parent)


class FolderSource:
    """Files below a folder, at any depth; hidden ones are passed over, links are followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = sorted(_walk(root), key=lambda file: file.path)

    def open(self, path: str) -> Path | bytes:
        """What `ser_data.audio_files.read_clip` takes."""
        return self.root / path

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()


class ZipSource:
    """Files in a zip archive; nothing is unpacked to disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        try:
            self._archive = zipfile.ZipFile(root)
        except PermissionError as error:
            raise UserError(f"{root} cannot be read: no permission. Check with `ls -l {root}`.") from error
        except (zipfile.BadZipFile, OSError) as error:
            raise UserError(
                f"{root} is not a zip archive that can be read ({error}). Accepted: a folder or a zip of {_FORMATS} "
                f"files. Fetch it again if its download was cut off."
            ) from error
        changed = root.stat().st_mtime_ns
        entries = [entry for entry in self._archive.infolist() if not entry.is_dir() and not _hidden(entry.filename)]
        if any(entry.flag_bits & 1 for entry in entries):
            raise UserError(f"{root} is encrypted. Unpack it with its password and give the folder instead.")
        self.files = sorted(
            (SourceFile(entry.filename, entry.file_size, changed) for entry in entries), key=lambda file: file.path
        )

    def open(self, path: str) -> Path | bytes:
        """What `ser_data.audio_files.read_clip` takes."""
        return self.read(path)

    def read(self, path: str) -> bytes:
        try:
            with self._lock:  # one archive, one file position
                return self._archive.read(path)
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise OSError(f"damaged in the archive ({error})") from error


Source = FolderSource | ZipSource


def open_source(root: Path) -> Source:
    """List a folder or a zip archive.

    Raises:
        UserError: if there is nothing of that name, it is another kind of file, or it may not be read
    """
    root = Path(root)
    if os.path.isdir(root):
        return FolderSource(root)
    if not os.path.exists(root):
        raise UserError(
            f"there is no folder or zip archive {root}. Give a folder or zip of {_FORMATS} files; "
            f"`python -m crema_d.download --to DIR` fetches CREMA-D."
        )
    if root.suffix.lower() == ".csv":
        raise UserError(
            f"{root} is a table, not a folder of clips. Prepare it: python -m ser_data.table {root} --out DIR."
        )
    return ZipSource(root)


def source_fingerprint(root: Path, suffixes: Iterable[str] = AUDIO_SUFFIXES, *, extra: Iterable[Path] = ()) -> str:
    """Fingerprint of a source's listing: names, sizes and times of last change; no file is opened.

    Args:
        root: folder or zip archive
        suffixes: which files count, in lower case, e.g. ``.wav``
        extra: further files that the result depends on, wherever they are

    Returns:
        16 hexadecimal digits

    Raises:
        UserError: as `open_source`
    """
    wanted = tuple(suffixes)
    files = [file for file in open_source(root).files if file.path.lower().endswith(wanted)]
    stats = [(path, path.stat()) for path in extra]
    return listing_fingerprint([*files, *(SourceFile(str(path), s.st_size, s.st_mtime_ns) for path, s in stats)])


def listing_fingerprint(files: Iterable[SourceFile], *details: str) -> str:
    """Fingerprint of *files* and *details*: 16 hexadecimal digits."""
    digest = hashlib.sha256("\0".join(details).encode())
    for file in files:
        digest.update(f"{file.path}\0{file.num_bytes}\0{file.changed_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def _hidden(path: str) -> bool:
    """Hidden files, and the companions that macOS puts into archives (``__MACOSX/._1001_….wav``)."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))


def _walk(root: Path) -> Iterator[SourceFile]:
    pending, seen = [""], set()  # folders still to list, relative to the root and with a slash at the end
    while pending:
        prefix = pending.pop()
        folder = os.path.join(root, prefix)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen:  # a link back to a folder above
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if entry.is_dir():
                        pending.append(f"{prefix}{entry.name}/")
                    elif entry.is_file():
                        stat = entry.stat()
                        yield SourceFile(prefix + entry.name, stat.st_size, stat.st_mtime_ns)
                    elif entry.is_symlink():  # to nothing, as in a git-annex clone: to be a row with its reason
                        yield SourceFile(prefix + entry.name, -1, 0)
        except PermissionError as error:
            raise UserError(
                f"the folder {folder} cannot be read: no permission. Check with `ls -ld {folder}`, and let its owner "
                f"give read access (`chmod -R u+rX {folder}`)."
            ) from error
