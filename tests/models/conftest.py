"""A small prepared corpus whose emotions can be learnt, and tasks and configurations on it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from ser_models.task import Task

ACTORS = ("1001", "1002", "1003", "1004", "1005", "1015")  # tfds: five that train, one that validates
EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")

_ALL = {
    "features": "mfcc",
    "num_coefficients": 20,
    "deltas": 1,
    "rms_normalise": False,
    "max_clip_seconds": 4.0,
    "activation": "relu",
    "dropout": 0.1,
    "optimiser": "adamw",
    "learning_rate": 3e-3,
    "weight_decay": 0.01,
    "batch_size": 8,
    "schedule": "cosine",
    "label_smoothing": 0.1,
    "class_weights": False,
}
_OF_FRAMES = {
    "spec_augment": True,
    "time_masks": 1,
    "time_mask_frames": 10,
    "feature_masks": 1,
    "feature_mask_width": 3,
    "waveform_views": 0,
}
_CONVOLUTIONS = {"channels": 8, "blocks": 1, "kernel_size": 3}
_RECURRENT = {"hidden_units": 8, "recurrent_layers": 1}
_OF_NETWORKS: dict[str, dict[str, Any]] = {
    "statistics_mlp": {"hidden_units": 16, "hidden_layers": 1},
    "bilstm": {**_OF_FRAMES, **_RECURRENT, "pooling": "mean"},
    "cnn": {**_OF_FRAMES, **_CONVOLUTIONS, "pooling": "mean"},
    "crnn": {**_OF_FRAMES, **_CONVOLUTIONS, **_RECURRENT, "pooling": "mean"},
    "crnn_attention": {**_OF_FRAMES, **_CONVOLUTIONS, **_RECURRENT},
}


@pytest.fixture(scope="session")
def configuration() -> Callable[..., dict[str, Any]]:
    """``configuration(network, **changes)``: a whole small configuration; a change to ... removes the parameter."""

    def make(network: str, /, **changes: Any) -> dict[str, Any]:
        values = {**_ALL, "network": network, **_OF_NETWORKS[network], **changes}
        return {name: value for name, value in values.items() if value is not ...}

    return make


@pytest.fixture(scope="session")
def emotional_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared: 6 actors × 6 emotions × 2 sentences of 1.1 to 1.5 s, less four angry clips, so that classes differ."""
    from crema_d.prepare import prepare

    raw = tmp_path_factory.mktemp("emotional") / "raw"
    raw.mkdir()
    for row, actor in enumerate(ACTORS):
        for column, emotion in enumerate(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")):
            for number, sentence in enumerate(("DFA", "ITS")):
                if (emotion, sentence) == ("ANG", "ITS") and row < 4:
                    continue
                rng = np.random.default_rng([row, column, number])
                samples = _emotional(100.0 + 10 * row, column, 1.1 + 0.4 * rng.random(), rng)
                soundfile.write(raw / f"{actor}_{sentence}_{emotion}_XX.wav", samples, 16_000, "PCM_16")
    out = raw.parent / "prepared"
    prepare(raw, out, jobs=1, progress=False)
    return out


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of the session, which then compute each feature once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def task(emotional_corpus: Path, cache_dir: Path) -> Task:
    """All emotions of `emotional_corpus` under tfds, on the CPU."""
    return Task(
        corpus_folder=str(emotional_corpus),
        split="tfds",
        emotions=EMOTIONS,
        seed=0,
        cache_dir=str(cache_dir),
        cache_gb=1.0,
        device="cpu",
    )


def _emotional(pitch: float, emotion: int, seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """The actor is in the pitch; the emotion in the tilt of the harmonics and in a tremor."""
    time = np.arange(round(seconds * 16_000)) / 16_000
    harmonics = [np.sin(2 * np.pi * pitch * n * time) * n ** (-0.4 * emotion) for n in range(1, 20)]
    tremor = 1 + 0.1 * emotion * np.sin(2 * np.pi * 5 * time)
    samples = 0.02 * tremor * np.sum(harmonics, axis=0) + 0.01 * rng.standard_normal(len(time))
    return np.clip(samples, -0.99, 0.99).astype(np.float32)
