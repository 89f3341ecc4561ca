"""Generated clips in CREMA-D's layout, small enough to prepare in milliseconds."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

WriteClip = Callable[..., Path]


def make_samples(seed: int, *, seconds: float = 0.5, rate: int = 16_000) -> NDArray[np.float32]:
    """A tone in noise, different for every seed: float32 in [-.5, .5]."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (150 + 40 * (seed % 20)) * times)
    return (tone + generator.uniform(-0.1, 0.1, len(times))).astype(np.float32)


@pytest.fixture
def write_clip() -> WriteClip:
    """Function that writes one clip (its sound drawn from its name) and returns its path."""

    def write(
        path: Path,
        *,
        samples: NDArray[np.float32] | None = None,
        seed: int | None = None,
        seconds: float = 0.5,
        rate: int = 16_000,
        channels: int = 1,
        subtype: str | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if samples is None:
            seed = sum(path.stem.encode()) * 31 + len(path.stem) if seed is None else seed
            samples = make_samples(seed, seconds=seconds, rate=rate)
        samples = np.round(samples * 32_768) / 32_768  # exact in 16 bits, so that WAV and FLAC hold the same
        if channels > 1:
            samples = np.repeat(samples[:, None], channels, axis=1)
        formats = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", None)}
        container, default_subtype = formats.get(path.suffix.lower(), (None, None))
        soundfile.write(path, samples, rate, format=container, subtype=subtype or default_subtype)
        return path

    return write


@pytest.fixture
def write_folder(write_clip: WriteClip) -> Callable[..., Path]:
    """Function that writes a folder of clips in CREMA-D's naming and returns it."""

    def write(
        folder: Path,
        actors: Sequence[str] = ("1001", "1002"),
        emotions: Sequence[str] = ("ANG", "HAP", "SAD"),
        sentences: Sequence[str] = ("DFA",),
        suffix: str = ".wav",
    ) -> Path:
        names = [
            f"{actor}_{sentence}_{emotion}_XX" for actor in actors for sentence in sentences for emotion in emotions
        ]
        for number, name in enumerate(names):
            write_clip(folder / f"{name}{suffix}", seed=number)
        return folder

    return write


LFS_POINTER = (
    "version https://git-lfs.github.com/spec/v1\n"
    "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
    "size 72044\n"
)


@pytest.fixture
def lfs_pointer() -> str:
    """What a clone without Git LFS holds in place of a clip."""
    return LFS_POINTER
