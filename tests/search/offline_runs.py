"""What W&B's client left of its offline runs, read from its own files.

They are logs in LevelDB's layout: after a header of seven bytes, blocks of 32 KiB with records of a checksum (4 bytes),
a length (2), a type (1: whole; 2, 3, 4: first, middle and last part) and a protocol buffer.
"""

import json
from collections.abc import Iterator
from pathlib import Path

_BLOCK, _HEADER = 32 * 1024, 7
_WHOLE, _FIRST, _LAST = 1, 2, 4


def _records(path: Path) -> Iterator[bytes]:
    data = path.read_bytes()
    place, parts = _HEADER, b""
    while place + _HEADER <= len(data):
        if _BLOCK - place % _BLOCK < _HEADER:  # the rest of a block that takes no header is empty
            place += _BLOCK - place % _BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        place += _HEADER
        if kind == 0 or place + length > len(data):  # not written: the client was killed here
            return
        parts = (b"" if kind in (_WHOLE, _FIRST) else parts) + data[place : place + length]
        place += length
        if kind in (_WHOLE, _LAST):
            yield parts


def steps_of(path: Path) -> list[int]:
    """The steps at which a run logged, in the order in which they were written."""
    from wandb.proto import wandb_internal_pb2

    steps = []
    for data in _records(path):
        record = wandb_internal_pb2.Record.FromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            steps.append(int(json.loads(items["_step"])) if "_step" in items else record.history.step.num)
    return steps


def runs_by_id(folder: Path) -> dict[str, list[list[int]]]:
    """Steps of every offline run that a search left in *folder*, oldest first, by the run's id."""
    found: dict[str, list[list[int]]] = {}
    for path in sorted((folder / "wandb").glob("offline-run-*/run-*.wandb")):
        found.setdefault(path.stem.removeprefix("run-"), []).append(steps_of(path))
    return found
