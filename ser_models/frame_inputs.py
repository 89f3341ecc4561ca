"""What a configuration asks of features and augmentation, for every family that reads frames."""

from dataclasses import dataclass

import numpy as np

from ser_data.augment import SpecAugment
from ser_data.features.settings import FeatureSettings, StatisticsSettings
from ser_data.scaler import ClipRange, Scaler, Scaling
from ser_models.config import ReadConfig

MOST_VIEWS = 8


@dataclass(frozen=True, eq=False)
class FrameInputs:
    """The features of a trial, and how its training clips are changed.

    Attributes:
        settings: the features that are computed and cached
        columns: int64, the columns of them that the trial reads
        max_clip_seconds: how much of a clip, from its start, is read
        spec_augment: masks on training batches; None for none
        waveform_views: augmented copies of each training clip
        clip_range: scale within each clip; None to scale by the training clips' mean and deviation
    """

    settings: FeatureSettings
    columns: np.ndarray
    max_clip_seconds: float
    spec_augment: SpecAugment | None
    waveform_views: int
    clip_range: ClipRange | None = None

    @property
    def max_frames(self) -> int | None:
        """Frames of a clip that are read; None where the features themselves look at the clip's start only."""
        if isinstance(self.settings, StatisticsSettings):
            return None
        return self.settings.frames_in(self.max_clip_seconds)

    def scaling(self, scaler: Scaler) -> Scaling:
        """How the chosen columns are scaled, *scaler* being of all columns."""
        if self.clip_range is not None:
            return self.clip_range
        return Scaler(scaler.mean[self.columns], scaler.std[self.columns])


def read_spec_augment(config: ReadConfig, *, blocks: int, widest_feature_mask: int) -> SpecAugment | None:
    """Masks of frames and columns, read from a configuration; None where ``spec_augment`` is False.

    Args:
        config: a configuration
        blocks: equal blocks that the columns consist of (static, Δ, ΔΔ)
        widest_feature_mask: in columns of a block
    """
    if not config.flag("spec_augment"):
        return None
    return read_masks(config, blocks=blocks, widest_feature_mask=widest_feature_mask)


def read_masks(config: ReadConfig, *, blocks: int, widest_feature_mask: int) -> SpecAugment:
    """As :func:`read_spec_augment`, where something else has said that there are masks."""
    # Each part is at least 1: a count of 0 would make its width a parameter that changes nothing.
    return SpecAugment(
        time_masks=config.integer("time_masks", low=1, high=8),
        time_width_frames=config.integer("time_mask_frames", low=1, high=100),
        feature_masks=config.integer("feature_masks", low=1, high=8),
        feature_width=config.integer("feature_mask_width", low=1, high=widest_feature_mask),
        blocks=blocks,
    )
