"""Reading one audio file of any format, and saying why it cannot be used.

Formats are those of libsndfile: WAV, FLAC, MP3, Ogg Vorbis and Opus, any rate and number of channels.
"""

import hashlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from ser_data.sources import AUDIO_SUFFIXES as AUDIO_SUFFIXES
from ser_data.waveforms import SAMPLE_RATE

MIN_SECONDS = 0.3  # shorter than any utterance: a click, or what is left of a broken recording
# Half of the distance from the lowest to the highest sample, so that a constant offset is not taken for sound.
# -60 dB re full scale; the quietest CREMA-D clip that is not silent has .022.
SILENT_AMPLITUDE = 1e-3

_LFS_HEAD = b"version https://git-lfs.github.com/spec/"
_LFS_MAX_BYTES = 1024
_OGG_MAX_PAGE_BYTES = 65_307
_MP3_FRAME = 1152  # samples; not every encoder says how much of its last frame is padding
_UNKNOWN_WAV_SIZE = 0x7FFF_0000  # programs that write to a pipe put a size from here up, or 0, into the header


class ClipError(Exception):
    """One clip cannot be used; the text is the reason, as ``kind: detail``, ready for the manifest."""


def read_clip(audio: Path | bytes) -> tuple[NDArray[np.float32], int]:
    """Decode one file and mix its channels to mono.

    Args:
        audio: path of the file, or its content

    Returns:
        float32 samples in [-1, 1], shape ``(num_samples,)``, and their rate in Hz

    Raises:
        ClipError: if the file is missing, not permitted, a Git LFS pointer, truncated, damaged or no audio
    """
    try:
        with io.BytesIO(audio) if isinstance(audio, bytes) else audio.open("rb") as file:
            _refuse_incomplete(file)
    except FileNotFoundError as error:
        raise ClipError("missing file: there is no file of this name") from error
    except PermissionError as error:
        raise ClipError("no read permission: the file may not be read") from error
    except OSError as error:
        raise ClipError(f"unreadable: {error.strerror or error}") from error
    try:
        with soundfile.SoundFile(io.BytesIO(audio) if isinstance(audio, bytes) else audio) as decoder:
            promised, rate = decoder.frames, decoder.samplerate
            frames = decoder.read(dtype="float32", always_2d=True)  # (num_samples, num_channels)
            exact = decoder.format != "MP3" or _has_mp3_length(audio)
    except soundfile.LibsndfileError as error:
        detail = error.error_string.strip().removeprefix("Error : ").rstrip(".")
        detail = detail or f"decoder error {error.code}"
        raise ClipError(f"unreadable: {detail} (truncated, damaged or no audio)") from error
    except MemoryError as error:  # a damaged header can promise any length
        raise ClipError("unreadable: its header promises more samples than fit into memory") from error
    if exact and len(frames) < promised - _MP3_FRAME:
        raise ClipError(f"truncated: {promised / rate:.3f} s promised by its header, {len(frames) / rate:.3f} s there")
    samples: NDArray[np.float32] = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
    if not np.isfinite(samples).all():
        raise ClipError("unreadable: it holds samples that are not finite numbers")
    return np.ascontiguousarray(samples), rate


def refuse_unusable(samples: NDArray[np.float32], rate: int) -> None:
    """Refuse a decoded clip that no model can learn from.

    Args:
        samples: mono, shape ``(num_samples,)``
        rate: Hz

    Raises:
        ClipError: if the clip is shorter than 0.3 s or silent (within ± .001 around its mean)
    """
    seconds = len(samples) / rate
    if seconds < MIN_SECONDS:
        raise ClipError(f"too short: {seconds:.3f} s, at least {MIN_SECONDS} s are needed")
    amplitude = float(np.ptp(samples)) / 2
    if amplitude < SILENT_AMPLITUDE:
        raise ClipError(f"silent: amplitude {amplitude:.5f}, at least {SILENT_AMPLITUDE} is needed")


def to_16k(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Resample to 16 kHz with soxr's high quality; samples already at 16 kHz come back as they are.

    Args:
        samples: float32 mono, shape ``(num_samples,)``
        rate: Hz

    Returns:
        float32, shape ``(about num_samples * 16000 / rate,)``; may overshoot [-1, 1] a little
    """
    if rate == SAMPLE_RATE:
        return samples
    resampled: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE)
    return resampled


def audio_sha256(samples: NDArray[np.float32], rate: int) -> str:
    """Checksum of what is heard: the rate and the decoded samples.

    Equal for byte-identical files and for lossless copies of one recording in WAV and in FLAC.

    Args:
        samples: float32 mono, shape ``(num_samples,)``, as decoded, before resampling
        rate: Hz

    Returns:
        64 hexadecimal digits
    """
    return hashlib.sha256(f"{rate} ".encode() + samples.astype("<f4").tobytes()).hexdigest()


def _refuse_incomplete(file: BinaryIO) -> None:
    """Find what libsndfile passes over in silence: a pointer, and a WAV or Ogg file that ends too early."""
    num_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if num_bytes == 0:
        raise ClipError("unreadable: the file is empty")
    if num_bytes <= _LFS_MAX_BYTES and head.startswith(_LFS_HEAD):
        raise ClipError("Git LFS pointer: the audio itself was not fetched, `git lfs pull` does that")
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        _refuse_truncated_wav(file, num_bytes)
    elif head.startswith(b"OggS"):
        _refuse_truncated_ogg(file, num_bytes)


def _refuse_truncated_wav(file: BinaryIO, num_bytes: int) -> None:
    position = 12
    while position + 8 <= num_bytes:
        file.seek(position)
        name, size = file.read(4), int.from_bytes(file.read(4), "little")
        start = position + 8
        if name == b"data":
            if 0 < size < _UNKNOWN_WAV_SIZE and start + size > num_bytes:
                raise ClipError(f"truncated: {size} bytes of samples promised by its header, {num_bytes - start} there")
            return
        position = start + size + size % 2  # chunks begin at even positions
    raise ClipError("truncated: it ends before its samples begin")


def _refuse_truncated_ogg(file: BinaryIO, num_bytes: int) -> None:
    file.seek(max(0, num_bytes - _OGG_MAX_PAGE_BYTES))
    tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:]
    num_segments = page[26] if start >= 0 and len(page) > 26 else 0
    lengths = page[27 : 27 + num_segments]
    complete = start >= 0 and len(page) > 26 and len(page) >= 27 + num_segments + sum(lengths)
    end_of_stream = complete and bool(page[5] & 4)
    if not end_of_stream:
        raise ClipError("truncated: its last Ogg page is missing or cut")


def _has_mp3_length(audio: Path | bytes) -> bool:
    """Whether an MP3 file tells its length in a Xing or Info header; without one the decoder only estimates it."""
    if isinstance(audio, bytes):
        head = audio[:65_536]
    else:
        with audio.open("rb") as file:
            head = file.read(65_536)
    return b"Xing" in head or b"Info" in head
