"""The cache: one computation a node, damage noticed, the longest unused removed, nothing taken from under a user."""

import errno
import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from ser_data.augment import Views, ViewSettings
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError
from ser_data.features import cache as cache_module
from ser_data.features import extraction, frames_file
from ser_data.features.cache import FeatureCache
from ser_data.features.clip_frames import to_float16
from ser_data.features.extraction import compute
from ser_data.features.settings import MfccSettings, StatisticsSettings

SETTINGS = MfccSettings(num_coefficients=13, deltas=0)
OTHERS = [MfccSettings(num_coefficients=number, deltas=0) for number in (10, 11, 12)]
ROOMY = 10**9


@pytest.fixture
def corpus(prepared_tone_corpus: Path) -> Corpus:
    return open_corpus(prepared_tone_corpus)


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.frames"))


def test_frames_are_those_of_each_clip(corpus: Corpus, tmp_path: Path) -> None:
    features = FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS, jobs=2)
    assert len(features) == len(corpus.clips)
    assert features.frames.dtype == np.float16
    assert features.frames.flags.c_contiguous
    for clip in (0, 17, 95):
        np.testing.assert_array_equal(features[clip], to_float16(compute(corpus.waveforms.float32(clip), SETTINGS)))


def test_one_worker_and_several_give_the_same_file(corpus: Corpus, tmp_path: Path) -> None:
    one, two = FeatureCache(tmp_path / "one", ROOMY), FeatureCache(tmp_path / "two", ROOMY)
    one.get(corpus, SETTINGS, jobs=1)
    two.get(corpus, SETTINGS, jobs=2)
    assert files(one.folder)[0].read_bytes() == files(two.folder)[0].read_bytes()


def test_the_second_time_nothing_is_computed(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    monkeypatch.setattr(extraction, "in_order", _must_not_compute)
    second = FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    np.testing.assert_array_equal(first.frames, second.frames)
    np.testing.assert_array_equal(first.offsets, second.offsets)


def test_frames_are_mapped_and_cannot_be_written(corpus: Corpus, tmp_path: Path) -> None:
    features = FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    assert not features.frames.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        features.frames[0] = 0


def test_other_settings_and_other_corpora_have_files_of_their_own(corpus: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, ROOMY)
    cache.get(corpus, SETTINGS)
    cache.get(corpus, StatisticsSettings(base=SETTINGS))
    assert len(files(tmp_path)) == 2
    assert all(corpus.manifest_hash[:16] in file.name for file in files(tmp_path))


def _cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1_000)


def _flip_a_bit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _overwrite_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(16)
        file.write(b"{broken")


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_bit, _empty, _overwrite_header])
def test_a_damaged_file_is_computed_again_and_said_so(
    damage,
    corpus: Corpus,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],  # type: ignore[no-untyped-def]
) -> None:
    before = FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS).frames.copy()
    path = files(tmp_path)[0]
    damage(path)
    again = FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    np.testing.assert_array_equal(again.frames, before)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"cached features {path} are damaged (")
    assert lines[0].endswith("): computing them again")


