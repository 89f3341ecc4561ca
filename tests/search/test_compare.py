"""What a parameter was worth, group by group."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from search.compare import compare, main
from search.record import Record
from ser_data.errors import UserError
from tests.search.boards import FAIR, GOOD, POOR, config_json, epoch

Trials = Sequence[tuple[dict[str, Any], list[list[list[int]]], str]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Trials], Path]:
    """Writes a search's folder with trials of (configuration, hits by epoch, last event)."""

    def write(trials: Trials) -> Path:
        (tmp_path / "config.json").write_text(json.dumps(config_json()))
        with Record(tmp_path / "events.jsonl") as record:
            for number, (config, hits, kind) in enumerate(trials):
                record.append(
                    {"kind": "suggested", "number": number, "params": config, "config": config, "origin": "x"}
                )
                for which, one in enumerate(hits, start=1):
                    report = epoch(which, one, seconds=float(10 * which))
                    record.append({"kind": "epoch", "number": number, "report": report})
                record.append({"kind": kind, "number": number, "reason": ""})
        return tmp_path

    return write


DEPTHS: Trials = [
    ({"depth": 2}, [POOR, FAIR], "done"),
    ({"depth": 0}, [GOOD, FAIR], "done"),
    ({"depth": 0}, [FAIR], "stopped"),
    ({"depth": 0}, [GOOD], "failed"),
    ({"depth": 2, "rate": 0.1}, [POOR], "stopped"),
]


def test_each_value_has_a_row_with_its_best_trial(run: Callable[[Trials], Path]) -> None:
    groups, sentences = compare(run(DEPTHS), "depth")
    assert groups["value"].tolist() == ["0", "2"]
    assert groups[["trials", "completed"]].to_numpy().tolist() == [[2, 1], [2, 1]]
    assert groups["best"].tolist() == pytest.approx([10 / 12, 0.5])
    assert groups["median"].tolist() == pytest.approx([(10 / 12 + 0.5) / 2, (0.5 + 1 / 3) / 2])
    assert groups["seconds"].tolist() == [10.0, 10.0]
    assert groups["trial_id"].tolist() == ["t0001", "t0000"]
    assert (groups["low"] <= groups["best"]).all() and (groups["best"] <= groups["high"]).all()
    assert len(sentences) == 1
    assert sentences[0].startswith("depth 2 (.500) loses −.333 against depth 0 (.833), 95 % over 3 speakers ")


def test_many_numbers_are_cut_into_thirds(run: Callable[[Trials], Path]) -> None:
    folder = run([({"rate": 10.0**-number}, [FAIR], "done") for number in range(9)])
    groups, _ = compare(folder, "rate")
    assert groups["trials"].tolist() == [3, 3, 3]
    assert groups["value"].tolist() == ["1e-08 to 1e-06", "1e-05 to 0.001", "0.01 to 1"]


def test_names_are_groups_however_many(run: Callable[[Trials], Path]) -> None:
    groups, _ = compare(run([({"name": letter}, [FAIR], "done") for letter in "hgfedcba"]), "name")
    assert groups["value"].tolist() == list("abcdefgh")


def test_only_trials_that_have_the_parameter_count(run: Callable[[Trials], Path]) -> None:
    groups, sentences = compare(run(DEPTHS), "rate")
    assert groups["trials"].tolist() == [1] and not sentences


def test_a_parameter_that_no_trial_has_is_refused_with_those_there_are(run: Callable[[Trials], Path]) -> None:
    with pytest.raises(UserError, match=r"--by width: no trial of .* a parameter 'width'. Its parameters: depth, rate"):
        compare(run(DEPTHS), "width")
    with pytest.raises(UserError, match="holds no search"):
        compare(Path("nowhere"), "width")


def test_the_command_prints_a_table_csv_or_json(
    run: Callable[[Trials], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(run(DEPTHS))
    assert main([folder, "--by", "depth"]) == 0
    table = capsys.readouterr().out
    assert "t0001" in table and "0.833" in table and "loses −.333" in table
    assert main([folder, "--by", "depth", "--format", "csv"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "value,trials,completed,best,low,high,median,seconds,trial_id"
    assert main([folder, "--by", "depth", "--format", "json"]) == 0
    assert [group["value"] for group in json.loads(capsys.readouterr().out)["groups"]] == ["0", "2"]


def test_a_search_over_several_spaces_is_refused_with_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**config_json(), "members": ["a", "b"]}))
    with pytest.raises(UserError, match=r"several spaces. Name the folder of one: .*/SPACE with a, b"):
        compare(tmp_path, "x")
