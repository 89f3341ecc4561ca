"""Features hold to librosa's own results, and settings to what they promise.

Tolerances: computation is float32 on both sides and agrees to 1e-3 where coefficients reach several hundred (a few
units in the last place, multiplied up by the logarithm of nearly empty bands); centroid and bandwidth to 0.01 Hz.
Storage in float16 is another matter, tested apart: half a unit in the eleventh binary digit.
"""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from ser_data.corpus import open_corpus
from ser_data.errors import UserError
from ser_data.features import statistics
from ser_data.features.clip_frames import ClipFrames, to_float16
from ser_data.features.deltas import with_deltas
from ser_data.features.extraction import compute, compute_clips
from ser_data.features.settings import (
    FUNCTIONALS,
    FeatureSettings,
    HybridSettings,
    LogMelSettings,
    MfccSettings,
    StatisticsSettings,
    settings_from_dict,
)

Tone = Callable[..., NDArray[np.float32]]
ALL_SETTINGS = [
    MfccSettings(),
    MfccSettings(sample_rate=8_000, window_seconds=0.025, hop_seconds=0.01, num_mels=26, num_coefficients=13, deltas=1),
    MfccSettings(rms_normalise=True, max_hz=5_500),
    HybridSettings(),
    HybridSettings(deltas=2, hop_seconds=0.03),
    LogMelSettings(),
    LogMelSettings(num_mels=40, window_seconds=0.025, hop_seconds=0.01, deltas=0),
    StatisticsSettings(),
    StatisticsSettings(base=HybridSettings(), max_clip_seconds=0.5),
]