def test_a_file_of_something_else_under_the_same_name_is_not_taken(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = FeatureCache(tmp_path, ROOMY)
    cache.get(corpus, OTHERS[0])
    other = files(tmp_path)[0]
    cache.get(corpus, SETTINGS)
    mine = next(file for file in files(tmp_path) if file != other)
    mine.write_bytes(other.read_bytes())
    assert cache.get(corpus, SETTINGS).dim == 13
    assert "it holds the features of something else" in capsys.readouterr().err


def test_a_file_is_summed_once_and_again_after_a_change(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[int] = []
    checksum = frames_file._checksum
    monkeypatch.setattr(frames_file, "_checksum", lambda *of: sums.append(1) or checksum(*of))
    for _ in range(3):
        FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    assert len(sums) == 1
    os.utime(files(tmp_path)[0])
    FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    assert len(sums) == 2


def _aged(folder: Path, corpus: Corpus, cache: FeatureCache) -> None:
    """Fill the cache with three files, last used 300, 200 and 100 s ago."""
    for position, settings in enumerate(OTHERS):
        known = set(files(folder))
        cache.get(corpus, settings)
        (new,) = set(files(folder)) - known
        moment = new.stat().st_mtime - 300 + 100 * position
        os.utime(new.with_suffix(".checked"), (moment, moment))
    gc.collect()


def _kept(folder: Path) -> list[int]:
    return [
        number
        for number, settings in enumerate(OTHERS)
        if any(settings.digest() in file.name for file in files(folder))
    ]


def test_the_longest_unused_files_are_removed_beyond_the_cap(corpus: Corpus, tmp_path: Path) -> None:
    _aged(tmp_path, corpus, FeatureCache(tmp_path, ROOMY))
    total = sum(file.stat().st_size for file in files(tmp_path))
    FeatureCache(tmp_path, total + 1_000).get(corpus, SETTINGS)
    assert _kept(tmp_path) == [2]  # the new file is larger than any of them, so two had to go
    assert sum(file.stat().st_size for file in files(tmp_path)) <= total + 1_000


def test_a_use_counts_as_new(corpus: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, ROOMY)
    _aged(tmp_path, corpus, cache)
    cache.get(corpus, OTHERS[0])
    gc.collect()
    total = sum(file.stat().st_size for file in files(tmp_path))
    FeatureCache(tmp_path, total + 1_000).get(corpus, SETTINGS)
    assert _kept(tmp_path) == [0]


def test_a_file_in_use_is_not_removed(corpus: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, ROOMY)
    _aged(tmp_path, corpus, cache)
    path = next(file for file in files(tmp_path) if OTHERS[0].digest() in file.name)
    used = cache.get(corpus, OTHERS[0])
    moment = path.stat().st_mtime - 900
    os.utime(path.with_suffix(".checked"), (moment, moment))
    total = sum(file.stat().st_size for file in files(tmp_path))
    FeatureCache(tmp_path, total + 1_000).get(corpus, SETTINGS)
    assert _kept(tmp_path) == [0]
    assert used.frames.any()
    del used
    gc.collect()
    assert frames_file.remove_unless_in_use(path)


def test_features_larger_than_the_cache_are_refused_with_their_size(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"mfcc features of .* take 0\.1 MB, more than the 0\.0 MB of the cache .*"
        r"Give --cache-gb 0\.1 or more",
    ):
        FeatureCache(tmp_path, 1_000).get(corpus, SETTINGS)
    assert files(tmp_path) == []


def test_a_full_disk_is_named_with_what_is_needed_and_leaves_nothing(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(frames_file.os, "fsync", full)
    with pytest.raises(
        UserError,
        match=rf"disk of the feature cache {tmp_path} is full: 0\.1 MB are needed, .* are "
        r"free\. Free some space, or name another folder with --cache-dir",
    ):
        FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    assert [file.suffix for file in tmp_path.iterdir() if file.suffix != ".lock"] == []


def test_a_folder_that_cannot_be_made_is_named(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"feature cache .*file/features cannot be written: .* with --cache-dir"):
        FeatureCache(tmp_path / "file" / "features", ROOMY).get(corpus, SETTINGS)


def test_a_computation_that_fails_leaves_nothing(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(samples: object, settings: object) -> None:
        raise RuntimeError("no such transform")

    monkeypatch.setattr(extraction, "compute", broken)
    with pytest.raises(RuntimeError, match="no such transform"):
        FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS, jobs=2)
    assert [file.suffix for file in tmp_path.iterdir() if file.suffix != ".lock"] == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(
    corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "killed.partial").write_bytes(b"half")
    (tmp_path / "living.partial").write_bytes(b"half")
    with FileLock(tmp_path / "living.lock"):
        FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    assert [file.name for file in tmp_path.glob("*.partial")] == ["living.partial"]


_ASK = """
import sys
from pathlib import Path
from ser_data.corpus import open_corpus
from ser_data.features import cache, extraction
from ser_data.features.settings import MfccSettings

original = extraction.in_order
def counted(*args, **kwargs):
    with open(sys.argv[3], "a") as log:
        log.write("computed\\n")
    return original(*args, **kwargs)
extraction.in_order = counted

features = cache.FeatureCache(Path(sys.argv[2]), 10**9).get(open_corpus(Path(sys.argv[1])), MfccSettings())
print(features.frames.shape)
"""


def test_two_processes_that_ask_at_once_compute_once(corpus: Corpus, tmp_path: Path) -> None:
    arguments = [sys.executable, "-c", _ASK, str(corpus.folder), str(tmp_path / "cache"), str(tmp_path / "log")]
    asking = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate()[0] for process in asking]
    assert [process.returncode for process in asking] == [0, 0]
    assert answers[0] == answers[1] != ""
    assert (tmp_path / "log").read_text() == "computed\n"


def _views(count: int = 2, seed: int = 0, clips: int = 5) -> Views:
    return Views(ViewSettings(count=count), np.arange(3, 3 + clips, dtype=np.int64), seed)


def test_views_hold_the_training_clips_and_no_others(corpus: Corpus, tmp_path: Path) -> None:
    views = _views()
    cached = FeatureCache(tmp_path, ROOMY).get_views(corpus, SETTINGS, views)
    assert len(cached) == 2
    for number, view in enumerate(cached):
        assert np.flatnonzero(view.lengths).tolist() == [3, 4, 5, 6, 7]
        changed = views.samples(corpus.waveforms.float32(5), clip=5, view=number)
        np.testing.assert_array_equal(view[5], to_float16(compute(changed, SETTINGS)))


def test_more_views_leave_the_first_ones_where_they_are(corpus: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, ROOMY)
    cache.get_views(corpus, SETTINGS, _views(count=1))
    (first,) = files(tmp_path)
    cache.get_views(corpus, SETTINGS, _views(count=2))
    assert len(files(tmp_path)) == 2
    assert first in files(tmp_path)


def test_another_seed_or_other_training_clips_are_other_views(corpus: Corpus, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, ROOMY)
    for views in (_views(count=1), _views(count=1, seed=1), _views(count=1, clips=4)):
        cache.get_views(corpus, SETTINGS, views)
    assert len(files(tmp_path)) == 3


def test_views_by_processes_are_those_by_one(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (alone,) = FeatureCache(tmp_path / "alone", ROOMY).get_views(corpus, SETTINGS, _views(count=1))
    monkeypatch.setattr(extraction, "LEAST_CLIPS_FOR_PROCESSES", 1)
    (together,) = FeatureCache(tmp_path / "together", ROOMY).get_views(corpus, SETTINGS, _views(count=1), jobs=2)
    np.testing.assert_array_equal(alone.frames, together.frames)


def _must_not_compute(*_: object, **__: object) -> None:
    raise AssertionError("computed again")


def test_the_reader_of_a_cache_loads_no_signal_library(corpus: Corpus, tmp_path: Path) -> None:
    FeatureCache(tmp_path, ROOMY).get(corpus, SETTINGS)
    script = (
        "import sys; from pathlib import Path; from ser_data.corpus import open_corpus\n"
        f"from {cache_module.__name__} import FeatureCache; from ser_data.features.settings import MfccSettings\n"
        f"FeatureCache(Path({str(tmp_path)!r}), 10**9).get(open_corpus(Path({str(corpus.folder)!r})), "
        "MfccSettings(num_coefficients=13, deltas=0))\n"
        "print([name for name in ('torch', 'librosa', 'scipy', 'audiomentations') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
