"""MFCC, chroma, spectral centroid and spectral bandwidth of one clip."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.deltas import with_deltas
from ser_data.features.settings import NUM_CHROMA, HybridSettings
from ser_data.features.spectra import at_settings_rate, cepstrum, power_spectrum

_SMALLEST = float(np.finfo(np.float32).tiny)  # what librosa.util.normalize takes for zero


@torch.inference_mode()
def compute(samples: NDArray[np.float32], settings: HybridSettings) -> NDArray[np.float32]:
    """MFCC, 12 chroma (C first), centroid and bandwidth in hertz; then Δ and ΔΔ of all, where asked for.

    Chroma takes a fixed tuning of 0 (A4 = 440 Hz): librosa's default estimates one for each clip, which costs more than
    all the rest and means nothing for speech. Each frame's chroma is divided by its largest value, as in librosa.

    Args:
        samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz
        settings: framing, bands, coefficients, deltas

    Returns:
        float32, shape ``(settings.num_frames(num_samples), settings.dim)``; chroma, centroid and bandwidth of a silent
        frame are 0

    Raises:
        UserError: if the settings leave a mel band without a frequency
    """
    power = power_spectrum(at_settings_rate(samples, settings), settings)
    chroma = power.T @ _chroma_bands(settings.window_samples, settings.sample_rate)
    largest = chroma.amax(dim=1, keepdim=True)
    chroma = chroma / torch.where(largest < _SMALLEST, 1.0, largest)
    columns = torch.cat([cepstrum(power, settings), chroma, _centroid_and_bandwidth(power, settings)], dim=1)
    return with_deltas(columns.numpy(), settings.deltas)


def _centroid_and_bandwidth(power: torch.Tensor, settings: HybridSettings) -> torch.Tensor:
    """Mean and standard deviation of frequency, weighted by magnitude: float32, shape ``(frames, 2)``."""
    magnitude = power.sqrt().T  # (frames, bins)
    total = magnitude.sum(dim=1, keepdim=True)
    weights = magnitude / torch.where(total < _SMALLEST, 1.0, total)
    hertz = torch.arange(power.shape[0]) * (settings.sample_rate / settings.window_samples)
    centroid = (weights @ hertz)[:, None]
    bandwidth = (weights * (hertz - centroid).square()).sum(dim=1, keepdim=True).sqrt()
    return torch.cat([centroid, bandwidth], dim=1)


@lru_cache(maxsize=8)
def _chroma_bands(window_samples: int, sample_rate: int) -> torch.Tensor:
    """float32, shape ``(bins, 12)``."""
    import librosa.filters  # 2 s and numba: only for whoever computes these features, and then once

    bands = librosa.filters.chroma(sr=sample_rate, n_fft=window_samples, n_chroma=NUM_CHROMA, tuning=0.0)
    return torch.from_numpy(np.ascontiguousarray(bands.T, dtype=np.float32))
