"""What every test gets: an environment of its own, no network, generated speech-like audio, and reasons for skips."""

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

# Before torch or Ray is imported, and inherited by every process that a test starts.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",  # tests share few cores; many threads on tiny arrays only wait for each other
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "WANDB_MODE": "disabled",  # a test of tracking asks for offline itself
    "WANDB_SILENT": "true",
    "WANDB_ERROR_REPORTING": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray says about it is a warning on every worker
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "COLUMNS": "120",  # tables wrap the same way everywhere
    "NO_COLOR": "1",  # messages are compared as plain text
}
# The developer's own: a test must neither join their cluster nor write to their account.
_REMOVED = (
    "RAY_ADDRESS",
    "WANDB_API_KEY",
    "WANDB_ENTITY",
    "WANDB_PROJECT",
    "WANDB_SWEEP_ID",
    "WANDB_RUN_ID",
    "WANDB_BASE_URL",
    "FORCE_COLOR",
    "HF_TOKEN",
    "PYTHONOPTIMIZE",
)

os.environ.update(_ENVIRONMENT)
for _name in _REMOVED:
    os.environ.pop(_name, None)

TRAIN_ACTORS = ("1001", "1002", "1003", "1004")  # as the splits tfds has them
VALIDATION_ACTORS = ("1015", "1020")
TEST_ACTORS = ("1010", "1013")
TONE_ACTORS = (*TRAIN_ACTORS, *VALIDATION_ACTORS, *TEST_ACTORS)
TONE_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
TONE_SENTENCES = ("DFA", "IEO")


class NetworkUseError(RuntimeError):
    """A test tried to reach another machine. No OSError, so that no retry loop swallows it."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP to a public address fails and names it; this machine and private networks stay open (Ray, HTTP fakes)."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.type == socket.SOCK_STREAM and isinstance(address, tuple) and _is_public(str(address[0])):
            raise NetworkUseError(f"a test opened a connection to {address[0]}:{address[1]}; use a local fake")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:  # a name; what it resolves to comes through here again where the caller resolves it first
        return host not in ("localhost", socket.gethostname())


@pytest.fixture(autouse=True)
def private_homes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries keep their files under this test session's folder and not in the developer's home."""
    homes = tmp_path_factory.getbasetemp() / "homes"
    for name, folder in (
        ("WANDB_DIR", "wandb"),
        ("WANDB_CACHE_DIR", "wandb"),
        ("WANDB_CONFIG_DIR", "wandb"),
        ("WANDB_DATA_DIR", "wandb"),
        ("XDG_CACHE_HOME", "cache"),
        ("HF_HOME", "huggingface"),
    ):
        (homes / folder).mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv(name, str(homes / folder))
    monkeypatch.setenv("NETRC", str(homes / "no-netrc"))


@pytest.fixture(scope="session")
def tone() -> Callable[..., NDArray[np.float32]]:
    """``tone(frequency, seconds, rate=16_000, seed=0)``: a harmonic tone in light noise, float32, within ±0.5."""
    return _tone


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw folder in CREMA-D's naming: 8 actors × 6 emotions × 2 sentences = 96 clips of 0.5 to 0.8 s, 16 kHz WAV.

    The actors are four of tfds's training, two of its validation and two of its test actors. Pitch tells the
    actor and loudness the emotion, so that something can be learnt. Read only; copy it before changing anything.
    """
    folder = tmp_path_factory.mktemp("tone_corpus")
    for row, actor in enumerate(TONE_ACTORS):
        for column, emotion in enumerate(TONE_EMOTIONS):
            for sentence in TONE_SENTENCES:
                seed = 100 * row + 10 * column + TONE_SENTENCES.index(sentence)
                samples = _tone(110.0 + 15 * row + 40 * column, 0.5 + 0.3 * (seed % 7) / 7, seed=seed)
                level = "MD" if sentence == "IEO" and emotion != "NEU" else "XX"
                soundfile.write(folder / f"{actor}_{sentence}_{emotion}_{level}.wav", samples, 16_000, "PCM_16")
    return folder


@pytest.fixture(scope="session")
def prepared_tone_corpus(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tone_corpus`, prepared: a folder for ``open_corpus``. Read only."""
    from crema_d.prepare import prepare

    out = tmp_path_factory.mktemp("prepared") / "tone_corpus"
    prepare(tone_corpus, out, jobs=1, progress=False)
    return out


@pytest.fixture
def crema_d_root() -> Path:
    """The folder with real CREMA-D; skips the test where $CREMA_D_ROOT names none."""
    if "CREMA_D_ROOT" not in os.environ:
        pytest.skip("CREMA_D_ROOT is not set: this test wants real CREMA-D audio")
    root = Path(os.environ["CREMA_D_ROOT"])
    if not root.is_dir():
        pytest.skip(f"CREMA_D_ROOT={root} is not a folder")
    return root


def _tone(frequency: float, seconds: float, rate: int = 16_000, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    harmonics = [np.sin(2 * np.pi * frequency * number * time) / number for number in (1, 2, 3, 4)]
    samples = 0.15 * np.sum(harmonics, axis=0) + 0.01 * rng.standard_normal(len(time))
    return samples.astype(np.float32)
