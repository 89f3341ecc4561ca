"""Chunks of the driver's files through Ray's object store, for clusters without any other storage.

One actor on the driver's machine reads a chunk when the first node asks for it, and hands out where it lies in the
object store: nodes that ask at about the same time take it from one another. A few chunks are kept, so that its memory
is bounded, and nothing is read where every node sees the files.
"""

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_data.consignment import Chunk, Consignment, read_chunk

_KEPT = 16  # chunks: half a gigabyte of the driver's object store, which spills what it has no room for
_TRIES = 3  # where an object was lost with the node that had it


class Depot:
    """What runs on the driver's machine.

    Args:
        folders: where the files of each consignment lie there, by digest
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders
        self._kept: OrderedDict[tuple[str, Chunk], Any] = OrderedDict()
        self._sent = 0

    def chunk(self, digest: str, chunk: Chunk) -> list[Any]:
        """A reference to a chunk, as uint8 (size,); in a list, so that it is not the bytes that travel through here.

        Raises:
            OSError: it cannot be read
        """
        import numpy as np
        import ray

        key = digest, chunk
        if key not in self._kept:
            data = np.frombuffer(read_chunk(Path(self._folders[digest]), chunk), dtype=np.uint8)
            self._kept[key] = ray.put(data)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        self._sent += chunk.size
        return [self._kept[key]]

    def bytes_sent(self) -> int:
        """Of all chunks that were asked for."""
        return self._sent


@dataclass(frozen=True)
class DepotSource:
    """Where nodes fetch consignments from, a :class:`ser_data.staging.Source`. Can be sent to them.

    Attributes:
        depot: handle of a :class:`Depot`
    """

    depot: Any
    called: str = "the search's machine, through Ray"
    advice: str = "Files that are sent must stay as they are while a search runs; go on with --resume."

    def read(self, consignment: Consignment, chunk: Chunk) -> memoryview:
        """As in `ser_data.staging.Source`."""
        import ray

        for _ in range(_TRIES):
            try:
                (reference,) = ray.get(self.depot.chunk.remote(consignment.digest, chunk))
                return memoryview(ray.get(reference))
            except ray.exceptions.ObjectLostError:  # with the process that had it
                continue
            except ray.exceptions.RayTaskError as error:
                raise OSError(str(error.cause)) from error  # its own message is a traceback
            except ray.exceptions.RayError as error:
                raise OSError(f"the search's process that sends it ended: {type(error).__name__}") from error
        raise OSError(f"Ray's object store lost {chunk.file} {_TRIES} times")


def open_depot(folders: Mapping[str, str]) -> Any:
    """Handle of a :class:`Depot` on this machine, which takes no core of it."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Depot).options(num_cpus=0, max_restarts=-1, max_task_retries=_TRIES, scheduling_strategy=here)
    return actor.remote(dict(folders))


def bytes_sent(depot: Any) -> int:
    """Of all chunks that nodes asked it for; 0 if it does not answer any more."""
    import ray

    try:
        return int(ray.get(depot.bytes_sent.remote(), timeout=5))
    except ray.exceptions.RayError:
        return 0


def close_depot(depot: Any) -> None:
    """End it, and let go of its chunks."""
    import ray

    with suppress(Exception):  # the cluster may be gone already
        ray.kill(depot)
