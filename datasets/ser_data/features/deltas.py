"""Δ and ΔΔ: slopes and curvatures of each column over nine frames, as ``librosa.feature.delta`` defines them."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ser_data.features.settings import DELTA_FRAMES


def with_deltas(frames: NDArray[np.float32], orders: int) -> NDArray[np.float32]:
    """Append the columns' Savitzky-Golay derivatives.

    A line is fitted to nine frames for Δ and a parabola for ΔΔ. In the four frames at either end the fit to the
    nearest full window counts (librosa's ``mode="interp"``), whose derivative is that window's own. A clip of fewer
    than nine frames is first continued with its last frame.

    Args:
        frames: float32, shape ``(num_frames, dim)``
        orders: 0, 1 or 2

    Returns:
        float32, shape ``(num_frames, dim * (1 + orders))``
    """
    num_frames, dim = frames.shape
    missing = max(0, DELTA_FRAMES - num_frames)
    extended = np.concatenate([frames, np.repeat(frames[-1:], missing, axis=0)]) if missing else frames
    num_windows, edge = len(extended) - DELTA_FRAMES + 1, DELTA_FRAMES // 2
    columns = np.empty((len(extended), dim * (1 + orders)), dtype=np.float32)
    columns[:, :dim] = extended
    for order in range(1, orders + 1):
        derivative = np.zeros((num_windows, dim), dtype=np.float32)
        for position, weight in enumerate(_kernel(order)):
            derivative += weight * extended[position : position + num_windows]
        block = columns[:, order * dim : (order + 1) * dim]
        block[:edge], block[edge:-edge], block[-edge:] = derivative[0], derivative, derivative[-1]
    return columns[:num_frames]


@cache
def _kernel(order: int) -> NDArray[np.float32]:
    """Weights of nine frames that give the *order*-th derivative of the polynomial of that degree fitted to them."""
    positions = np.arange(DELTA_FRAMES) - DELTA_FRAMES // 2
    fit = np.linalg.pinv(np.vander(positions, order + 1, increasing=True))
    factorial = 1 if order == 1 else 2
    return np.asarray(factorial * fit[order], dtype=np.float32)
