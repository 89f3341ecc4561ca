"""Features of one clip or of many, whatever the settings' kind; many are computed in parallel."""

import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.corpus import Corpus
from ser_data.features import hybrid, log_mel, mfcc, statistics
from ser_data.features.clip_frames import ClipFrames
from ser_data.features.settings import FeatureSettings, HybridSettings, LogMelSettings, MfccSettings
from ser_data.views import Views, ViewSamples
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
    if isinstance(settings, LogMelSettings):
        return log_mel.compute(samples, settings)
    return statistics.compute(samples, settings)


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """Computes the features of clips by their indices.

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

    def __call__(self, indices: Sequence[int]) -> list[NDArray[np.float32]]:
        """float32, shape ``(num_frames, dim)``, of each clip."""
        if self.views is not None:
            samples = ViewSamples(self.waveforms, self.views, self.view)(indices)
        else:
            samples = [self.waveforms.float32(index) for index in indices]
        return [compute(clip, self.settings) for clip in samples]


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
    of_clips = ClipFeatures(corpus.waveforms, settings)
    clips = (of_clips([index])[0] if index in wanted else empty for index in range(len(corpus.waveforms)))
    with one_torch_thread():
        return ClipFrames.of(clips, dim=settings.dim)


def in_order(of_clips: ClipFeatures, indices: Sequence[int], *, jobs: int) -> Iterator[NDArray[np.float32]]:
    """Features of each clip of *indices*, in their order, by *jobs* workers that keep a bounded lead.

    Workers are threads, since Fourier transforms and products release Python's lock, and a process would cost the
    memory and the seconds of another torch. Stretch and pitch hold the lock: the samples of many views, nine tenths of
    their work, come from processes, which do without torch.
    """
    chunks = [indices[start : start + _CLIPS_A_TASK] for start in range(0, len(indices), _CLIPS_A_TASK)]
    with one_torch_thread():
        if jobs <= 1:
            for chunk in chunks:
                yield from of_clips(chunk)
        elif of_clips.views is not None and len(indices) >= LEAST_CLIPS_FOR_PROCESSES:
            samples_of = ViewSamples(of_clips.waveforms, of_clips.views, of_clips.view)
            # Ctrl-C is answered here and not by the processes. What they are given must not lie in this module: finding
            # it there would load torch.
            pool = ProcessPoolExecutor(
                jobs,
                mp_context=get_context("spawn"),
                initializer=signal.signal,
                initargs=(signal.SIGINT, signal.SIG_IGN),
            )
            for samples in _ahead(pool, samples_of, chunks, jobs):
                yield compute(samples, of_clips.settings)
        else:
            yield from _ahead(ThreadPoolExecutor(jobs, thread_name_prefix="features"), of_clips, chunks, jobs)


def _ahead(
    pool: Executor,
    make: Callable[[Sequence[int]], list[NDArray[np.float32]]],
    chunks: Iterable[Sequence[int]],
    jobs: int,
) -> Iterator[NDArray[np.float32]]:
    """What *make* gives for the chunks, one array after the other; closes the pool, at whatever end."""
    pending: deque[Future[list[NDArray[np.float32]]]] = deque()
    try:
        for chunk in chunks:
            pending.append(pool.submit(make, chunk))
            if len(pending) >= jobs * _TASKS_AHEAD:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """One torch thread for each of ours: a clip is too small to share, and threads of threads fight for cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
