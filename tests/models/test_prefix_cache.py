"""Cached outputs of frozen layers: one pass a node, resumed after a kill, nothing damaged or half-written is used."""

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray

from ser_data.errors import UserError
from ser_data.node_files import remove_unless_in_use
from ser_data.node_folder import NodeFolder
from ser_models import prefix_cache
from ser_models.prefix_cache import PrefixCache, Ragged, Stream

ROOMY = 10**9
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}
ROWS = np.array([3, 1, 0, 4, 2, 5, 0, 2], dtype=np.int64)
BATCHES = [np.array(batch, dtype=np.int64) for batch in ([5, 3], [0, 4], [7, 1], [2, 6])]


def stream(
    label: str = "net-layer4-frames", *, dim: int = 6, dtype: str = "fp32", rows: Any = ROWS, **key: Any
) -> Stream:
    return Stream({"weights": "a1b2", "boundary": 4, **key}, label, np.asarray(rows, dtype=np.int64), dim, dtype)


def output(item: int, of: Stream) -> torch.Tensor:
    generator = torch.Generator().manual_seed(100 * item + of.dim)
    return torch.randn(int(of.rows[item]), of.dim, generator=generator, dtype=torch.float64)


class Network:
    """Stands for frozen layers, and notes what it was asked."""

    def __init__(
        self, streams: Mapping[str, Stream], change: Callable[[int, torch.Tensor], torch.Tensor] | None = None
    ):
        self.streams = streams
        self.change = change
        self.asked: list[tuple[list[int], list[str]]] = []

    def __call__(self, items: NDArray[np.int64], names: Sequence[str]) -> dict[str, list[torch.Tensor]]:
        self.asked.append((items.tolist(), list(names)))
        outputs = {name: [output(item, self.streams[name]) for item in items.tolist()] for name in names}
        if self.change is None:
            return outputs
        return {
            name: [self.change(item, tensor) for item, tensor in zip(items.tolist(), tensors, strict=True)]
            for name, tensors in outputs.items()
        }

    @property
    def batches(self) -> list[list[int]]:
        return [items for items, _ in self.asked]


def ask(folder: Path, *, max_bytes: int = ROOMY, **streams: Stream) -> tuple[dict[str, Ragged], Network]:
    network = Network(streams)
    return PrefixCache(folder, max_bytes).get(streams, BATCHES, network), network


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.rows"))


def unfinished(folder: Path) -> list[str]:
    return [file.name for file in sorted(folder.glob("*.rows-*"))]


def age(file: Path, seconds: float) -> None:
    moment = file.stat().st_mtime - seconds
    os.utime(file.with_suffix(".checked"), (moment, moment))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_back_in_the_type_of_the_stream(dtype: str, tmp_path: Path) -> None:
    one = stream(dtype=dtype)
    found = ask(tmp_path, one=one)[0]["one"]
    assert found.values.dtype == DTYPES[dtype]
    assert found.values.shape == (17, 6)
    assert found.offsets.tolist() == [0, 3, 4, 4, 8, 10, 15, 15, 17]
    assert len(found) == len(ROWS)
    for item in range(len(ROWS)):
        assert torch.equal(found.item(item), output(item, one).to(DTYPES[dtype]))


def test_values_are_mapped_and_not_copied(tmp_path: Path) -> None:
    one = stream(rows=[200_000], dim=16, dtype="bf16")
    streams = {"one": one}
    cache, batches = PrefixCache(tmp_path, ROOMY), [np.array([0], dtype=np.int64)]
    cache.get(streams, batches, Network(streams))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = cache.get(streams, batches, Network(streams))["one"].values
    (path,) = files(tmp_path)
    mapped = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    ranges = [tuple(int(end, 16) for end in line[0].split("-")) for line in mapped]
    assert any(first <= values.data_ptr() < last for first, last in ranges)


def test_writing_to_values_does_not_change_the_file(tmp_path: Path) -> None:
    found = ask(tmp_path, one=stream())[0]["one"]
    before = files(tmp_path)[0].read_bytes()
    found.values.zero_()
    assert files(tmp_path)[0].read_bytes() == before


def test_the_second_time_nothing_is_computed(tmp_path: Path) -> None:
    first, _ = ask(tmp_path, one=stream(), two=stream("pooled", dim=3))
    second, network = ask(tmp_path, one=stream(), two=stream("pooled", dim=3))
    assert network.asked == []
    assert list(second) == ["one", "two"]
    assert all(torch.equal(first[name].values, second[name].values) for name in first)


