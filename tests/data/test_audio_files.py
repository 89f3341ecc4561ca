"""Every format is read as it was written; what cannot be used says why."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from ser_data.audio_files import ClipError, audio_sha256, read_clip, refuse_unusable, to_16k


def tone(*, seconds: float = 1.0, rate: int = 16_000, frequency: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.wav", "a.WAV", "a.flac"])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000])
def test_lossless_clips_decode_to_what_was_written(write_clip, tmp_path: Path, name: str, rate: int) -> None:
    samples = np.round(tone(rate=rate) * 32_768) / 32_768
    path = write_clip(tmp_path / name, samples=samples, rate=rate)
    decoded, decoded_rate = read_clip(path)
    assert decoded_rate == rate
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded, samples)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg", "a.opus"])
def test_lossy_clips_decode_to_nearly_what_was_written(write_clip, tmp_path: Path, name: str) -> None:
    samples = tone(rate=16_000)
    decoded, rate = read_clip(write_clip(tmp_path / name, samples=samples, rate=16_000))
    assert rate == 16_000
    length = min(len(decoded), len(samples))
    assert abs(len(decoded) - len(samples)) <= 2 * 1152
    assert np.corrcoef(decoded[:length], samples[:length])[0, 1] > 0.95


def test_content_in_memory_reads_like_the_file(write_clip, tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus"):
        path = write_clip(tmp_path / name, samples=tone())
        from_file, from_memory = read_clip(path), read_clip(path.read_bytes())
        assert from_file[1] == from_memory[1]
        np.testing.assert_array_equal(from_file[0], from_memory[0])


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = tone(frequency=200), tone(frequency=900)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    decoded, _ = read_clip(tmp_path / "a.wav")
    np.testing.assert_allclose(decoded, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus"])
@pytest.mark.parametrize("kept", [0.9, 0.5, 0.1])
def test_a_file_cut_off_anywhere_is_refused(write_clip, tmp_path: Path, name: str, kept: float) -> None:
    path = write_clip(tmp_path / name, samples=tone(seconds=3))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ClipError, match=r"^(truncated|unreadable): "):
        read_clip(path)
    with pytest.raises(ClipError, match=r"^(truncated|unreadable): "):
        read_clip(path.read_bytes())


def test_a_wav_written_to_a_pipe_is_not_taken_for_truncated(write_clip, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.wav", samples=tone())
    content = bytearray(path.read_bytes())
    assert content[36:40] == b"data"
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"  # what ffmpeg writes when it cannot go back to the header
    path.write_bytes(content)
    decoded, _ = read_clip(path)
    assert len(decoded) == 16_000


def test_a_wav_with_other_chunks_before_its_samples_is_read(write_clip, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.wav", samples=tone())
    content = path.read_bytes()
    odd_chunk = b"LIST" + (5).to_bytes(4, "little") + b"hello\0"  # five bytes and the byte that evens them
    size = int.from_bytes(content[4:8], "little") + len(odd_chunk)
    path.write_bytes(content[:4] + size.to_bytes(4, "little") + content[8:36] + odd_chunk + content[36:])
    assert len(read_clip(path)[0]) == 16_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "unreadable: the file is empty"),
        (b"<html>404</html>" * 20, "unreadable: "),
        (b"RIFF\x24\0\0\0WAVEfmt ", "truncated: it ends before its samples begin"),
    ],
)
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(ClipError, match=reason):
        read_clip(tmp_path / "a.wav")


def test_a_git_lfs_pointer_is_named_as_such(tmp_path: Path, lfs_pointer: str) -> None:
    (tmp_path / "a.wav").write_text(lfs_pointer)
    with pytest.raises(ClipError, match=r"^Git LFS pointer: .*git lfs pull"):
        read_clip(tmp_path / "a.wav")


def test_a_missing_file_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match=r"^missing file: "):
        read_clip(tmp_path / "a.wav")


def test_a_file_that_may_not_be_read_is_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ClipError, match=r"^no read permission: "):
        read_clip(tmp_path / "a.wav")


def test_samples_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    samples = tone()
    samples[100] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(ClipError, match=r"^unreadable: .*not finite"):
        read_clip(tmp_path / "a.wav")


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_a_silent_clip_is_refused_whatever_its_offset(offset: float) -> None:
    with pytest.raises(ClipError, match=r"^silent: amplitude"):
        refuse_unusable(np.full(16_000, offset, dtype=np.float32), 16_000)


def test_a_quiet_clip_is_kept() -> None:
    refuse_unusable(tone() * 0.005, 16_000)


def test_a_clip_below_the_shortest_length_is_refused() -> None:
    with pytest.raises(ClipError, match=r"^too short: 0\.250 s, at least 0\.3 s"):
        refuse_unusable(tone(seconds=0.25), 16_000)
    refuse_unusable(tone(seconds=0.3), 16_000)


def test_resampling_is_that_of_soxr() -> None:
    samples = tone(rate=11_025)
    np.testing.assert_array_equal(to_16k(samples, 11_025), soxr.resample(samples, 11_025, 16_000))
    assert to_16k(samples, 16_000) is samples


def test_a_checksum_names_the_sound_and_not_the_file(write_clip, tmp_path: Path) -> None:
    wav = read_clip(write_clip(tmp_path / "a.wav", seed=1))
    flac = read_clip(write_clip(tmp_path / "a.flac", seed=1))
    other = read_clip(write_clip(tmp_path / "b.wav", seed=2))
    assert audio_sha256(*wav) == audio_sha256(*flac) != audio_sha256(*other)
    assert audio_sha256(wav[0], 16_000) != audio_sha256(wav[0], 8_000)
