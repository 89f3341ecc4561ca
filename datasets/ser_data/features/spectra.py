"""From samples to power spectra, log-mel energies and cepstra, by torchaudio with librosa's conventions."""

from functools import lru_cache

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from ser_data.errors import UserError
from ser_data.features.settings import HybridSettings, LogMelSettings, MfccSettings, resampled_length
from ser_data.waveforms import SAMPLE_RATE

_FrameSettings = MfccSettings | HybridSettings | LogMelSettings

TOP_DB = 80.0  # below a clip's loudest mel value, floor of its others: librosa's default, taken clip by clip
POWER_FLOOR = 1e-10
NORMALISED_RMS = 0.1  # of full scale, after RMS normalisation; speech peaks lie some 15 dB above
_SILENT_RMS = 1e-6  # below it a clip is left as it is: scaling would make noise of rounding errors


def at_settings_rate(samples: NDArray[np.float32], settings: _FrameSettings) -> NDArray[np.float32]:
    """A clip as the settings want it: resampled, and scaled if they normalise.

    Args:
        samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz
        settings: sample rate and normalisation

    Returns:
        float32, shape ``(resampled_length(num_samples),)``
    """
    if settings.sample_rate != SAMPLE_RATE:
        import soxr  # only a search over sample rates needs it

        wanted = resampled_length(len(samples), settings.sample_rate)
        samples = soxr.resample(samples, SAMPLE_RATE, settings.sample_rate)
        samples = np.pad(samples, (0, max(0, wanted - len(samples))))[:wanted]  # soxr may round the other way
    if settings.rms_normalise:
        rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        if rms > _SILENT_RMS:
            samples = samples * np.float32(NORMALISED_RMS / rms)
    return samples


def power_spectrum(samples: NDArray[np.float32], settings: _FrameSettings) -> torch.Tensor:
    """Power spectrum of centred Hann windows; what lies beyond the clip's ends counts as zero.

    Args:
        samples: float32, shape ``(num_samples,)``, at the settings' rate
        settings: window and hop

    Returns:
        float32, shape ``(bins, frames)``
    """
    spectrum = torch.stft(
        torch.from_numpy(np.ascontiguousarray(samples)),
        settings.window_samples,
        settings.hop_samples,
        window=_window(settings.window_samples),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    return spectrum.real.square() + spectrum.imag.square()  # ten times faster than abs().square()


def mel_decibels(power: torch.Tensor, settings: _FrameSettings) -> torch.Tensor:
    """Log-mel energies: Slaney mel bands, dB re 1.0, at least `TOP_DB` below the clip's loudest.

    Args:
        power: float32, shape ``(bins, frames)``
        settings: bands

    Returns:
        float32, shape ``(frames, num_mels)``
    """
    mel = power.T @ _mel_bands(settings)
    decibels: torch.Tensor = torchaudio.functional.amplitude_to_DB(mel, 10.0, POWER_FLOOR, 0.0, TOP_DB)
    return decibels


def cepstrum(power: torch.Tensor, settings: MfccSettings | HybridSettings) -> torch.Tensor:
    """Mel-frequency cepstral coefficients: orthonormal DCT-II of `mel_decibels`.

    Args:
        power: float32, shape ``(bins, frames)``
        settings: bands and coefficients

    Returns:
        float32, shape ``(frames, num_coefficients)``
    """
    coefficients: torch.Tensor = mel_decibels(power, settings) @ _dct(settings.num_coefficients, settings.num_mels)
    return coefficients


@lru_cache(maxsize=8)
def _window(num_samples: int) -> torch.Tensor:
    return torch.hann_window(num_samples)


@lru_cache(maxsize=8)
def _dct(num_coefficients: int, num_mels: int) -> torch.Tensor:
    basis: torch.Tensor = torchaudio.functional.create_dct(num_coefficients, num_mels, norm="ortho")
    return basis


@lru_cache(maxsize=8)
def _mel_bands(settings: _FrameSettings) -> torch.Tensor:
    """float32, shape ``(bins, num_mels)``."""
    bands: torch.Tensor = torchaudio.functional.melscale_fbanks(
        settings.window_samples // 2 + 1,
        0.0,
        settings.highest_hz,
        settings.num_mels,
        settings.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    empty = int((bands.max(dim=0).values == 0).sum())
    if empty:
        raise UserError(
            f"num_mels={settings.num_mels} leaves {empty} bands without a frequency at "
            f"window_seconds={settings.window_seconds} and sample_rate={settings.sample_rate} (one bin is "
            f"{settings.sample_rate / settings.window_samples:.0f} Hz). Give fewer bands or a longer window."
        )
    return bands
