"""A node's cache of what frozen layers give: each boundary is computed once, by one process, and mapped by all."""

import errno
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.cache_use import cache_use
from ser_data.errors import UserError
from ser_data.node_files import DamagedFileError
from ser_data.node_folder import FullDiskError, NodeFolder, size_text
from ser_data.rows_file import SUFFIX, RowsLayout, RowsWriter, open_rows, written_bytes

Compute = Callable[[NDArray[np.int64], Sequence[str]], Mapping[str, Sequence[torch.Tensor]]]

_FORMAT = 1
_SYNC_SECONDS = 5.0  # the most that a killed pass repeats; a sync takes a fraction of a second
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# numpy has no bfloat16: its two bytes are kept as an integer.
_STORED: dict[str, tuple[torch.dtype, np.dtype[Any]]] = {
    "bf16": (torch.bfloat16, np.dtype("<i2")),
    "fp32": (torch.float32, np.dtype("<f4")),
    "fp64": (torch.float64, np.dtype("<f8")),
}


@dataclass(frozen=True, eq=False)
class Stream:
    """One array to cache: what one boundary between layers gives for each item.

    Attributes:
        key: all that the numbers depend on (hash of the weights, boundary, input, ...); JSON values
        label: short, for the file's name and for messages; letters, digits, ``.``, ``_`` and ``-``
        rows: int64, shape ``(num_items,)``, how many rows each item has; one with 0 is not in the stream
        dim: columns
        dtype: ``"bf16"``, ``"fp32"`` or ``"fp64"``

    Raises:
        ValueError: if one of them is none of that
    """

    key: Mapping[str, Any]
    label: str
    rows: NDArray[np.int64]
    dim: int
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in _STORED:
            raise ValueError(f"stream {self.label}: dtype {self.dtype!r} is none of {', '.join(_STORED)}")
        if not _LABEL.fullmatch(self.label):
            raise ValueError(f"stream {self.label!r}: its label must be letters, digits, '.', '_' and '-'")
        if self.rows.ndim != 1 or self.rows.dtype.kind not in "iu" or (self.rows < 0).any():
            raise ValueError(f"stream {self.label}: rows must be whole numbers from 0, of shape (num_items,)")
        if self.dim < 1:
            raise ValueError(f"stream {self.label}: dim is {self.dim}, and must be at least 1")

    @cached_property
    def layout(self) -> RowsLayout:
        """What the file of this stream holds."""
        offsets = np.concatenate([[0], np.cumsum(self.rows, dtype=np.int64)]).astype(np.int64)
        key = {
            "format": _FORMAT,
            "key": dict(self.key),
            "dim": self.dim,
            "dtype": self.dtype,
            "num_items": len(self.rows),
            "rows_sha256": hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest(),
        }
        as_read = json.loads(json.dumps(key, sort_keys=True, allow_nan=False))  # tuples become lists
        return RowsLayout(as_read, offsets, self.dim, _STORED[self.dtype][1])

    @cached_property
    def name(self) -> str:
        """Name of the file, without its suffix."""
        digest = hashlib.sha256(json.dumps(self.layout.key, sort_keys=True).encode()).hexdigest()
        return f"{self.label}-{digest[:16]}"


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of many items in one array, mapped from the cache. Nobody may write to it; the file would not change.

    Attributes:
        offsets: int64, shape ``(num_items + 1,)``; item *i* has rows ``offsets[i]`` to ``offsets[i + 1]``
        values: shape ``(total_rows, dim)``, in the stream's dtype
    """

    offsets: NDArray[np.int64]
    values: torch.Tensor

    @classmethod
    def of(cls, items: Mapping[int, torch.Tensor], num_items: int) -> "Ragged":
        """Some items in memory, past any cache; the others have no rows.

        Args:
            items: shape ``(num_rows, dim)`` each, at least one, by the item's number
            num_items: how many there are with those that have none
        """
        lengths = [len(items[number]) if number in items else 0 for number in range(num_items)]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(offsets, torch.cat([items[number] for number in sorted(items)]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def item(self, index: int) -> torch.Tensor:
        """One item's rows: shape ``(num_rows, dim)``, a view."""
        return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]


def bytes_of(streams: Iterable[Stream]) -> int:
    """What the files of *streams* take together; those that share a file count once."""
    return sum({stream.name: stream.layout.total_bytes for stream in streams}.values())


