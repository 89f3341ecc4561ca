"""What is sent to other machines: the files of a folder, in chunks that each have a checksum.

A consignment is known by its content: two folders with the same files are one consignment, wherever they lie, so that a
copy that is there already is recognised and an interrupted one is gone on with.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from ser_data.errors import UserError

CHUNK_BYTES = 32 * 2**20  # what an interruption costs at most, and what is in memory of each transfer
_COMPARED_WHOLE = 4 * 2**20  # files up to here are compared by content where the size alone says too little
_THREADS = 4  # reading and hashing; hashlib lets go of Python's lock


@dataclass(frozen=True)
class PackedFile:
    """A file of a consignment.

    Attributes:
        name: in its folder
        size: bytes
        chunks: sha256 of each chunk, in their order, as hexadecimal digits; none of an empty file. A digest of the
            whole file would say nothing more, and cost a second pass over it
    """

    name: str
    size: int
    chunks: tuple[str, ...]


@dataclass(frozen=True)
class Chunk:
    """A part of a file.

    Attributes:
        file: its name
        index: which of its chunks
        start: where it begins in the file, in bytes
        size: bytes
        sha256: of its content, as hexadecimal digits
    """

    file: str
    index: int
    start: int
    size: int
    sha256: str


@dataclass(frozen=True)
class Consignment:
    """Files that are sent together. Make one with :func:`pack`.

    Attributes:
        name: what messages call it
        files: in the order in which they are sent
        chunk_bytes: size of all chunks but a file's last
    """

    name: str
    files: tuple[PackedFile, ...]
    chunk_bytes: int = CHUNK_BYTES

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @cached_property
    def digest(self) -> str:
        """sha256 of what the files hold, as hexadecimal digits; the name has no part in it."""
        described = [[asdict(file) for file in self.files], self.chunk_bytes]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

    @property
    def folder_name(self) -> str:
        """What its folder is called wherever it is kept: readable, and another one for other content."""
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", self.name).strip("-.")
        return f"{readable}-{self.digest[:16]}"

    def chunks(self, file: PackedFile, first: int = 0) -> Iterator[Chunk]:
        """The chunks of *file*, from number *first* on."""
        for index in range(first, len(file.chunks)):
            start = index * self.chunk_bytes
            yield Chunk(file.name, index, start, min(self.chunk_bytes, file.size - start), file.chunks[index])


def pack(folder: Path, names: Sequence[str], *, called: str, chunk_bytes: int = CHUNK_BYTES) -> Consignment:
    """Describe files of *folder*; reads each of them once.

    Args:
        folder: where they lie
        names: of the files, as paths relative to it
        called: what messages call them together
        chunk_bytes: size of a chunk

    Raises:
        UserError: one cannot be read
    """
    with ThreadPoolExecutor(_THREADS) as pool:

        def packed(name: str) -> PackedFile:
            size = (folder / name).stat().st_size
            parts = [
                Chunk(name, i, at, min(chunk_bytes, size - at), "") for i, at in enumerate(range(0, size, chunk_bytes))
            ]
            return PackedFile(name, size, tuple(pool.map(lambda part: digest_of(read_chunk(folder, part)), parts)))

        try:
            return Consignment(called, tuple(map(packed, names)), chunk_bytes)
        except OSError as error:
            raise UserError(
                f"{called} cannot be read to be sent to other nodes ({error}). Check {folder}: its files must be "
                "there, and must not change while a search runs."
            ) from error


def read_chunk(folder: Path, chunk: Chunk) -> bytes:
    """The bytes of *chunk* of the files in *folder*.

    Raises:
        OSError: they cannot be read, or the file ends before
    """
    with (folder / chunk.file).open("rb", buffering=0) as file:
        data = os.pread(file.fileno(), chunk.size, chunk.start)
    if len(data) != chunk.size:
        raise OSError(f"{folder / chunk.file} ends within the bytes from {chunk.start} on")
    return data


def digest_of(data: bytes | memoryview) -> str:
    """sha256, as hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def holds(folder: Path, consignment: Consignment, *, whole: bool) -> bool:
    """Whether *folder* has these files.

    Args:
        folder: where they may lie
        consignment: whose files
        whole: compare every byte; else sizes, and the content of small files, which is enough where a small file has
            checksums of the large ones, as a prepared corpus's has
    """
    try:
        if any((folder / file.name).stat().st_size != file.size for file in consignment.files):
            return False
    except OSError:
        return False
    compared = [file for file in consignment.files if whole or file.size <= _COMPARED_WHOLE]
    return all(has_chunk(folder, chunk) for file in compared for chunk in consignment.chunks(file))


def has_chunk(folder: Path, chunk: Chunk) -> bool:
    """Whether the bytes of *chunk* are there and are what they should be."""
    try:
        return digest_of(read_chunk(folder, chunk)) == chunk.sha256
    except OSError:
        return False
