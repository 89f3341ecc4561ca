"""From a synthesiser's samples to a recording: tilt, tremor, breath, level, room noise, silence around the words."""

import numpy as np
import soxr

from sample_corpus.cast import Actor
from sample_corpus.prosody import Delivery

SAMPLE_RATE = 16_000
_TILT_CENTRE_HZ = 1_000.0  # tilt leaves this frequency as it is
_TILT_LOWEST_HZ = 60.0  # below, tilt stays constant: it would grow without bound
_TRANSFORM_STEP = 4096  # a transform of a length with large prime factors takes ten times as long
_ENVELOPE_SECONDS = 0.02
_LEAD_SECONDS = (0.10, 0.35)  # silence before the words
_TAIL_SECONDS = (0.15, 0.45)


def record(
    voice: np.ndarray, rate: int, delivery: Delivery, actor: Actor, generator: np.random.Generator
) -> np.ndarray:
    """One clip as a file would hold it.

    Args:
        voice: what the synthesiser said, float32 in [-1, 1), shape ``(num_samples,)``
        rate: its samples per second
        delivery: how it is said
        actor: whose room and microphone it is
        generator: of this clip alone

    Returns:
        int16, shape ``(num_samples_out,)``, 16 kHz
    """
    voice = soxr.resample(voice, rate, SAMPLE_RATE).astype(np.float64)
    seconds = np.arange(len(voice)) / SAMPLE_RATE
    for depth, frequency in ((delivery.tremor, delivery.tremor_hz), (delivery.creak, delivery.creak_hz)):
        phase = generator.uniform(0.0, 2 * np.pi)
        voice *= 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * frequency * seconds + phase))
    breath = generator.normal(size=len(voice)) * _envelope(voice)
    voice = _scaled(voice, 1.0) + _scaled(breath, delivery.breath)
    voice = _scaled(_tilted(voice, delivery.tilt_db_per_octave), 10 ** (delivery.level_db / 20))
    lead, tail = (round(generator.uniform(*span) * SAMPLE_RATE) for span in (_LEAD_SECONDS, _TAIL_SECONDS))
    clip = np.pad(voice, (lead, tail))
    noise = _tilted(generator.normal(size=len(clip)), -3.0 + actor.tilt_db_per_octave)  # rooms hum more than they hiss
    clip += _scaled(noise, 10 ** (actor.noise_db / 20))
    samples: np.ndarray = np.round(np.clip(clip, -1.0, 1.0) * 32767).astype(np.int16)
    return samples


def _envelope(samples: np.ndarray) -> np.ndarray:
    width = round(_ENVELOPE_SECONDS * SAMPLE_RATE)
    sums = np.cumsum(np.pad(np.abs(samples), (width, width)))
    means: np.ndarray = (sums[2 * width :] - sums[: -2 * width]) / (2 * width)
    return means


def _tilted(samples: np.ndarray, db_per_octave: float) -> np.ndarray:
    size = -(-len(samples) // _TRANSFORM_STEP) * _TRANSFORM_STEP
    frequencies = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), _TILT_LOWEST_HZ)
    gain = (frequencies / _TILT_CENTRE_HZ) ** (db_per_octave / (20 * np.log10(2)))
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)]


def _scaled(samples: np.ndarray, rms: float) -> np.ndarray:
    present = float(np.sqrt(np.mean(samples**2)))
    return samples * (rms / present) if present > 0 else samples