class PrefixCache:
    """Outputs of frozen layers in files of one folder, shared by all processes of a node.

    Args:
        folder: made if missing
        max_bytes: what the files may take together; the ones unused for longest are removed, those in use never
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._shared = NodeFolder(self.folder, max_bytes, called="cache of layer outputs")

    @classmethod
    def of_node(cls, cache_dir: str, cache_gb: float) -> "PrefixCache":
        """The cache of a node, in its folder of caches, of that many gigabytes (10**9 bytes)."""
        return cls(Path(cache_dir) / "prefixes", int(cache_gb * 1e9))

    def get(
        self,
        streams: Mapping[str, Stream],
        batches: Sequence[NDArray[np.int64]],
        compute: Compute,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Ragged]:
        """Open the streams that are cached, and compute those that are missing, together, in one pass.

        A pass that was killed is gone on with by the next call that has the same batches; one that failed in *compute*
        as well.

        Args:
            streams: what to give, by names of the caller's
            batches: indices of items, int64, shape ``(batch_items,)`` each; an item that has rows in a stream is in
                exactly one of them
            compute: called with the items of a batch and the names of the missing streams that have rows in it; returns
                for each name one tensor an item, shape ``(num_rows, dim)``, of any float type, on any device
            progress: called behind each batch with the items done so far and the items in all

        Returns:
            one mapped array a name

        Raises:
            UserError: if the streams are larger than the cache, the disk is full, the folder cannot be written, or
                a value is NaN or infinite
            ValueError: if the batches lack an item or repeat one, two streams are the same, or *compute* gives
                something of another shape or type
        """
        _check_request(streams, batches)
        found: dict[str, Ragged] = {}
        for name, stream in streams.items():
            with self._shared.explained(needed=0), suppress(FileNotFoundError, DamagedFileError):
                found[name] = self._open(stream)
        cache_use.hits += len(found)
        missing = {name: stream for name, stream in streams.items() if name not in found}
        if missing:
            with self._locked(missing):
                found |= self._opened_or_computed(missing, batches, compute, progress)
        return {name: found[name] for name in streams}

    @contextmanager
    def _locked(self, streams: Mapping[str, Stream]) -> Iterator[None]:
        with ExitStack() as held:
            with self._shared.explained(needed=0):
                held.enter_context(self._shared.locked(stream.name for stream in streams.values()))
            yield

    def _opened_or_computed(
        self,
        streams: Mapping[str, Stream],
        batches: Sequence[NDArray[np.int64]],
        compute: Compute,
        progress: Callable[[int, int], None] | None,
    ) -> dict[str, Ragged]:
        found: dict[str, Ragged] = {}
        for name, stream in streams.items():
            with self._shared.explained(needed=0):
                try:
                    found[name] = self._open(stream)  # somebody else computed it while we waited
                except FileNotFoundError:
                    pass
                except DamagedFileError as damage:
                    path = self._path(stream)
                    print(f"cached outputs {path} are damaged ({damage}): computing them again", file=sys.stderr)
                    path.unlink(missing_ok=True)
        missing = {name: stream for name, stream in streams.items() if name not in found}
        cache_use.hits += len(found)
        cache_use.misses += len(missing)
        if missing:
            with self._writers(missing, batches) as writers:
                needed = sum(writer.layout.total_bytes for writer in writers.values())
                self._compute(missing, batches, writers, compute, progress, needed)
                with self._shared.explained(needed=needed):
                    for name, writer in writers.items():
                        writer.finish()
                        found[name] = self._open(missing[name])
        return found

    @contextmanager
    def _writers(
        self, streams: Mapping[str, Stream], batches: Sequence[NDArray[np.int64]]
    ) -> Iterator[dict[str, RowsWriter]]:
        """Writers of the streams; what they leave unfinished stays to be gone on with, if that can come to an end."""
        paths = {name: self._path(stream) for name, stream in streams.items()}
        needed = sum(stream.layout.total_bytes for stream in streams.values())
        with self._shared.explained(needed=needed):
            self._shared.make_room(needed, writing=paths.values(), what=_subject(list(streams.values())))
        plan = _plan(batches)
        writers: dict[str, RowsWriter] = {}
        try:
            with self._shared.explained(needed=needed):
                for name, stream in streams.items():
                    writers[name] = RowsWriter(paths[name], stream.layout, plan=plan)
                if needed - sum(written_bytes(path) for path in paths.values()) > self._shared.free_bytes():
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # now, and not after most of the work
            yield writers
        except (FullDiskError, _NotFiniteError, _WrongOutputError):
            for writer in writers.values():
                with suppress(OSError):
                    writer.discard()
            raise
        finally:
            for writer in writers.values():
                writer.close()

    def _compute(
        self,
        streams: Mapping[str, Stream],
        batches: Sequence[NDArray[np.int64]],
        writers: Mapping[str, RowsWriter],
        compute: Compute,
        progress: Callable[[int, int], None] | None,
        needed: int,
    ) -> None:
        wanted = [[name for name, stream in streams.items() if stream.rows[batch].any()] for batch in batches]
        num_items = sum(len(batch) for batch, names in zip(batches, wanted, strict=True) if names)
        items_done = 0
        synced = time.monotonic()
        written = False
        for step, (batch, names) in enumerate(zip(batches, wanted, strict=True)):
            if not names:
                continue
            items_done += len(batch)
            due = [name for name in names if step >= writers[name].steps_done]
            if not due:
                continue
            outputs = compute(batch, tuple(due))
            for name in due:
                rows = _rows(outputs, name, streams[name], batch)
                with self._shared.explained(needed=needed):
                    for item, values in rows:
                        writers[name].write(item, values)
            written = True
            if time.monotonic() - synced >= _SYNC_SECONDS:
                self._sync(writers, step + 1, needed)
                synced = time.monotonic()
            if progress is not None:
                progress(items_done, num_items)
        if written:
            self._sync(writers, len(batches), needed)

    def _sync(self, writers: Mapping[str, RowsWriter], steps_done: int, needed: int) -> None:
        with self._shared.explained(needed=needed):
            for writer in writers.values():
                if writer.steps_done < steps_done:
                    writer.sync(steps_done)

    def _open(self, stream: Stream) -> Ragged:
        dtype, _ = _STORED[stream.dtype]
        values = torch.from_numpy(open_rows(self._path(stream), stream.layout))
        return Ragged(stream.layout.offsets, values.view(dtype))

    def _path(self, stream: Stream) -> Path:
        return self.folder / f"{stream.name}{SUFFIX}"


class _NotFiniteError(UserError):
    """What was computed is NaN or infinite."""


class _WrongOutputError(ValueError):
    """What was computed is not what was asked for."""


def _check_request(streams: Mapping[str, Stream], batches: Sequence[NDArray[np.int64]]) -> None:
    names = [stream.name for stream in streams.values()]
    if len(set(names)) < len(names):
        raise ValueError(f"two of the streams are the same: {', '.join(sorted(names))}")
    lengths = {len(stream.rows) for stream in streams.values()}
    if len(lengths) > 1:
        raise ValueError(f"the streams are of different numbers of items: {sorted(lengths)}")
    if not streams:
        return
    num_items = lengths.pop()
    items = np.concatenate([np.zeros(0, dtype=np.int64), *batches])
    if ((items < 0) | (items >= num_items)).any():
        raise ValueError(f"the batches hold items that are not among the {num_items}")
    times = np.bincount(items, minlength=num_items)
    for name, stream in streams.items():
        wrong = np.flatnonzero((stream.rows > 0) & (times != 1))
        if len(wrong):
            raise ValueError(
                f"stream {name}: item {wrong[0]} is in {times[wrong[0]]} batches, and must be in exactly one "
                f"({len(wrong)} such items)"
            )


def _rows(
    outputs: Mapping[str, Sequence[torch.Tensor]], name: str, stream: Stream, batch: NDArray[np.int64]
) -> list[tuple[int, NDArray[Any]]]:
    """The items of a batch with their rows as they are stored, checked; without the items that have none."""
    if name not in outputs or len(outputs[name]) != len(batch):
        found = len(outputs[name]) if name in outputs else "none"
        raise _WrongOutputError(f"stream {name}: {len(batch)} tensors were asked for, {found} came")
    dtype, stored = _STORED[stream.dtype]
    items, tensors = [], []
    for item, tensor in zip(batch.tolist(), outputs[name], strict=True):
        expected = (int(stream.rows[item]), stream.dim)
        if tuple(tensor.shape) != expected:
            raise _WrongOutputError(f"stream {name}: item {item} has shape {tuple(tensor.shape)}, not {expected}")
        if not tensor.is_floating_point():
            raise _WrongOutputError(f"stream {name}: item {item} is of {tensor.dtype}, which is no float type")
        if expected[0]:
            items.append(item)
            tensors.append(tensor.detach())
    lengths = [len(tensor) for tensor in tensors]
    values = torch.empty((sum(lengths), stream.dim), dtype=dtype, device=tensors[0].device)
    for part, tensor in zip(torch.split(values, lengths), tensors, strict=True):
        part.copy_(tensor)
    # A sum is cheap, and never finite where a value is not; finite values may overflow in it, so it acquits only.
    suspicious = not torch.isfinite(values.sum())
    values = values.cpu()  # one transfer a batch
    parts = torch.split(values, lengths)
    bad = [item for item, part in zip(items, parts, strict=True) if suspicious and not torch.isfinite(part).all()]
    if bad:
        raise _NotFiniteError(
            f"the outputs {stream.label} of item {bad[0]} are not finite: the weights or the input hold NaN or "
            "infinity. Nothing of them was cached. Check the file of the weights and this item's input."
        )
    as_stored = [part.view(torch.int16) if dtype is torch.bfloat16 else part for part in parts]
    return [(item, part.numpy().astype(stored, copy=False)) for item, part in zip(items, as_stored, strict=True)]


def _plan(batches: Sequence[NDArray[np.int64]]) -> str:
    """Digest of the batches and their order."""
    digest = hashlib.sha256()
    for batch in batches:
        digest.update(len(batch).to_bytes(8, "little") + np.asarray(batch, dtype="<i8").tobytes())
    return digest.hexdigest()


def _subject(streams: Sequence[Stream]) -> str:
    sizes = [f"{stream.label} ({size_text(stream.layout.total_bytes)})" for stream in streams]
    return f"outputs {', '.join(sizes)} together take" if len(sizes) > 1 else f"outputs {sizes[0]} take"