def test_missing_streams_are_computed_in_one_pass_and_only_those(tmp_path: Path) -> None:
    ask(tmp_path, one=stream())
    found, network = ask(tmp_path, one=stream(), two=stream("pooled", dim=3), three=stream("late", dim=2))
    assert network.asked == [(batch.tolist(), ["two", "three"]) for batch in BATCHES[:3]]
    assert torch.equal(found["one"].item(5), output(5, stream()).float())


def test_only_batches_with_an_item_of_a_missing_stream_are_computed(tmp_path: Path) -> None:
    few = stream("few", rows=[1, 0, 0, 0, 0, 0, 0, 2])
    _, network = ask(tmp_path, few=few)
    assert network.batches == [[0, 4], [7, 1]]


def test_progress_counts_items_up_to_all(tmp_path: Path) -> None:
    streams, seen = {"one": stream()}, []
    PrefixCache(tmp_path, ROOMY).get(
        streams, BATCHES, Network(streams), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 6), (4, 6), (6, 6)]


@pytest.mark.parametrize(
    "other", [stream(weights="ffff"), stream(dim=3), stream(dtype="bf16"), stream(rows=np.minimum(ROWS, 2))]
)
def test_other_weights_columns_types_or_rows_are_another_file(other: Stream, tmp_path: Path) -> None:
    ask(tmp_path, one=stream())
    _, network = ask(tmp_path, one=other)
    assert network.asked
    assert len(files(tmp_path)) == 2
    assert all(file.name.startswith("net-layer4-frames-") for file in files(tmp_path))


def test_the_order_of_the_batches_does_not_change_the_file(tmp_path: Path) -> None:
    streams = {"one": stream()}
    PrefixCache(tmp_path / "one", ROOMY).get(streams, BATCHES, Network(streams))
    PrefixCache(tmp_path / "two", ROOMY).get(streams, BATCHES[::-1], Network(streams))
    assert files(tmp_path / "one")[0].read_bytes() == files(tmp_path / "two")[0].read_bytes()


def test_a_stream_without_rows_is_cached_too(tmp_path: Path) -> None:
    nothing = stream(rows=np.zeros(8))
    assert ask(tmp_path, one=nothing)[0]["one"].values.shape == (0, 6)
    assert ask(tmp_path, one=nothing)[1].asked == []


# What is asked for, and what the layers give


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([[5, 3], [0, 4], [7]], "stream one: item 1 is in 0 batches"),
        ([[5, 3], [0, 4], [7, 1, 3]], "stream one: item 3 is in 2 batches"),
        ([[5, 3], [0, 4], [7, 1, 8]], "items that are not among the 8"),
    ],
)
def test_batches_that_do_not_hold_each_item_once_are_refused(
    batches: list[list[int]], message: str, tmp_path: Path
) -> None:
    streams = {"one": stream()}
    with pytest.raises(ValueError, match=message):
        PrefixCache(tmp_path, ROOMY).get(streams, [np.array(batch) for batch in batches], Network(streams))


def test_one_stream_under_two_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two of the streams are the same: net-layer4-frames-"):
        ask(tmp_path, one=stream(), two=stream())


def test_streams_of_other_numbers_of_items_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"different numbers of items: \[2, 8\]"):
        ask(tmp_path, one=stream(), two=stream(rows=[1, 1]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "fp16"}, "dtype 'fp16' is none of bf16, fp32, fp64"),
        ({"label": "a/b"}, "its label must be letters"),
        ({"rows": np.array([-1])}, "whole numbers from 0"),
        ({"dim": 0}, "dim is 0, and must be at least 1"),
    ],
)
def test_an_impossible_stream_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(stream(), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda item, tensor: tensor[:1], r"stream one: item 3 has shape \(1, 6\), not \(4, 6\)"),
        (lambda item, tensor: tensor.long(), r"stream one: item 3 is of torch.int64, which is no float type"),
    ],
)
def test_outputs_of_another_shape_or_kind_are_refused_by_item_and_stream(
    change: Callable[[int, torch.Tensor], torch.Tensor], message: str, tmp_path: Path
) -> None:
    streams = {"one": stream()}
    network = Network(streams, lambda item, tensor: change(item, tensor) if item == 3 else tensor)
    with pytest.raises(ValueError, match=message):
        PrefixCache(tmp_path, ROOMY).get(streams, BATCHES, network)
    assert unfinished(tmp_path) == []


