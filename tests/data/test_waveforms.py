"""Packed waveforms are slices of a mapped file, and travel to other processes as a path."""

import pickle
from pathlib import Path

import numpy as np

from ser_data.waveforms import Waveforms, to_int16


def packed(folder: Path) -> tuple[Waveforms, np.ndarray]:
    samples = np.arange(-50_000, 50_000, 5).astype("<i2")
    samples.tofile(folder / "waveforms.i16")
    return Waveforms(folder / "waveforms.i16", np.array([0, 100, 19_000]), np.array([100, 300, 1_000])), samples


def test_each_clip_is_its_slice_of_the_file(tmp_path: Path) -> None:
    waveforms, samples = packed(tmp_path)
    assert len(waveforms) == 3
    np.testing.assert_array_equal(waveforms[1], samples[100:400])
    assert waveforms[2].dtype == np.int16


def test_a_clip_is_a_read_only_view_and_no_copy(tmp_path: Path) -> None:
    waveforms, _ = packed(tmp_path)
    assert not waveforms[0].flags.owndata
    assert not waveforms[0].flags.writeable
    assert np.shares_memory(waveforms[0], waveforms[0])


def test_float_samples_are_a_copy_below_one(tmp_path: Path) -> None:
    np.array([-32_768, 0, 16_384, 32_767], dtype="<i2").tofile(tmp_path / "waveforms.i16")
    samples = Waveforms(tmp_path / "waveforms.i16", np.array([0]), np.array([4])).float32(0)
    assert samples.dtype == np.float32
    assert samples.flags.owndata
    assert samples.tolist() == [-1.0, 0.0, 0.5, 32_767 / 32_768]


def test_an_unmapped_file_is_let_go_and_mapped_again_by_the_next_read(tmp_path: Path) -> None:
    waveforms, samples = packed(tmp_path)
    maps = Path("/proc/self/maps")
    np.testing.assert_array_equal(waveforms[1], samples[100:400])
    assert str(waveforms.path) in maps.read_text()
    waveforms.unmap()
    assert str(waveforms.path) not in maps.read_text()
    np.testing.assert_array_equal(waveforms[1], samples[100:400])


def test_a_pickled_instance_carries_no_samples(tmp_path: Path) -> None:
    waveforms, samples = packed(tmp_path)
    waveforms[0]
    content = pickle.dumps(waveforms)
    assert len(content) < 2_000
    np.testing.assert_array_equal(pickle.loads(content)[1], samples[100:400])


def test_a_corpus_without_samples_opens(tmp_path: Path) -> None:
    (tmp_path / "waveforms.i16").touch()
    assert len(Waveforms(tmp_path / "waveforms.i16", np.array([0]), np.array([0]))[0]) == 0


def test_sixteen_bits_survive_the_way_through_float(tmp_path: Path) -> None:
    every = np.arange(-32_768, 32_768).astype("<i2")
    every.tofile(tmp_path / "waveforms.i16")
    floats = Waveforms(tmp_path / "waveforms.i16", np.array([0]), np.array([65_536])).float32(0)
    np.testing.assert_array_equal(to_int16(floats), every)


def test_samples_beyond_full_scale_are_clipped_and_do_not_wrap() -> None:
    assert to_int16(np.array([-1.5, -1.0, 1.0, 1.5], dtype=np.float32)).tolist() == [-32_768, -32_768, 32_767, 32_767]
