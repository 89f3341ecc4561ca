"""What a configuration of the mel family asks of spectrograms and augmentation."""

from ser_data.features.settings import LogMelSettings
from ser_data.scaler import ClipRange
from ser_models.config import ConfigError, ReadConfig
from ser_models.frame_inputs import MOST_VIEWS, FrameInputs, read_spec_augment

CHANNELS = (1, 3)  # log-mel alone, or with Δ and ΔΔ
SCALINGS = ("clip", "corpus")  # each clip to its own range, or by the training clips' mean and deviation
WIDEST_FEATURE_MASK = 64  # bands


def read_inputs(config: ReadConfig) -> FrameInputs:
    """Spectrograms and augmentation, read from a configuration.

    Raises:
        ConfigError: if a parameter is missing or out of range
    """
    channels = int(config.take("channels", choices=CHANNELS))  # type: ignore[arg-type]  # the choices are whole
    settings = read_spectrogram(config, deltas=channels - 1)
    return FrameInputs(
        settings=settings,
        columns=settings.columns(channels - 1),
        max_clip_seconds=config.number("max_clip_seconds", low=1.0, high=5.0),
        clip_range=ClipRange(channels) if config.choice("scaling", SCALINGS) == "clip" else None,
        spec_augment=read_spec_augment(config, blocks=channels, widest_feature_mask=WIDEST_FEATURE_MASK),
        waveform_views=config.integer("waveform_views", low=0, high=MOST_VIEWS),
    )


def read_image(config: ReadConfig) -> FrameInputs:
    """Spectrograms as pictures of one size, each clip in its own range, without augmentation."""
    settings = read_spectrogram(config, deltas=0)
    return FrameInputs(
        settings=settings,
        columns=settings.columns(0),
        max_clip_seconds=config.number("max_clip_seconds", low=1.0, high=5.0),
        clip_range=ClipRange(1),
        spec_augment=None,
        waveform_views=0,
    )


def read_spectrogram(config: ReadConfig, *, deltas: int) -> LogMelSettings:
    """Framing and bands, read from a configuration; files with and without deltas are cached apart.

    Raises:
        ConfigError: if a parameter is missing or out of range, or a band would have no frequency
    """
    settings = LogMelSettings(
        num_mels=config.integer("num_mels", low=16, high=256),
        window_seconds=config.number("window_seconds", low=0.01, high=0.2),
        hop_seconds=config.number("hop_seconds", low=0.005, high=0.1),
        rms_normalise=config.flag("rms_normalise"),
        deltas=deltas,
    )
    if settings.hop_samples > settings.window_samples:
        raise ConfigError(
            f"The mel configuration has hop_seconds = {settings.hop_seconds} and window_seconds = "
            f"{settings.window_seconds}: between two windows a part of the clip would be left out. Accepted is a hop "
            "up to the window. Change one of them in the search space."
        )
    return settings
