"""MFCC with Δ and ΔΔ of one clip."""

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.deltas import with_deltas
from ser_data.features.settings import MfccSettings
from ser_data.features.spectra import at_settings_rate, cepstrum, power_spectrum


@torch.inference_mode()
def compute(samples: NDArray[np.float32], settings: MfccSettings) -> NDArray[np.float32]:
    """MFCC, then their Δ and ΔΔ.

    The same numbers as ``librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=80))`` over
    ``librosa.feature.melspectrogram(…, n_fft=window, pad_mode="constant")``, and ``librosa.feature.delta`` of them.

    Args:
        samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz
        settings: framing, bands, coefficients, deltas

    Returns:
        float32, shape ``(settings.num_frames(num_samples), settings.dim)``

    Raises:
        UserError: if the settings leave a mel band without a frequency
    """
    power = power_spectrum(at_settings_rate(samples, settings), settings)
    return with_deltas(cepstrum(power, settings).numpy(), settings.deltas)
