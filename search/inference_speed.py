"""How fast an exported model is: seconds of computing per second of audio, measured once and kept beside it."""

import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

SPEED_FILE = "speed.json"
_CLIP_SECONDS = 3.0  # about a sentence of CREMA-D
_MOST_RUNS = 5
_ENOUGH_SECONDS = 0.5  # of runs; a slow model has said by then what it takes


@dataclass(frozen=True)
class Speed:
    """What was measured.

    Attributes:
        per_second: seconds of computing per second of audio, waveform in, probabilities out, one clip at a time
        clip_seconds: how long the clip was
        runs: how many the median is of, after one that warms up
        threads: that torch had
    """

    per_second: float
    clip_seconds: float
    runs: int
    threads: int


def measure_speed(folder: Path) -> Speed:
    """Measure the bundle in *folder* on the CPU, and leave what came of it there.

    Raises:
        UserError: the bundle cannot be loaded
    """
    import numpy as np
    import torch

    from search.run_folder import write_atomically
    from ser_models.bundle import SAMPLE_RATE, load_bundle

    bundle = load_bundle(folder)
    samples = np.random.default_rng(0).normal(scale=0.05, size=int(_CLIP_SECONDS * SAMPLE_RATE)).astype(np.float32)
    bundle.probabilities(samples)
    taken: list[float] = []
    while len(taken) < _MOST_RUNS and sum(taken) < _ENOUGH_SECONDS:
        started = time.perf_counter()
        bundle.probabilities(samples)
        taken.append(time.perf_counter() - started)
    speed = Speed(statistics.median(taken) / _CLIP_SECONDS, _CLIP_SECONDS, len(taken), torch.get_num_threads())
    write_atomically(folder / SPEED_FILE, json.dumps(asdict(speed), indent=2) + "\n")
    return speed


def read_speed(folder: Path) -> Speed | None:
    """What was measured of the bundle in *folder*, None where nobody did or the file is damaged."""
    try:
        return Speed(**json.loads((folder / SPEED_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
