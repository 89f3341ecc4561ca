"""What a configuration of the MFCC family asks of features and augmentation."""

import numpy as np

from ser_data.features.settings import FUNCTIONALS, HybridSettings, MfccSettings, StatisticsSettings
from ser_models.config import ReadConfig
from ser_models.frame_inputs import MOST_VIEWS, FrameInputs, read_spec_augment
from ser_models.mfcc.architecture import STATISTICS_NETWORK

MOST_COEFFICIENTS, FEWEST_COEFFICIENTS = 40, 13
MOST_DELTAS = 2
WIDEST_FEATURE_MASK = 20


def read_inputs(config: ReadConfig, network: str) -> FrameInputs:
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
        return FrameInputs(
            settings=StatisticsSettings(base=base, max_clip_seconds=max_clip_seconds),
            columns=(blocks + columns).ravel(),
            max_clip_seconds=max_clip_seconds,
            spec_augment=None,
            waveform_views=0,
        )
    return FrameInputs(
        settings=base,
        columns=columns,
        max_clip_seconds=max_clip_seconds,
        spec_augment=read_spec_augment(config, blocks=1 + deltas, widest_feature_mask=WIDEST_FEATURE_MASK),
        waveform_views=config.integer("waveform_views", low=0, high=MOST_VIEWS),
    )