def speech_like(seconds: float = 0.9, seed: int = 0) -> NDArray[np.float32]:
    """A gliding harmonic sound that swells and fades into silence, in noise: float32, 16 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * 16_000)) / 16_000
    phase = 2 * np.pi * np.cumsum(140 + 60 * np.sin(3 * time)) / 16_000
    voice = np.sum([np.sin(number * phase) / number for number in range(1, 20)], axis=0)
    samples = 0.2 * voice * np.sin(np.pi * time / seconds) ** 2 + 0.001 * rng.standard_normal(len(time))
    samples[-len(samples) // 8 :] = 0
    return samples.astype(np.float32)


@pytest.mark.parametrize(
    "settings",
    [
        MfccSettings(),
        MfccSettings(window_seconds=0.025, hop_seconds=0.01, num_mels=40, max_hz=5_500, num_coefficients=20),
    ],
)
def test_mfcc_and_deltas_are_librosas(settings: MfccSettings) -> None:
    librosa = pytest.importorskip("librosa")
    samples = speech_like()
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=settings.sample_rate,
        n_fft=settings.window_samples,
        hop_length=settings.hop_samples,
        n_mels=settings.num_mels,
        fmax=settings.highest_hz,
        pad_mode="constant",
    )
    coefficients = librosa.feature.mfcc(S=librosa.power_to_db(mel, top_db=80.0), n_mfcc=settings.num_coefficients)
    expected = np.concatenate(
        [coefficients, librosa.feature.delta(coefficients), librosa.feature.delta(coefficients, order=2)]
    )
    computed = compute(samples, settings)
    assert computed.dtype == np.float32
    np.testing.assert_allclose(computed, expected.T, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("settings", [LogMelSettings(), LogMelSettings(num_mels=64, max_hz=5_500, hop_seconds=0.016)])
def test_log_mel_energies_and_deltas_are_librosas(settings: LogMelSettings) -> None:
    librosa = pytest.importorskip("librosa")
    samples = speech_like()
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=settings.sample_rate,
        n_fft=settings.window_samples,
        hop_length=settings.hop_samples,
        n_mels=settings.num_mels,
        fmax=settings.highest_hz,
        pad_mode="constant",
    )
    decibels = librosa.power_to_db(mel, top_db=80.0)
    expected = np.concatenate([decibels, librosa.feature.delta(decibels), librosa.feature.delta(decibels, order=2)])
    np.testing.assert_allclose(compute(samples, settings), expected.T, rtol=1e-5, atol=1e-3)


def test_three_seconds_of_log_mel_are_the_notebooks_128_by_130() -> None:
    settings = LogMelSettings(deltas=0)
    assert compute(speech_like(3.0), settings).shape == (130, 128)
    assert settings.frames_in(3.0) == 130


def test_log_mel_columns_are_the_energies_then_their_deltas() -> None:
    settings = LogMelSettings(num_mels=8)
    assert settings.columns(0).tolist() == list(range(8))
    assert settings.columns(2).tolist() == list(range(24))
    with pytest.raises(UserError, match=r"deltas=2 is not possible\. Accepted: 0 to 1 \(as many as the feat"):
        LogMelSettings(deltas=1).columns(2)


def test_chroma_centroid_and_bandwidth_are_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    samples, settings = speech_like(), HybridSettings()
    frame = {"n_fft": settings.window_samples, "hop_length": settings.hop_samples}
    magnitude = np.abs(librosa.stft(samples, **frame, pad_mode="constant"))
    chroma = librosa.feature.chroma_stft(S=magnitude**2, sr=16_000, n_fft=frame["n_fft"], tuning=0.0)
    shape = {"S": magnitude, "sr": 16_000, "n_fft": frame["n_fft"]}
    computed = compute(samples, settings)
    np.testing.assert_allclose(computed[:, 13:25], chroma.T, atol=1e-5)
    np.testing.assert_allclose(computed[:, 25], librosa.feature.spectral_centroid(**shape)[0], atol=1e-2)
    np.testing.assert_allclose(computed[:, 26], librosa.feature.spectral_bandwidth(**shape)[0], atol=1e-2)


def test_hybrid_begins_with_the_mfcc(tone: Tone) -> None:
    samples = tone(200, 0.5)
    mfcc = compute(samples, MfccSettings(num_coefficients=13, deltas=0))
    np.testing.assert_array_equal(compute(samples, HybridSettings())[:, :13], mfcc)


def test_another_rate_is_features_of_the_resampled_clip() -> None:
    soxr = pytest.importorskip("soxr")
    samples = speech_like()
    low = MfccSettings(sample_rate=8_000)
    by_hand = soxr.resample(samples, 16_000, 8_000)
    from ser_data.features.spectra import at_settings_rate

    np.testing.assert_array_equal(at_settings_rate(samples, low), by_hand)
    assert compute(samples, low).shape == compute(samples, MfccSettings()).shape


def test_storage_in_float16_keeps_eleven_binary_digits() -> None:
    computed = compute(speech_like(), MfccSettings())
    stored = to_float16(computed)
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored.astype(np.float32), computed, rtol=2**-11, atol=2**-24)


def test_values_beyond_float16_are_clipped_and_not_infinite() -> None:
    assert np.isfinite(to_float16(np.array([1e6, -1e6], dtype=np.float32))).all()


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda settings: settings.digest())
@pytest.mark.parametrize("num_samples", [1, 700, 4_801, 16_000])
def test_frames_and_columns_are_those_announced(settings: FeatureSettings, num_samples: int) -> None:
    computed = compute(speech_like()[:num_samples] if num_samples < 14_000 else speech_like(1.0), settings)
    assert computed.shape == (settings.num_frames(num_samples), settings.dim)
    assert np.isfinite(computed).all()


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda settings: settings.digest())
def test_silence_has_finite_features(settings: FeatureSettings) -> None:
    assert np.isfinite(compute(np.zeros(8_000, dtype=np.float32), settings)).all()


@pytest.mark.parametrize("num_coefficients, deltas", [(13, 0), (20, 1), (40, 2), (1, 2)])
def test_selected_columns_equal_a_computation_with_fewer(num_coefficients: int, deltas: int, tone: Tone) -> None:
    samples, full = tone(180, 0.4), MfccSettings()
    fewer = compute(samples, MfccSettings(num_coefficients=num_coefficients, deltas=deltas))
    selected = compute(samples, full)[:, full.columns(num_coefficients, deltas)]
    np.testing.assert_allclose(selected, fewer, rtol=1e-5, atol=1e-3)


def test_a_clip_shorter_than_a_delta_continues_with_its_last_frame() -> None:
    frames = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    continued = np.concatenate([frames, np.repeat(frames[-1:], 4, axis=0)])
    np.testing.assert_array_equal(with_deltas(frames, 2), with_deltas(continued, 2)[:5])


def test_rms_normalisation_takes_the_loudness_out() -> None:
    samples = speech_like()
    settings = MfccSettings(rms_normalise=True)
    np.testing.assert_allclose(compute(samples * 0.25, settings), compute(samples, settings), atol=2e-2)
    assert not np.allclose(compute(samples * 0.25, MfccSettings()), compute(samples, MfccSettings()), atol=1.0)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 40])
def test_functionals_are_numpys_and_scipys(num_frames: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    frames = np.random.default_rng(num_frames).normal(3, 2, size=(num_frames, 4)).astype(np.float32)
    names = iter(statistics.functionals(frames).reshape(len(FUNCTIONALS), 4))
    found = dict(zip(FUNCTIONALS, names, strict=True))
    np.testing.assert_allclose(found["mean"], frames.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["std"], frames.std(axis=0), atol=1e-5)
    for percent in (5, 25, 50, 75, 95):
        np.testing.assert_allclose(found[f"q{percent:02d}"], np.quantile(frames, percent / 100, axis=0), atol=1e-5)
    if num_frames > 1:
        np.testing.assert_allclose(found["skew"], stats.skew(frames.astype(np.float64)), atol=1e-4)
        slopes = np.polyfit(np.linspace(-1, 1, num_frames), frames, 1)[0]
        np.testing.assert_allclose(found["slope"], slopes, atol=1e-5)
    else:
        assert not found["skew"].any() and not found["slope"].any()


def test_statistics_look_at_the_start_of_a_clip_only_where_asked_to() -> None:
    samples = speech_like(0.9)
    start = StatisticsSettings(max_clip_seconds=0.4)
    np.testing.assert_array_equal(compute(samples, start), compute(samples[:6_400], StatisticsSettings()))


def test_max_frames_of_a_duration_are_the_frames_whose_centres_lie_in_it() -> None:
    settings = MfccSettings(hop_seconds=0.02)
    assert settings.frames_in(3.0) == 150
    assert settings.frames_in(0.001) == 1
    assert settings.frames_in(3.01) == 151


def test_equal_settings_have_one_digest_and_others_another() -> None:
    assert MfccSettings().digest() == MfccSettings(num_coefficients=40).digest()
    digests = {settings.digest() for settings in ALL_SETTINGS}
    assert len(digests) == len(ALL_SETTINGS)


def test_every_field_of_the_settings_changes_the_digest() -> None:
    base = MfccSettings()
    changes = {
        "sample_rate": 8_000,
        "window_seconds": 0.03,
        "hop_seconds": 0.01,
        "num_mels": 50,
        "max_hz": 4_000.0,
        "num_coefficients": 20,
        "deltas": 1,
        "rms_normalise": True,
    }
    assert set(changes) == set(base.to_dict()) - {"kind"}
    digests = {MfccSettings(**{name: value}).digest() for name, value in changes.items()}
    assert len(digests | {base.digest()}) == len(changes) + 1


@pytest.mark.parametrize("settings", ALL_SETTINGS, ids=lambda settings: settings.digest())
def test_settings_come_back_from_json_values(settings: FeatureSettings) -> None:
    assert settings_from_dict(settings.to_dict()) == settings


def test_settings_of_another_kind_or_version_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"feature kind 'plp' is not known\. Known kinds: hybrid, log_mel, mfcc, statistics"
    ):
        settings_from_dict({"kind": "plp"})
    with pytest.raises(UserError, match=r"mfcc settings do not fit this version.*'liftering'"):
        settings_from_dict({**MfccSettings().to_dict(), "liftering": 22})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_coefficients": 65}, r"num_coefficients=65 is not possible. Accepted: 1 to 64 .*Change num_coefficients"),
        ({"hop_seconds": 0}, r"hop_seconds=0 is not possible. Accepted: 0.002 to 0.1 \(seconds\)"),
        ({"deltas": 3}, r"deltas=3 is not possible. Accepted: 0 to 2"),
        ({"max_hz": 9_000}, r"max_hz=9000 is not possible. Accepted: 500 to 8000"),
        ({"sample_rate": "16k"}, r"sample_rate='16k' is not possible"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MfccSettings(**values)  # type: ignore[arg-type]


def test_more_columns_than_there_are_are_refused() -> None:
    with pytest.raises(UserError, match=r"num_coefficients=20 is not possible. Accepted: 1 to 13"):
        MfccSettings(num_coefficients=13).columns(20, 0)


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")  # torchaudio's own word on it, before our error
def test_more_bands_than_the_window_can_tell_apart_are_refused(tone: Tone) -> None:
    with pytest.raises(UserError, match=r"num_mels=200 leaves \d+ bands without a frequency.*Give fewer bands"):
        compute(tone(200, 0.3), MfccSettings(num_mels=200, window_seconds=0.02))


def test_a_few_clips_are_computed_and_the_others_left_empty(prepared_tone_corpus) -> None:  # type: ignore[no-untyped-def]
    corpus, settings = open_corpus(prepared_tone_corpus), MfccSettings(num_coefficients=13)
    features = compute_clips(corpus, settings, [4, 1])
    assert len(features) == len(corpus.waveforms)
    assert np.flatnonzero(features.lengths).tolist() == [1, 4]
    expected = compute(corpus.waveforms.float32(4), settings)
    np.testing.assert_array_equal(features[4], to_float16(expected))


def test_no_clips_still_have_columns() -> None:
    nothing = ClipFrames.of([], dim=7)
    assert len(nothing) == 0
    assert nothing.dim == 7