def test_outputs_that_are_missing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stream one: 2 tensors were asked for, none came"):
        PrefixCache(tmp_path, ROOMY).get({"one": stream()}, BATCHES, lambda items, names: {})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_value_that_is_no_number_is_refused_by_name_and_nothing_stays(
    dtype: str, bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "_SYNC_SECONDS", 0.0)

    def spoilt(item: int, tensor: torch.Tensor) -> torch.Tensor:
        if item == 1:
            tensor[0, 2] = bad
        return tensor

    streams = {"one": stream(dtype=dtype)}
    with pytest.raises(
        UserError,
        match=r"outputs net-layer4-frames of item 1 are not finite: the weights or the input hold NaN or infinity",
    ):
        PrefixCache(tmp_path, ROOMY).get(streams, BATCHES, Network(streams, spoilt))
    assert files(tmp_path) == []
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_whose_sum_overflows_are_kept(dtype: str, tmp_path: Path) -> None:
    streams = {"one": stream(dtype=dtype)}
    largest = torch.finfo(DTYPES[dtype]).max
    network = Network(streams, lambda item, tensor: torch.full_like(tensor, largest))
    assert (PrefixCache(tmp_path, ROOMY).get(streams, BATCHES, network)["one"].values == largest).all()


# Damage


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 10)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _flip, _empty])
def test_a_damaged_file_is_computed_again_and_said_so(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(tmp_path, one=stream(), two=stream("pooled", dim=3))
    path = next(file for file in files(tmp_path) if file.name.startswith("net"))
    before = path.read_bytes()
    damage(path)
    _, network = ask(tmp_path, one=stream(), two=stream("pooled", dim=3))
    assert {tuple(names) for _, names in network.asked} == {("one",)}
    assert path.read_bytes() == before
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cached outputs {path} are damaged (")
    assert line.endswith("): computing them again")


def test_a_file_of_other_weights_under_the_same_name_is_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(tmp_path, one=stream(weights="ffff"))
    (other,) = files(tmp_path)
    mine = tmp_path / f"{stream().name}.rows"
    other.rename(mine)
    _, network = ask(tmp_path, one=stream())
    assert network.asked
    assert "it holds the rows of something else" in capsys.readouterr().err


# Several processes, and killed ones

_SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import numpy as np, torch
from ser_models import prefix_cache
from ser_models.prefix_cache import PrefixCache, Stream

folder, log, kill_at, go = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
prefix_cache._SYNC_SECONDS = 0.0
rows = np.array([3, 1, 0, 4, 2, 5, 0, 2], dtype=np.int64)
batches = [np.array(batch, dtype=np.int64) for batch in ([5, 3], [0, 4], [7, 1], [2, 6])]
key = {"weights": "a1b2", "boundary": 4}
streams = {
    "one": Stream(key, "net-layer4-frames", rows, 6, "fp32"),
    "two": Stream(key, "pooled", np.minimum(rows, 1), 3, "bf16"),
}
def output(item, of):
    generator = torch.Generator().manual_seed(100 * item + of.dim)
    return torch.randn(int(of.rows[item]), of.dim, generator=generator, dtype=torch.float64)
def compute(items, names):
    with open(log, "a") as file:
        file.write(f"{items.tolist()}\\n")
    if items[0] == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    while not go.exists():
        time.sleep(0.01)
    return {name: [output(item, streams[name]) for item in items.tolist()] for name in names}
PrefixCache(folder, 10**9).get(streams, batches, compute)
"""
PAIR = {"one": stream(), "two": stream("pooled", rows=np.minimum(ROWS, 1), dim=3, dtype="bf16")}


def _start(tmp_path: Path, *, kill_at: int = -1) -> subprocess.Popen[bytes]:
    """A process that asks for `PAIR`, notes each batch, and goes on with the first one when there is a file ``go``."""
    arguments = [str(tmp_path / "cache"), str(tmp_path / "log"), str(kill_at), str(tmp_path / "go")]
    return subprocess.Popen([sys.executable, "-c", _SCRIPT, *arguments])


def test_two_processes_that_ask_at_once_compute_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _start(tmp_path)
    while not (tmp_path / "log").exists():
        assert other.poll() is None
        time.sleep(0.01)
    locked = NodeFolder.locked

    def asked_while_the_other_computes(folder: NodeFolder, names: Iterable[str]) -> AbstractContextManager[None]:
        assert files(folder.folder) == []
        (tmp_path / "go").touch()
        return locked(folder, names)

    monkeypatch.setattr(NodeFolder, "locked", asked_while_the_other_computes)
    found, network = ask(tmp_path / "cache", **PAIR)
    assert other.wait() == 0
    assert network.asked == []
    assert (tmp_path / "log").read_text().splitlines() == ["[5, 3]", "[0, 4]", "[7, 1]"]
    assert torch.equal(found["one"].item(5), output(5, PAIR["one"]).float())


def test_a_killed_pass_is_gone_on_with_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    assert _start(tmp_path, kill_at=7).wait() == -signal.SIGKILL
    assert len(unfinished(tmp_path / "cache")) == 4
    found, network = ask(tmp_path / "cache", **PAIR)
    assert network.batches == [[7, 1]]
    assert torch.equal(found["one"].item(5), output(5, PAIR["one"]).float())
    ask(tmp_path / "whole", **PAIR)
    compared = [[(file.name, file.read_bytes()) for file in files(tmp_path / folder)] for folder in ("cache", "whole")]
    assert compared[0] == compared[1]
    assert unfinished(tmp_path / "cache") == []


class _Interrupted(Exception):
    pass


def _interrupted(folder: Path, streams: Mapping[str, Stream], *, at: int, batches: Any = BATCHES) -> None:
    """A pass that ends at the batch with item *at*; all before it is synced."""

    def stop(item: int, tensor: torch.Tensor) -> torch.Tensor:
        if item == at:
            raise _Interrupted
        return tensor

    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Interrupted):
        patch.setattr(prefix_cache, "_SYNC_SECONDS", 0.0)
        PrefixCache(folder, ROOMY).get(streams, batches, Network(streams, stop))


def test_streams_that_got_unequally_far_are_each_gone_on_with_from_their_place(tmp_path: Path) -> None:
    _interrupted(tmp_path, {"two": PAIR["two"]}, at=7)
    _interrupted(tmp_path, {"one": PAIR["one"]}, at=0)
    _, network = ask(tmp_path, **PAIR)
    assert network.asked == [([0, 4], ["one"]), ([7, 1], ["one", "two"])]
    ask(tmp_path / "whole", **PAIR)
    assert [file.read_bytes() for file in files(tmp_path)] == [file.read_bytes() for file in files(tmp_path / "whole")]


def test_progress_of_a_pass_that_goes_on_begins_where_it_was(tmp_path: Path) -> None:
    streams, seen = {"one": stream()}, []
    _interrupted(tmp_path, streams, at=7)
    PrefixCache(tmp_path, ROOMY).get(
        streams, BATCHES, Network(streams), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(6, 6)]


def test_what_was_written_in_other_batches_is_begun_anew(tmp_path: Path) -> None:
    _interrupted(tmp_path, {"one": stream()}, at=7, batches=[BATCHES[1], BATCHES[0], BATCHES[2]])
    _, network = ask(tmp_path, one=stream())
    assert network.batches == [[5, 3], [0, 4], [7, 1]]


def test_progress_without_its_file_is_ignored(tmp_path: Path) -> None:
    _interrupted(tmp_path, {"one": stream()}, at=7)
    (tmp_path / f"{stream().name}.rows-partial").unlink()
    _, network = ask(tmp_path, one=stream())
    assert network.batches == [[5, 3], [0, 4], [7, 1]]


def test_a_broken_progress_file_is_ignored(tmp_path: Path) -> None:
    _interrupted(tmp_path, {"one": stream()}, at=7)
    (tmp_path / f"{stream().name}.rows-progress").write_text('{"identity"')
    _, network = ask(tmp_path, one=stream())
    assert network.batches == [[5, 3], [0, 4], [7, 1]]


# The cap

OTHERS = [stream(f"other{number}", weights=str(number)) for number in range(3)]


def _filled(folder: Path) -> int:
    """Fill the cache with three files, last used 300, 200 and 100 s ago; the bytes of one."""
    for number, other in enumerate(OTHERS):
        ask(folder, one=other)
        age(folder / f"{other.name}.rows", 300 - 100 * number)
    gc.collect()
    return files(folder)[0].stat().st_size


def _kept(folder: Path) -> list[str]:
    return [file.name[:6] for file in files(folder) if file.name.startswith("other")]


def test_the_longest_unused_files_are_removed_beyond_the_cap(tmp_path: Path) -> None:
    size = _filled(tmp_path)
    ask(tmp_path, max_bytes=3 * size, one=stream())
    assert _kept(tmp_path) == ["other1", "other2"]
    assert not (tmp_path / f"{OTHERS[0].name}.checked").exists()


def test_a_file_that_is_mapped_is_not_removed(tmp_path: Path) -> None:
    size = _filled(tmp_path)
    used = ask(tmp_path, one=OTHERS[0])[0]
    age(tmp_path / f"{OTHERS[0].name}.rows", 900)
    ask(tmp_path, max_bytes=3 * size, one=stream())
    assert _kept(tmp_path) == ["other0", "other2"]
    assert used["one"].values.any()
    del used
    gc.collect()
    assert remove_unless_in_use(tmp_path / f"{OTHERS[0].name}.rows")


def test_what_the_same_call_asked_for_is_not_removed(tmp_path: Path) -> None:
    size = _filled(tmp_path)
    ask(tmp_path, max_bytes=size, one=OTHERS[0], two=stream())
    assert _kept(tmp_path) == ["other0"]


def test_a_killed_pass_counts_below_the_cap_and_goes_when_it_is_the_longest_unused(tmp_path: Path) -> None:
    _interrupted(tmp_path, {"one": OTHERS[0]}, at=7)
    partial = tmp_path / f"{OTHERS[0].name}.rows-partial"
    size = partial.stat().st_size
    os.utime(partial, (0, 0))
    with FileLock(tmp_path / f"{OTHERS[0].name}.lock"):
        ask(tmp_path, max_bytes=size, one=stream())
    assert partial.exists()  # its writer lives
    ask(tmp_path, max_bytes=3 * size, one=OTHERS[1])
    assert partial.exists()
    ask(tmp_path, max_bytes=3 * size, one=OTHERS[2])
    assert unfinished(tmp_path) == []


def test_frames_of_features_in_the_same_folder_count_too(tmp_path: Path) -> None:
    (tmp_path / "old.frames").write_bytes(bytes(100_000))
    os.utime(tmp_path / "old.frames", (0, 0))
    ask(tmp_path, max_bytes=100_000, one=stream())
    assert not (tmp_path / "old.frames").exists()


def test_streams_larger_than_the_cache_are_refused_with_their_sizes(tmp_path: Path) -> None:
    large = stream("large", rows=np.full(8, 10_000), dim=100)
    with pytest.raises(
        UserError,
        match=r"the outputs large \(32\.0 MB\), net-layer4-frames \(0\.0 MB\) together take 32\.0 MB, "
        r"more than the 10\.0 MB of the cache .*\. Give --cache-gb 0\.1 or more",
    ):
        ask(tmp_path, max_bytes=10**7, large=large, one=stream())
    with pytest.raises(UserError, match=r"the outputs large \(32\.0 MB\) take 32\.0 MB, more than"):
        ask(tmp_path, max_bytes=10**7, large=large)
    assert files(tmp_path) == []
    assert unfinished(tmp_path) == []


# The disk


@pytest.mark.parametrize("call", ["pwrite", "fsync", "replace"])
def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        UserError,
        match=rf"disk of the cache of layer outputs {tmp_path} is full: 0\.0 MB are needed, .* are free\. "
        r"Free some space, or name another folder with --cache-dir",
    ):
        ask(tmp_path, **PAIR)
    assert files(tmp_path) == []
    assert unfinished(tmp_path) == []


def test_a_disk_with_too_little_room_is_named_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NodeFolder, "free_bytes", lambda folder: 1_000_000)
    streams = {"one": stream(rows=np.full(8, 10_000))}
    network = Network(streams)
    with pytest.raises(UserError, match=r"is full: 1\.9 MB are needed, 1\.0 MB are free"):
        PrefixCache(tmp_path, ROOMY).get(streams, BATCHES, network)
    assert network.asked == []
    assert unfinished(tmp_path) == []


def test_a_file_larger_than_the_system_allows_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        with pytest.raises(UserError, match=r"is full: 1\.9 MB are needed"):
            ask(tmp_path, one=stream(rows=np.full(8, 10_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == []
    assert unfinished(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cache of layer outputs .*file/x cannot be written: .* with --cache-dir"):
        ask(tmp_path / "file" / "x", one=stream())
