"""What a configuration asks of features and augmentation."""

from dataclasses import dataclass

import numpy as np

from ser_data.augment import SpecAugment
from ser_data.features.settings import FUNCTIONALS, FeatureSettings, HybridSettings, MfccSettings, StatisticsSettings
from ser_models.config import ReadConfig
from ser_models.mfcc.architecture import STATISTICS_NETWORK

MOST_COEFFICIENTS, FEWEST_COEFFICIENTS = 40, 13
MOST_DELTAS = 2
MOST_VIEWS = 8


@dataclass(frozen=True, eq=False)
class Inputs:
    """The features of a trial, and how its training clips are changed.

    Attributes:
        settings: the features that are computed and cached
        columns: int64, the columns of them that the trial reads
        max_clip_seconds: how much of a clip, from its start, is read
        spec_augment: masks on training batches; None for none
        waveform_views: augmented copies of each training clip
    """

    settings: FeatureSettings
    columns: np.ndarray
    max_clip_seconds: float
    spec_augment: SpecAugment | None
    waveform_views: int

    @property
    def max_frames(self) -> int | None:
        """Frames of a clip that are read; None where the features themselves look at the clip's start only."""
        if isinstance(self.settings, StatisticsSettings):
            return None
        return self.settings.frames_in(self.max_clip_seconds)


def read_inputs(config: ReadConfig, network: str) -> Inputs:
    """Features and augmentation for *network*, read from a configuration.

    All coefficients and deltas are cached once; a trial with fewer of them reads fewer columns of the same file.

    Raises:
        ConfigError: if a parameter is missing or out of range
    """
    kind = config.choice("features", (MfccSettings.kind, HybridSettings.kind))
    rms_normalise = config.flag("rms_normalise")
    max_clip_seconds = config.number("max_clip_seconds", low=1.0, high=5.0)
    base: MfccSettings | HybridSettings
    if kind == MfccSettings.kind:
        base = MfccSettings(num_coefficients=MOST_COEFFICIENTS, deltas=MOST_DELTAS, rms_normalise=rms_normalise)
        deltas = config.integer("deltas", low=0, high=MOST_DELTAS)
        coefficients = config.integer("num_coefficients", low=FEWEST_COEFFICIENTS, high=MOST_COEFFICIENTS)
        columns = base.columns(coefficients, deltas)
    else:
        base, deltas = HybridSettings(rms_normalise=rms_normalise), 0
        columns = np.arange(base.dim, dtype=np.int64)
    if network == STATISTICS_NETWORK:
        blocks = np.arange(len(FUNCTIONALS), dtype=np.int64)[:, None] * base.dim
        return Inputs(
            settings=StatisticsSettings(base=base, max_clip_seconds=max_clip_seconds),
            columns=(blocks + columns).ravel(),
            max_clip_seconds=max_clip_seconds,
            spec_augment=None,
            waveform_views=0,
        )
    return Inputs(
        settings=base,
        columns=columns,
        max_clip_seconds=max_clip_seconds,
        spec_augment=_read_spec_augment(config, blocks=1 + deltas),
        waveform_views=config.integer("waveform_views", low=0, high=MOST_VIEWS),
    )


def _read_spec_augment(config: ReadConfig, *, blocks: int) -> SpecAugment | None:
    # Each part is at least 1: a count of 0 would make its width a parameter that changes nothing.
    if not config.flag("spec_augment"):
        return None
    return SpecAugment(
        time_masks=config.integer("time_masks", low=1, high=8),
        time_width_frames=config.integer("time_mask_frames", low=1, high=100),
        feature_masks=config.integer("feature_masks", low=1, high=8),
        feature_width=config.integer("feature_mask_width", low=1, high=20),
        blocks=blocks,
    )
