"""What features are asked for, as frozen values with a digest: equal settings share one cached file."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_data.errors import UserError
from ser_data.waveforms import SAMPLE_RATE

FEATURE_VERSION = 1  # raised when the same settings begin to mean other numbers; older files are then left unread

DELTA_FRAMES = 9  # frames that a Δ or ΔΔ looks at, as in librosa

NUM_CHROMA = 12
NUM_SHAPE = 2  # spectral centroid and bandwidth


@dataclass(frozen=True)
class _FrameSettings:
    """Framing, mel bands and level: what all features of frames have in common."""

    kind: ClassVar[str]

    sample_rate: int = SAMPLE_RATE
    window_seconds: float = 0.040
    hop_seconds: float = 0.020
    num_mels: int = 64
    max_hz: float | None = None
    deltas: int = 2
    rms_normalise: bool = False

    def __post_init__(self) -> None:
        _check_range("sample_rate", self.sample_rate, 4_000, 48_000, "hertz")
        _check_range("window_seconds", self.window_seconds, 0.005, 0.2, "seconds")
        _check_range("hop_seconds", self.hop_seconds, 0.002, 0.1, "seconds")
        _check_range("num_mels", self.num_mels, 4, 256, "bands")
        _check_range("deltas", self.deltas, 0, 2, "0 for none, 1 for Δ, 2 for Δ and ΔΔ")
        if self.max_hz is not None:
            _check_range("max_hz", self.max_hz, 500, self.sample_rate / 2, "hertz, at most half of sample_rate")

    @property
    def window_samples(self) -> int:
        """Samples of a window, and of its Fourier transform."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one frame to the next."""
        return round(self.hop_seconds * self.sample_rate)

    @property
    def highest_hz(self) -> float:
        """Upper edge of the highest mel band."""
        return self.sample_rate / 2 if self.max_hz is None else float(self.max_hz)

    @property
    def static_dim(self) -> int:
        """Columns before Δ and ΔΔ."""
        raise NotImplementedError

    @property
    def dim(self) -> int:
        """Columns of a frame: the static ones, then their Δ, then their ΔΔ."""
        return self.static_dim * (1 + self.deltas)

    def num_frames(self, num_samples: int) -> int:
        """Frames of a clip of *num_samples* samples at 16 kHz. Frames are centred; the first stands on sample 0."""
        return 1 + resampled_length(num_samples, self.sample_rate) // self.hop_samples

    def frames_in(self, seconds: float) -> int:
        """Frames whose centres lie in the first *seconds* of a clip: the ``max_frames`` for a maximum duration."""
        return max(1, math.ceil(seconds * self.sample_rate / self.hop_samples - 1e-9))

    def to_dict(self) -> dict[str, Any]:
        """The settings as values that JSON takes; `settings_from_dict` reads them back."""
        return {"kind": self.kind, **asdict(self)}

    def digest(self) -> str:
        """Hash of all fields, the kind and `FEATURE_VERSION`: 16 hexadecimal digits."""
        return _digest(self.to_dict())


@dataclass(frozen=True)
class _CepstralSettings(_FrameSettings):
    """What MFCC and hybrid features have in common."""

    num_coefficients: int = 40

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_range("num_coefficients", self.num_coefficients, 1, self.num_mels, "coefficients, at most num_mels")


@dataclass(frozen=True)
class MfccSettings(_CepstralSettings):
    """MFCC with Δ and ΔΔ, laid out ``[c0 … cN-1, Δc0 … ΔcN-1, ΔΔc0 …]``.

    A trial that wants fewer coefficients or no deltas takes `columns` of the same cached file: the DCT and the deltas
    treat each coefficient on its own, so that a selection equals a computation.

    Attributes:
        sample_rate: hertz that the clip is resampled to first
        window_seconds: Hann window; the Fourier transform is as long as the window
        hop_seconds: from frame to frame; 20 ms and not the usual 10, since a recurrent net's cost follows the frames
        num_mels: Slaney-style bands from 0 to `max_hz`
        max_hz: hertz, None for half of the sample rate
        num_coefficients: coefficients kept, c0 included
        deltas: 0 none, 1 Δ, 2 Δ and ΔΔ
        rms_normalise: scale every clip to the same root mean square, which takes its loudness out of c0
    """

    kind: ClassVar[str] = "mfcc"

    @property
    def static_dim(self) -> int:
        """Columns before Δ and ΔΔ."""
        return self.num_coefficients

    def columns(self, num_coefficients: int, deltas: int) -> NDArray[np.int64]:
        """Columns of the first *num_coefficients* and their *deltas* within frames of these settings.

        Raises:
            UserError: if these settings hold fewer

        >>> MfccSettings(num_coefficients=4, deltas=2).columns(2, 1).tolist()
        [0, 1, 4, 5]
        """
        _check_range("num_coefficients", num_coefficients, 1, self.num_coefficients, "as many as the features hold")
        _check_range("deltas", deltas, 0, self.deltas, "as many as the features hold")
        blocks = np.arange(1 + deltas, dtype=np.int64)[:, None] * self.num_coefficients
        return (blocks + np.arange(num_coefficients, dtype=np.int64)).ravel()


