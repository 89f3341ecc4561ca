"""The manifest survives its file, and its hash follows the content and nothing else."""

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from ser_data import manifest
from ser_data.errors import UserError


def rows(**changes: object) -> pd.DataFrame:
    columns: dict[str, object] = {
        "clip": ["0007_a", "NA"],
        "file": ["x/0007_a.wav", "x/NA.wav"],
        "actor": ["0007", "0008"],
        "sentence": ["DFA", ""],
        "emotion": ["anger", ""],
        "level": ["XX", ""],
        "duration": [1.2345, 0.0],
        "sha256": ["ab", ""],
        "excluded": ["", 'unreadable: no audio, "quoted"\nand more'],
        "age": [30, None],
        "offset": [0, 0],
        "num_samples": [19752, 0],
    }
    return manifest.normalised(pd.DataFrame({**columns, **changes}))


def test_a_written_manifest_reads_back_the_same() -> None:
    written = rows()
    read = manifest.from_bytes(manifest.to_bytes(written), Path("manifest.csv"))
    pd.testing.assert_frame_equal(read, written)
    assert list(read["actor"]) == ["0007", "0008"]
    assert list(read["clip"]) == ["0007_a", "NA"]


def test_columns_come_in_their_order() -> None:
    shuffled = rows()[["num_samples", "clip", "age", "file", "offset", *manifest.REQUIRED_COLUMNS[2:]]]
    assert list(manifest.normalised(shuffled).columns) == [*manifest.REQUIRED_COLUMNS, "age", "offset", "num_samples"]


def test_the_hash_ignores_where_the_files_lie() -> None:
    assert manifest.manifest_hash(rows()) == manifest.manifest_hash(rows(file=["C:/a.flac", "b.mp3"]))


@pytest.mark.parametrize(
    "change",
    [
        {"emotion": ["fear", ""]},
        {"actor": ["0009", "0008"]},
        {"sha256": ["ac", ""]},
        {"excluded": ["silent", ""]},
        {"duration": [1.2346, 0.0]},
        {"sex": ["male", ""]},
    ],
)
def test_the_hash_follows_everything_else(change: dict[str, list[object]]) -> None:
    assert manifest.manifest_hash(rows()) != manifest.manifest_hash(rows(**change))


def test_the_hash_is_the_checksum_of_a_csv_without_paths() -> None:
    lines = (
        "clip,actor,sentence,emotion,level,duration,sha256,excluded,offset,num_samples\n"
        "a,1,DFA,anger,XX,0.5,ff,,0,8000\n"
    )
    table = pd.DataFrame(
        [["a", "a.wav", "1", "DFA", "anger", "XX", 0.5, "ff", "", 0, 8000]],
        columns=[*manifest.REQUIRED_COLUMNS, *manifest.LAYOUT_COLUMNS],
    )
    assert manifest.manifest_hash(manifest.normalised(table)) == hashlib.sha256(lines.encode()).hexdigest()


def test_a_file_that_is_no_manifest_is_refused() -> None:
    with pytest.raises(UserError, match=r"run/manifest\.csv is not a manifest .*Prepare the corpus again"):
        manifest.from_bytes(b"clip,colour\na,red\n", Path("run/manifest.csv"))
