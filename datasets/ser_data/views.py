"""Views: training clips whose samples were changed by stretch, pitch, shift and noise, the same for the same seed.

No torch here: the processes that make views need none, and stay small.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ser_data.errors import UserError
from ser_data.seeds import derive_seed
from ser_data.waveforms import SAMPLE_RATE, Waveforms


@dataclass(frozen=True)
class ViewSettings:
    """How a view of a clip differs from the clip. Each effect is applied or not, by its probability, in this order.

    Attributes:
        count: views of each clip
        stretch_probability: of a change of tempo that keeps the pitch
        max_stretch: tempo is drawn from 1 / max_stretch to max_stretch
        pitch_probability: of a change of pitch that keeps the tempo
        max_semitones: pitch moves by that much up or down
        shift_probability: of a move in time; what is uncovered is silent
        max_shift_seconds: the clip moves by that much forwards or backwards
        noise_probability: of white noise
        min_snr_db: loudest noise, below the clip's root mean square
        max_snr_db: faintest noise
    """

    count: int = 2
    stretch_probability: float = 0.5
    max_stretch: float = 1.15
    pitch_probability: float = 0.5
    max_semitones: float = 2.0
    shift_probability: float = 0.5
    max_shift_seconds: float = 0.1
    noise_probability: float = 0.5
    min_snr_db: float = 10.0
    max_snr_db: float = 30.0

    def __post_init__(self) -> None:
        ranges = {
            "count": (0, 64),
            "stretch_probability": (0, 1),
            "max_stretch": (1, 2),
            "pitch_probability": (0, 1),
            "max_semitones": (0, 12),
            "shift_probability": (0, 1),
            "max_shift_seconds": (0, 10),
            "noise_probability": (0, 1),
            "min_snr_db": (-20, 100),
            "max_snr_db": (self.min_snr_db, 100),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not low <= value <= high:
                raise UserError(f"{name}={value!r} is not possible. Accepted: {low:g} to {high:g}. Change {name}.")


@dataclass(frozen=True, eq=False)
class Views:
    """The views of the training clips: the same samples for the same settings, seed, clip and number of the view.

    Attributes:
        settings: how they differ from the clips
        indices: int64, the training clips in the corpus
        seed: of the whole search and not of a trial, or else every trial would have its own
    """

    settings: ViewSettings
    indices: NDArray[np.int64]
    seed: int

    def samples(self, samples: NDArray[np.float32], *, clip: int, view: int) -> NDArray[np.float32]:
        """One view of one clip.

        Args:
            samples: mono float32, shape ``(num_samples,)``, 16 kHz
            clip: its index
            view: 0 for the first

        Returns:
            float32, shape ``(other_num_samples,)``; a stretched clip has its own length
        """
        rng = np.random.default_rng(derive_seed(self.seed, "view", view, clip))
        return _changed(samples, self.settings, rng)

    def key(self, view: int) -> dict[str, Any]:
        """What tells this view from any other, as values that JSON takes. A larger count changes none of them."""
        settings = {name: value for name, value in asdict(self.settings).items() if name != "count"}
        indices = hashlib.sha256(np.sort(self.indices).astype("<i8").tobytes()).hexdigest()
        return {"settings": settings, "indices": indices, "seed": self.seed, "number": view}

    def digest(self, view: int) -> str:
        """Hash of `key`: 12 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.key(view), sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class ViewSamples:
    """Makes the samples of one view of clips by their indices; another process may be handed it.

    Attributes:
        waveforms: the corpus's
        views: how clips are changed
        view: number of the view
    """

    waveforms: Waveforms
    views: Views
    view: int

    def __call__(self, indices: Sequence[int]) -> list[NDArray[np.float32]]:
        """float32, shape ``(num_samples,)``, of each clip."""
        return [self.views.samples(self.waveforms.float32(clip), clip=clip, view=self.view) for clip in indices]


def _changed(samples: NDArray[np.float32], settings: ViewSettings, rng: np.random.Generator) -> NDArray[np.float32]:
    # Parameters are drawn here and the library's transforms take them as given: it draws from the process's global
    # generators, which neither a seed of ours nor threads could share.
    from audiomentations import PitchShift, Shift, TimeStretch  # pulls in librosa: only for whoever computes views

    applied = rng.random(4) < (
        settings.stretch_probability,
        settings.pitch_probability,
        settings.shift_probability,
        settings.noise_probability,
    )
    stretch = settings.max_stretch ** rng.uniform(-1, 1)
    semitones, shift = rng.uniform(-1, 1, 2) * (settings.max_semitones, settings.max_shift_seconds)
    snr_db = rng.uniform(settings.min_snr_db, settings.max_snr_db)
    if applied[0]:
        samples = _apply(TimeStretch(leave_length_unchanged=False), samples, rate=float(stretch))
    if applied[1]:
        samples = _apply(PitchShift(), samples, num_semitones=float(semitones))
    if applied[2]:
        samples = _apply(Shift(shift_unit="seconds", rollover=False), samples, shift_amount=float(shift))
    if applied[3]:
        noise_rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10 ** (-snr_db / 20)
        samples = samples + np.float32(noise_rms) * rng.standard_normal(len(samples), dtype=np.float32)
    return samples


def _apply(transform: Any, samples: NDArray[np.float32], **parameters: float) -> NDArray[np.float32]:
    transform.parameters = {"should_apply": True, **parameters}
    transform.freeze_parameters()
    changed: NDArray[np.float32] = np.asarray(transform(samples, SAMPLE_RATE), dtype=np.float32)
    return changed
