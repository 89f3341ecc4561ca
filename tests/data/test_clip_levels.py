"""Levels and spectra against signals whose values are known."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from ser_data.clip_levels import SPECTRUM_SIZE, bandwidth_hz, clip_levels, mean_spectrum, spectrum_frequencies
from ser_data.waveforms import SAMPLE_RATE, Waveforms, to_int16


def packed(folder: Path, *clips: NDArray[np.float64]) -> Waveforms:
    samples = [to_int16(clip.astype(np.float32)) for clip in clips]
    lengths = np.array([len(clip) for clip in samples])
    np.concatenate(samples).tofile(folder / "waveforms.i16")
    return Waveforms(folder / "waveforms.i16", np.cumsum(lengths) - lengths, lengths)


def sine(frequency: float, amplitude: float, seconds: float = 1.0) -> NDArray[np.float64]:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return amplitude * np.sin(2 * np.pi * frequency * time)


def test_sine_of_half_scale_has_the_levels_of_the_textbook(tmp_path: Path) -> None:
    levels = clip_levels(packed(tmp_path, sine(400, 0.5)))
    assert levels["peak_dbfs"][0] == pytest.approx(-6.02, abs=0.01)  # 20 log10(0.5)
    assert levels["rms_dbfs"][0] == pytest.approx(-9.03, abs=0.01)  # a sine's RMS lies 3.01 dB below its peak
    assert levels["clipped_samples"][0] == 0


def test_floor_is_the_level_between_the_words(tmp_path: Path) -> None:
    word, pause = sine(400, 0.5), sine(400, 0.005, seconds=0.5)
    levels = clip_levels(packed(tmp_path, np.concatenate([word, pause])))
    assert levels["floor_dbfs"][0] == pytest.approx(-49.03, abs=0.1)  # 20 log10(0.005) - 3.01


def test_samples_at_the_limits_count_as_clipped(tmp_path: Path) -> None:
    levels = clip_levels(packed(tmp_path, np.array([0.0, 1.0, -1.0, 0.5]), sine(100, 0.9)))
    assert levels["clipped_samples"].tolist() == [2, 0]


def test_a_clip_shorter_than_a_frame_and_silence_have_finite_levels(tmp_path: Path) -> None:
    levels = clip_levels(packed(tmp_path, np.zeros(5), np.full(100, 0.25)))
    assert np.isfinite(levels.to_numpy(dtype=float)).all()
    assert levels["rms_dbfs"].tolist() == pytest.approx([-160.0, -12.04], abs=0.01)


def test_spectrum_peaks_at_the_sine(tmp_path: Path) -> None:
    spectrum = mean_spectrum(packed(tmp_path, sine(1000, 0.5), sine(1000, 0.25)), [0, 1])
    assert spectrum_frequencies()[np.argmax(spectrum)] == 1000
    # Half the amplitude is the mean of the two powers' square root: (0.5² + 0.25²) / 2 at a bin holds a quarter of it.
    assert spectrum.max() == pytest.approx(10 * np.log10((0.5**2 + 0.25**2) / 2 / 4), abs=0.1)


@pytest.mark.parametrize("highest", [3000, 7000])
def test_bandwidth_ends_where_the_sound_ends(tmp_path: Path, highest: int) -> None:
    rng = np.random.default_rng(0)
    shape = np.fft.rfft(rng.standard_normal(SAMPLE_RATE * 2))
    shape[np.fft.rfftfreq(SAMPLE_RATE * 2, 1 / SAMPLE_RATE) > highest] = 0
    noise = np.fft.irfft(shape)
    spectrum = mean_spectrum(packed(tmp_path, 0.1 * noise / np.abs(noise).max()), [0])
    assert bandwidth_hz(spectrum) == pytest.approx(highest, abs=4 * SAMPLE_RATE / SPECTRUM_SIZE)  # the window's skirts
