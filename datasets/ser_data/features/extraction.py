"""Features of one clip or of many, whatever the settings' kind; many are computed in parallel."""

import signal
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.augment import Views
from ser_data.corpus import Corpus
from ser_data.features import hybrid, mfcc, statistics
from ser_data.features.clip_frames import ClipFrames
from ser_data.features.settings import FeatureSettings, HybridSettings, MfccSettings
from ser_data.waveforms import Waveforms

_CLIPS_A_TASK = 16  # enough that handing over a task costs nothing beside it
_TASKS_AHEAD = 4  # per worker; bounds the memory
LEAST_CLIPS_FOR_PROCESSES = 256  # fewer views take less than the start of processes does


def compute(samples: NDArray[np.float32], settings: FeatureSettings) -> NDArray[np.float32]:
    """Features of one clip.

    Args:
        samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz
        settings: which features

    Returns:
        float32, shape ``(settings.num_frames(num_samples), settings.dim)``

    Raises:
        UserError: if the settings leave a mel band without a frequency
    """
    if isinstance(settings, MfccSettings):
        return mfcc.compute(samples, settings)
    if isinstance(settings, HybridSettings):
        return hybrid.compute(samples, settings)
    return statistics.compute(samples, settings)


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """Computes the features of a clip by its index; another process may be handed it.

    Attributes:
        waveforms: the corpus's
        settings: which features
        views: how clips are changed first; None to leave them
        view: number of the view
    """

    waveforms: Waveforms
    settings: FeatureSettings
    views: Views | None = None
    view: int = 0

    def __call__(self, index: int) -> NDArray[np.float32]:
        """float32, shape ``(num_frames, dim)``."""
        samples = self.waveforms.float32(index)
        if self.views is not None:
            samples = self.views.samples(samples, clip=index, view=self.view)
        return compute(samples, self.settings)


def compute_clips(corpus: Corpus, settings: FeatureSettings, indices: Iterable[int]) -> ClipFrames:
    """Features of a few clips, in memory and past the cache.

    Args:
        corpus: where the samples are
        settings: which features
        indices: of the clips, in any order

    Returns:
        frames indexed like ``corpus.clips``; clips outside *indices* have none
    """
    wanted = {int(index) for index in indices}
    empty = np.zeros((0, settings.dim), dtype=np.float32)
    of_clip = ClipFeatures(corpus.waveforms, settings)
    clips = (of_clip(index) if index in wanted else empty for index in range(len(corpus.waveforms)))
    with one_torch_thread():
        return ClipFrames.of(clips, dim=settings.dim)


def in_order(of_clip: ClipFeatures, indices: Sequence[int], *, jobs: int) -> Iterator[NDArray[np.float32]]:
    """Features of each clip of *indices*, in their order, by *jobs* workers that keep a bounded lead.

    Workers are threads, since Fourier transforms and products release Python's lock, and a process would cost the
    memory and the seconds of another torch. Stretch and pitch hold the lock: many views are computed by processes.
    """
    chunks = [list(indices[start : start + _CLIPS_A_TASK]) for start in range(0, len(indices), _CLIPS_A_TASK)]
    with one_torch_thread():
        if jobs <= 1:
            for chunk in chunks:
                yield from _some(of_clip, chunk)
            return
        pool: Executor
        if of_clip.views is not None and len(indices) >= LEAST_CLIPS_FOR_PROCESSES:
            pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_start_process)
        else:
            pool = ThreadPoolExecutor(jobs, thread_name_prefix="features")
        pending: deque[Future[list[NDArray[np.float32]]]] = deque()
        try:
            for chunk in chunks:
                pending.append(pool.submit(_some, of_clip, chunk))
                if len(pending) >= jobs * _TASKS_AHEAD:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _some(of_clip: ClipFeatures, indices: Sequence[int]) -> list[NDArray[np.float32]]:
    return [of_clip(index) for index in indices]


def _start_process() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the process that waits for this one


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """One torch thread for each of ours: a clip is too small to share, and threads of threads fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
