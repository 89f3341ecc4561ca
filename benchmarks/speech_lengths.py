"""Noise with the durations of CREMA-D's clips, for benchmarks whose time depends on nothing else."""

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # hertz
# Quantiles of CREMA-D's 7,442 durations in seconds (datasets/README.md). They come in steps of a thirtieth of a second.
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
_SECONDS = (1.27, 2.2, 2.5, 2.84, 3.47, 4.04, 5.0)
_STEP = 1 / 30


class NoiseCorpus:
    """Clips of noise, with the part of `ser_data.corpus.Corpus` that prefixes are computed from.

    Args:
        num_clips: how many
        seed: of durations and samples
    """

    manifest_hash = "noise"
    name = "noise"

    def __init__(self, num_clips: int, *, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        seconds = np.interp(generator.random(num_clips), _QUANTILES, _SECONDS)
        self.num_samples: NDArray[np.int64] = (np.round(seconds / _STEP) * _STEP * SAMPLE_RATE).astype(np.int64)
        self._seed = seed
        self.waveforms = self

    @property
    def seconds(self) -> float:
        """Of all clips together."""
        return float(self.num_samples.sum()) / SAMPLE_RATE

    def __len__(self) -> int:
        return len(self.num_samples)

    def float32(self, index: int) -> NDArray[np.float32]:
        """One clip: float32 in [-1, 1], shape ``(num_samples,)``."""
        generator = np.random.default_rng([self._seed, index])
        samples: NDArray[np.float32] = 0.1 * generator.standard_normal(self.num_samples[index], dtype=np.float32)
        return samples.clip(-1, 1)

    def unmap(self) -> None:
        """Nothing is mapped."""
