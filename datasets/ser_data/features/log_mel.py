"""Log-mel energies with Δ and ΔΔ of one clip."""

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.deltas import with_deltas
from ser_data.features.settings import LogMelSettings
from ser_data.features.spectra import at_settings_rate, mel_decibels, power_spectrum


@torch.inference_mode()
def compute(samples: NDArray[np.float32], settings: LogMelSettings) -> NDArray[np.float32]:
    """Log-mel energies in dB, then their Δ and ΔΔ.

    The same numbers as ``librosa.power_to_db(mel, top_db=80)`` over ``librosa.feature.melspectrogram(…, n_fft=window,
    pad_mode="constant")``, and ``librosa.feature.delta`` of them.

    Args:
        samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz
        settings: framing, bands, deltas

    Returns:
        float32, shape ``(settings.num_frames(num_samples), settings.dim)``

    Raises:
        UserError: if the settings leave a mel band without a frequency
    """
    power = power_spectrum(at_settings_rate(samples, settings), settings)
    return with_deltas(mel_decibels(power, settings).numpy(), settings.deltas)
