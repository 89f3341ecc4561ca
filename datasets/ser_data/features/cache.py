"""A node's cache of features: each setting is computed once, by one process, and mapped by all."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_data.cache_use import cache_use
from ser_data.corpus import Corpus
from ser_data.features.clip_frames import ClipFrames
from ser_data.features.frames_file import SUFFIX, expected_bytes, open_frames, write_frames
from ser_data.features.settings import FEATURE_VERSION, FeatureSettings
from ser_data.node_files import DamagedFileError
from ser_data.node_folder import PARTIAL_SUFFIX, NodeFolder
from ser_data.views import Views


class FeatureCache:
    """Features of corpora in files of one folder, shared by all processes of a node.

    Args:
        folder: made if missing
        max_bytes: what the files may take together; the ones unused for longest are removed, those in use never
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = Path(folder)
        self.max_bytes = max_bytes
        self._shared = NodeFolder(self.folder, max_bytes, called="feature cache")

    def get(self, corpus: Corpus, settings: FeatureSettings, *, jobs: int = 1) -> ClipFrames:
        """Features of every kept clip of *corpus*, from the cache or computed into it.

        Args:
            corpus: whose samples
            settings: which features
            jobs: threads to compute with

        Returns:
            mapped frames, indexed like ``corpus.clips``

        Raises:
            UserError: if the features are larger than the cache, the disk is full, or the folder cannot be written
        """
        return self._get(corpus, settings, None, 0, jobs)

    def get_views(
        self, corpus: Corpus, settings: FeatureSettings, views: Views, *, jobs: int = 1
    ) -> tuple[ClipFrames, ...]:
        """Features of the augmented views of the training clips, one `ClipFrames` a view.

        Args:
            corpus: whose samples
            settings: which features
            views: how the clips are changed, how often, and which they are
            jobs: threads to compute with

        Returns:
            ``views.settings.count`` of them, indexed like ``corpus.clips``; clips that are not augmented have no frames

        Raises:
            UserError: as `get`
        """
        return tuple(self._get(corpus, settings, views, number, jobs) for number in range(views.settings.count))

    def _get(self, corpus: Corpus, settings: FeatureSettings, views: Views | None, view: int, jobs: int) -> ClipFrames:
        suffix = "" if views is None else f"-view-{views.digest(view)}"
        name = f"{corpus.manifest_hash[:16]}-{settings.kind}-{settings.digest()}{suffix}"
        path = self.folder / (name + SUFFIX)
        key = {
            "feature_version": FEATURE_VERSION,
            "manifest_hash": corpus.manifest_hash,
            "settings": settings.to_dict(),
            "view": None if views is None else views.key(view),
        }
        with self._shared.explained(needed=0), suppress(FileNotFoundError, DamagedFileError):
            return _counted(open_frames(path, key=key))
        with self._shared.explained(needed=0), self._shared.locked([name]):
            try:
                return _counted(open_frames(path, key=key))  # somebody else computed it while we waited
            except FileNotFoundError:
                pass
            except DamagedFileError as damage:
                print(f"cached features {path} are damaged ({damage}): computing them again", file=sys.stderr)
                path.unlink(missing_ok=True)
            self._compute(corpus, settings, views, view, path, key, jobs)
            cache_use.misses += 1
            return open_frames(path, key=key)

    def _compute(
        self,
        corpus: Corpus,
        settings: FeatureSettings,
        views: Views | None,
        view: int,
        path: Path,
        key: dict[str, Any],
        jobs: int,
    ) -> None:
        # Needed only where there is something to compute: a process that finds its features need not load these.
        from ser_data.features.extraction import ClipFeatures, in_order

        waveforms = corpus.waveforms
        num_clips = len(waveforms)
        indices = np.arange(num_clips, dtype=np.int64) if views is None else np.sort(views.indices)
        num_frames = sum(settings.num_frames(length) for length in waveforms.num_samples[indices].tolist())
        needed = expected_bytes(num_clips=num_clips, num_frames=num_frames, dim=settings.dim)
        self._shared.make_room(needed, writing=[path], what=f"{settings.kind} features of {corpus.name} take")
        computed = in_order(ClipFeatures(waveforms, settings, views, view), indices.tolist(), jobs=jobs)
        partial_path = path.with_suffix(PARTIAL_SUFFIX)
        with self._shared.explained(needed=needed):
            try:
                clips = _spread(computed, indices, num_clips, settings.dim)
                write_frames(partial_path, clips, num_clips=num_clips, dim=settings.dim, key=key)
                partial_path.replace(path)
            finally:
                waveforms.unmap()  # half a gigabyte for CREMA-D, in a worker that goes on to train
                with suppress(OSError):
                    partial_path.unlink(missing_ok=True)


def _counted(found: ClipFrames) -> ClipFrames:
    cache_use.hits += 1
    return found


def _spread(
    computed: Iterator[NDArray[np.float32]], indices: NDArray[np.int64], num_clips: int, dim: int
) -> Iterator[NDArray[np.float32]]:
    """The computed clips, with clips of no frames between them, so that all *num_clips* have a place."""
    wanted = np.zeros(num_clips, dtype=bool)
    wanted[indices] = True
    nothing = np.zeros((0, dim), dtype=np.float32)
    for is_wanted in wanted:
        yield next(computed) if is_wanted else nothing