@dataclass(frozen=True)
class HybridSettings(_CepstralSettings):
    """13 MFCC, 12 chroma, spectral centroid and spectral bandwidth (both in hertz), then their Δ and ΔΔ if asked for.

    Attributes:
        num_coefficients: of the MFCC
        deltas: 0 by default: the feature set as it is known has none
        others: as in `MfccSettings`
    """

    kind: ClassVar[str] = "hybrid"

    num_coefficients: int = 13
    deltas: int = 0

    @property
    def static_dim(self) -> int:
        """Columns before Δ and ΔΔ."""
        return self.num_coefficients + NUM_CHROMA + NUM_SHAPE


@dataclass(frozen=True)
class LogMelSettings(_FrameSettings):
    """Log-mel energies in dB with their Δ and ΔΔ, laid out ``[m0 … mN-1, Δm0 … ΔmN-1, ΔΔm0 …]``.

    Three seconds at the default hop are 130 frames: with 128 bands the 128 × 130 picture of the notebooks that this
    project replaces (22,050 Hz, 2,048-sample windows every 512), on the 0 to 8 kHz that 16 kHz audio has.

    Attributes:
        window_seconds: 64 ms: 128 bands are narrow, and a shorter window would leave the lowest without a frequency
        hop_seconds: from frame to frame
        num_mels: Slaney-style bands from 0 to `max_hz`
        others: as in `MfccSettings`
    """

    kind: ClassVar[str] = "log_mel"

    window_seconds: float = 0.064
    hop_seconds: float = 0.02325
    num_mels: int = 128

    @property
    def static_dim(self) -> int:
        """Columns before Δ and ΔΔ."""
        return self.num_mels

    def columns(self, deltas: int) -> NDArray[np.int64]:
        """Columns of the energies and their *deltas* within frames of these settings.

        Raises:
            UserError: if these settings hold fewer deltas
        """
        _check_range("deltas", deltas, 0, self.deltas, "as many as the features hold")
        return np.arange(self.num_mels * (1 + deltas), dtype=np.int64)


@dataclass(frozen=True)
class StatisticsSettings:
    """Functionals of a clip's own frames: one row a clip, laid out functional by functional.

    Attributes:
        base: the frames they are taken of
        max_clip_seconds: only this much of a clip's start is looked at; None for all of it
    """

    kind: ClassVar[str] = "statistics"

    base: MfccSettings | HybridSettings = field(default_factory=MfccSettings)
    max_clip_seconds: float | None = None

    def __post_init__(self) -> None:
        if self.max_clip_seconds is not None:
            _check_range("max_clip_seconds", self.max_clip_seconds, 0.3, 60.0, "seconds, or None for whole clips")

    @property
    def dim(self) -> int:
        """Columns of the one row that a clip has."""
        return self.base.dim * len(FUNCTIONALS)

    def num_frames(self, num_samples: int) -> int:
        """1, whatever the clip's length."""
        return 1

    def to_dict(self) -> dict[str, Any]:
        """The settings as values that JSON takes; `settings_from_dict` reads them back."""
        return {"kind": self.kind, "base": self.base.to_dict(), "max_clip_seconds": self.max_clip_seconds}

    def digest(self) -> str:
        """Hash of all fields, the kind and `FEATURE_VERSION`: 16 hexadecimal digits."""
        return _digest({**self.to_dict(), "functionals": FUNCTIONALS})


FeatureSettings = MfccSettings | HybridSettings | LogMelSettings | StatisticsSettings

# Of each column over a clip's frames, in the order of the blocks of a row. The outer quantiles stand in for minimum and
# maximum, which hang on one frame.
QUANTILES = ("q05", "q25", "q50", "q75", "q95")
FUNCTIONALS = ("mean", "std", *QUANTILES, "skew", "slope")


def settings_from_dict(values: Mapping[str, Any]) -> FeatureSettings:
    """Settings out of what their ``to_dict`` gave.

    Raises:
        UserError: if the kind or a field is not known, or a value is out of range
    """
    fields = dict(values)
    kind = fields.pop("kind", None)
    kinds: dict[str, type[FeatureSettings]] = {
        known.kind: known for known in (MfccSettings, HybridSettings, LogMelSettings, StatisticsSettings)
    }
    if kind not in kinds:
        raise UserError(
            f"feature kind {kind!r} is not known. Known kinds: {', '.join(sorted(kinds))}. "
            "Use the version of this project that wrote the settings."
        )
    if kind == StatisticsSettings.kind and isinstance(fields.get("base"), Mapping):
        fields["base"] = settings_from_dict(fields["base"])
    try:
        return kinds[kind](**fields)
    except TypeError as error:
        raise UserError(
            f"the {kind} settings do not fit this version: {error}. Use the version of this project that wrote them."
        ) from error


def resampled_length(num_samples: int, sample_rate: int) -> int:
    """Samples at *sample_rate* of a clip that has *num_samples* at 16 kHz."""
    return max(1, round(num_samples * sample_rate / SAMPLE_RATE))


def _check_range(name: str, value: float, low: float, high: float, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not low <= value <= high:
        raise UserError(f"{name}={value!r} is not possible. Accepted: {low:g} to {high:g} ({meaning}). Change {name}.")


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps({"feature_version": FEATURE_VERSION, **values}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
