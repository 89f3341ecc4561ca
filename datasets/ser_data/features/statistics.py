"""Functionals of a clip's frames: one row a clip, for models without a sense of time."""

import numpy as np
from numpy.typing import NDArray

from ser_data.features import hybrid, mfcc
from ser_data.features.settings import FUNCTIONALS, QUANTILES, HybridSettings, StatisticsSettings
from ser_data.waveforms import SAMPLE_RATE

_LEAST_STD = 1e-6  # a column that stands still has no skewness


def compute(samples: NDArray[np.float32], settings: StatisticsSettings) -> NDArray[np.float32]:
    """Functionals of one clip.

    Args:
        samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz
        settings: frames to take them of, and how much of the clip

    Returns:
        float32, shape ``(1, settings.dim)``
    """
    if settings.max_clip_seconds is not None:
        samples = samples[: round(settings.max_clip_seconds * SAMPLE_RATE)]
    base = settings.base
    frames = hybrid.compute(samples, base) if isinstance(base, HybridSettings) else mfcc.compute(samples, base)
    return functionals(frames)[None]


def functionals(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    """`FUNCTIONALS` of each column.

    Standard deviation and skewness are the population's (divided by the number of frames); quantiles are interpolated
    linearly, as in numpy; the slope is half of a fitted line's rise from the first frame to the last.

    Args:
        frames: float32, shape ``(num_frames, dim)``

    Returns:
        float32, shape ``(len(FUNCTIONALS) * dim,)``, functional by functional
    """
    num_frames = len(frames)
    mean = frames.mean(axis=0)
    centred = frames - mean
    squares = centred * centred
    std = np.sqrt(squares.mean(axis=0))
    cubes = np.multiply(squares, centred, out=squares)
    time = np.linspace(-1, 1, num_frames, dtype=np.float32) if num_frames > 1 else np.ones(1, dtype=np.float32)
    values = {
        "mean": mean,
        "std": std,
        "skew": cubes.mean(axis=0) / np.maximum(std, _LEAST_STD) ** 3,
        "slope": time @ centred / np.sum(time * time),
    }
    ordered = np.sort(frames, axis=0)  # all quantiles out of one sorting
    for name in QUANTILES:
        position = int(name[1:]) / 100 * (num_frames - 1)
        below = int(position)
        above = min(below + 1, num_frames - 1)
        values[name] = ordered[below] + np.float32(position - below) * (ordered[above] - ordered[below])
    return np.concatenate([values[name] for name in FUNCTIONALS], dtype=np.float32)
