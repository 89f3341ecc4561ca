"""Consignments in object storage: put there once by the search, fetched by every node for itself.

Below ``node-data/``, in a folder that is named for the content, each chunk is an object: it is written whole or not at
all, an interrupted upload goes on with the next one, several are under way at a time, and no store needs to know of
ranges.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ser_data.consignment import Chunk, Consignment, digest_of, read_chunk
from ser_data.errors import UserError
from ser_data.object_store import ObjectStore

FOLDER = "node-data"  # no search's own folder: these lie beside it
_THREADS = 4


@dataclass(frozen=True)
class StoredConsignments:
    """Where nodes fetch consignments from, a :class:`ser_data.staging.Source`. Can be sent to them.

    Attributes:
        store: of several searches, beside which they lie
    """

    store: ObjectStore

    @property
    def called(self) -> str:
        return self.store.path_of(FOLDER)

    @property
    def advice(self) -> str:
        return f"Remove what is damaged below {self.called}; the next start or --resume puts it there again."

    def read(self, consignment: Consignment, chunk: Chunk) -> bytes:
        """As in `ser_data.staging.Source`."""
        return self.store.read(_object_name(consignment, chunk))

    def missing(self, consignment: Consignment) -> list[Chunk]:
        """The chunks of *consignment* that are not there.

        An object of the right size is taken for the right one, since its name tells its content and nobody ever sees
        half of one; whoever fetches it compares the checksum.

        Raises:
            StorageError: the storage cannot be asked
        """
        chunks = [chunk for file in consignment.files for chunk in consignment.chunks(file)]
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="looking") as pool:
            sizes = list(pool.map(lambda chunk: self.store.size(_object_name(consignment, chunk)), chunks))
        return [chunk for chunk, size in zip(chunks, sizes, strict=True) if size != chunk.size]

    def put(self, consignment: Consignment, folder: Path, chunks: Sequence[Chunk]) -> int:
        """Put *chunks* there.

        Args:
            consignment: whose they are
            folder: where its files lie here
            chunks: those that are :meth:`missing`

        Returns:
            bytes that were sent

        Raises:
            UserError: the storage cannot be written, or a file cannot be read or changed since it was packed
        """

        def put(chunk: Chunk) -> int:
            data = read_chunk(folder, chunk)
            if digest_of(data) != chunk.sha256:
                raise OSError(f"{folder / chunk.file} changed")
            self.store.write(_object_name(consignment, chunk), data)
            return chunk.size

        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="sending")
        try:
            return sum(pool.map(put, chunks))
        except OSError as error:
            raise UserError(
                f"{consignment.name} cannot be sent to {self.called} ({error}). Its files must be there, and must not "
                "change meanwhile: check them, then try again."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _object_name(consignment: Consignment, chunk: Chunk) -> str:
    return f"{FOLDER}/{consignment.folder_name}/{chunk.file}.{chunk.index:04d}"
