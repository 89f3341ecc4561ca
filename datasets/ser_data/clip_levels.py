"""How loud the clips of a corpus are, and up to which frequency they hold sound."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser_data.waveforms import FULL_SCALE, SAMPLE_RATE, Waveforms

FRAME_SECONDS = 0.025  # of the frames whose level tells speech from background
FLOOR_PERCENTILE = 10  # of a clip's frame levels: what is left between the words
SPECTRUM_SIZE = 512  # samples per transform: 31.25 Hz between frequencies
# A mean speech spectrum falls by 40 to 50 dB up to 8 kHz, while the noise of int16 rounding lies 60 to 70 dB below its
# peak. What is fainter than this has been filtered away or was never there.
BANDWIDTH_DROP_DB = 55.0

_SMALLEST = 1e-16  # power; -160 dB, below what int16 can hold, so that silence has a number too


def clip_levels(waveforms: Waveforms) -> pd.DataFrame:
    """Level of every clip, in dB re amplitude 1.0 (dBFS; a sine of full scale has an RMS of -3 dBFS).

    Returns:
        one row per clip of *waveforms*, float64 but the last: ``rms_dbfs``; ``peak_dbfs``; ``floor_dbfs``, the 10th
        percentile of its 25 ms frames' levels; ``clipped_samples`` (int64), samples at the limits of int16
    """
    return pd.DataFrame(
        [_levels(waveforms[index]) for index in range(len(waveforms))],
        columns=["rms_dbfs", "peak_dbfs", "floor_dbfs", "clipped_samples"],
    )


def mean_spectrum(waveforms: Waveforms, indices: Iterable[int]) -> NDArray[np.float64]:
    """Long-term average spectrum of some clips, every clip with the same weight per second.

    Returns:
        dB re amplitude 1.0, shape ``(SPECTRUM_SIZE // 2 + 1,)``, for the frequencies of `spectrum_frequencies`;
        clips shorter than 32 ms do not count
    """
    window = np.hanning(SPECTRUM_SIZE)
    power = np.zeros(SPECTRUM_SIZE // 2 + 1)
    num_frames = 0
    for index in indices:
        samples = waveforms.float32(index)
        frames = samples[: len(samples) // SPECTRUM_SIZE * SPECTRUM_SIZE].reshape(-1, SPECTRUM_SIZE)
        power += (np.abs(np.fft.rfft(frames * window, axis=1)) ** 2).sum(axis=0)
        num_frames += len(frames)
    return _decibels(power / max(num_frames, 1) / window.sum() ** 2)


def spectrum_frequencies() -> NDArray[np.float64]:
    """Frequencies of `mean_spectrum` in Hz, 0 to 8,000."""
    return np.arange(SPECTRUM_SIZE // 2 + 1, dtype=np.float64) * (SAMPLE_RATE / SPECTRUM_SIZE)


def bandwidth_hz(spectrum_db: NDArray[np.float64]) -> float:
    """Highest frequency at which a mean spectrum lies less than 55 dB below its peak.

    Args:
        spectrum_db: as `mean_spectrum` gives it
    """
    audible = np.flatnonzero(spectrum_db > spectrum_db.max() - BANDWIDTH_DROP_DB)
    return float(spectrum_frequencies()[audible[-1]])


def _levels(clip: NDArray[np.int16]) -> tuple[float, float, float, int]:
    samples = clip.astype(np.float64) / FULL_SCALE
    frame = round(FRAME_SECONDS * SAMPLE_RATE)
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame) if len(samples) >= frame else samples[None]
    limits = np.iinfo(np.int16)
    clipped = int(np.count_nonzero((clip == limits.min) | (clip == limits.max)))
    rms, peak = _decibels(np.array([np.mean(samples**2), np.max(samples**2)]))
    floor = np.percentile(_decibels(np.mean(frames**2, axis=1)), FLOOR_PERCENTILE)
    return float(rms), float(peak), float(floor), clipped


def _decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    decibels: NDArray[np.float64] = 10 * np.log10(np.maximum(power, _SMALLEST))
    return decibels
