"""The packed waveforms of a corpus: one file of 16 kHz mono int16 samples, mapped and never copied whole."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000  # Hz; the rate of every packed clip, whatever the file had
SAMPLE_TYPE = np.dtype("<i2")  # little-endian on every machine, so that a prepared folder can be moved
FULL_SCALE = 32_768.0  # int16 value of amplitude 1.0


class Waveforms:
    """Clips as slices of one mapped file.

    The file is mapped on first use. A pickled instance carries the path and not the samples.

    Args:
        path: file of little-endian int16 samples at 16 kHz
        offsets: int64, shape ``(num_clips,)``, first sample of each clip
        num_samples: int64, shape ``(num_clips,)``, length of each clip in samples
    """

    def __init__(self, path: Path, offsets: NDArray[np.int64], num_samples: NDArray[np.int64]) -> None:
        self.path = Path(path)
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.num_samples = np.asarray(num_samples, dtype=np.int64)
        self._mapped: NDArray[np.int16] | None = None

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, index: int) -> NDArray[np.int16]:
        """One clip: int16, shape ``(num_samples,)``, a read-only view of the mapped file."""
        offset, length = int(self.offsets[index]), int(self.num_samples[index])
        return self._samples()[offset : offset + length]

    def float32(self, index: int) -> NDArray[np.float32]:
        """One clip: float32 in [-1, 1), shape ``(num_samples,)``, a copy of its own."""
        scaled: NDArray[np.float32] = self[index].astype(np.float32)
        scaled /= np.float32(FULL_SCALE)
        return scaled

    def unmap(self) -> None:
        """Let go of the file: what was read of it no longer counts as this process's memory. The next read maps it."""
        self._mapped = None

    def _samples(self) -> NDArray[np.int16]:
        if self._mapped is None:
            if self.path.stat().st_size == 0:  # an empty file cannot be mapped
                self._mapped = np.zeros(0, dtype=SAMPLE_TYPE)
            else:
                self._mapped = np.memmap(self.path, dtype=SAMPLE_TYPE, mode="r").view(np.ndarray)
        return self._mapped

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_mapped": None}


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Quantise float samples to int16.

    Args:
        samples: float32, shape ``(num_samples,)``; what lies outside [-1, 1) is clipped

    Returns:
        little-endian int16, same shape; exact for samples that came from 16-bit audio
    """
    scaled = np.rint(samples * np.float32(FULL_SCALE))
    quantised: NDArray[np.int16] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(SAMPLE_TYPE)
    return quantised
