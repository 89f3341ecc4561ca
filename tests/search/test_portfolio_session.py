"""Whole searches over several spaces on Ray: one budget, a search in each space's folder, one board."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from search.arguments import Arguments, parse_arguments
from search.finalists.ledger import read_ledger
from search.members import arguments_of_members
from search.portfolio import ALLOCATED
from search.record import read_events
from search.study import trials_of
from ser_data.errors import UserError
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_family import score_of
from tests.search.knob_search import Sitting, knob_spaces

SPACES = ("plain", "second")
OPTIONS = ("--space", ",".join(SPACES), "--trials", "7", "--max-concurrent", "1")


@pytest.fixture(scope="module")
def finished(knob_search: Search, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search over two spaces that ran to its end. Read only; copy the folder before changing anything."""
    return knob_search(tmp_path_factory.mktemp("several") / "run", *OPTIONS)


@pytest.fixture
def finished_copy(finished: Sitting, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "run"))


def board_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "leaderboard.csv").set_index("trial_id")


def trials_in(folder: Path) -> dict[str, Any]:
    """Of both spaces, by the name that the whole search's board gives them."""
    found = {}
    for space in SPACES:
        for trial in trials_of(read_events(folder / space / "events.jsonl")).values():
            found[f"{space}/{trial.trial_id}"] = trial
    return found


def test_all_spaces_share_the_budget_and_stand_on_one_board(finished: Sitting) -> None:
    assert finished.code == 0, finished.text
    trials = trials_in(finished.folder)
    assert len(trials) == 7 and all(trial.outcome == "completed" for trial in trials.values())
    board = board_of(finished.folder)
    assert set(board.index) == set(trials)
    assert list(board["val_uar"]) == sorted(board["val_uar"], reverse=True)
    assert list(board["rank"]) == list(range(1, 8))
    assert dict(board["space"]) == {name: name.partition("/")[0] for name in trials}
    for name, trial in trials.items():
        assert board.loc[name, "val_uar"] == pytest.approx(score_of(trial.config["x"], 2))


def test_each_space_has_a_length_and_a_board_of_its_own(finished: Sitting) -> None:
    lengths = {space: {len(t.epochs) for name, t in trials_in(finished.folder).items() if space in name}
               for space in SPACES}  # fmt: skip
    assert lengths == {"plain": {3}, "second": {2}}
    for space in SPACES:
        assert set(board_of(finished.folder / space)["space"]) == {space}
        assert (finished.folder / space / "best" / "provenance.txt").is_file()


def test_the_whole_has_one_page_with_every_space(finished: Sitting) -> None:
    assert [path.parent for path in finished.folder.rglob("leaderboard.html")] == [finished.folder]
    page = (finished.folder / "leaderboard.html").read_text()
    assert "plain/t0000" in page and "second/t0000" in page and "Families side by side" in page
    assert re.search(r"\d start", page)  # why a space was chosen


def test_the_board_says_what_each_space_got_and_why(finished: Sitting) -> None:
    text = (finished.folder / "leaderboard.md").read_text()
    for space in SPACES:
        begun = sum(name.startswith(space) for name in trials_in(finished.folder))
        assert f"{space}: {begun} trials (2 by its start" in text
    assert "% of the time in trials, best" in text and "plain: " in finished.text
    choices = [e for e in read_events(finished.folder / "events.jsonl") if e["kind"] == ALLOCATED]
    assert len(choices) == 7


def test_the_whole_searchs_bundle_is_the_best_spaces(finished: Sitting) -> None:
    best = max(trials_in(finished.folder).items(), key=lambda item: item[1].best_score)[0].partition("/")[0]
    bundles = [(finished.folder / place / "best" / "provenance.txt").read_text() for place in (".", best)]
    assert bundles[0] == bundles[1]


def test_a_finished_search_says_so_and_goes_on_with_more_trials(knob_search: Search, finished_copy: Path) -> None:
    again = knob_search(finished_copy, "--resume")
    assert again.code == 0 and "is finished (7 trials)" in again.text
    longer = knob_search(finished_copy, "--resume", "--trials", "9", "--max-concurrent", "1")
    assert longer.code == 0 and len(trials_in(finished_copy)) == 9


def test_a_member_is_a_finished_search_whose_finalists_can_be_judged(knob_search: Search, finished_copy: Path) -> None:
    alone = knob_search(finished_copy / "plain", "--resume")
    assert alone.code == 0 and "is finished" in alone.text
    judged = knob_search(finished_copy / "plain", "--resume", "--finalists", "1", "--seeds", "1")
    assert judged.code == 0 and (finished_copy / "plain" / "finalists.md").is_file()

    whole = knob_search(finished_copy, "--resume", "--finalists", "1", "--seeds", "1", "--max-concurrent", "1")
    assert whole.code == 0 and len(trials_in(finished_copy)) == 7
    (own,) = [look for look in read_ledger(finished_copy / "plain") if look.search_id == judged.config["search_id"]]
    told = (finished_copy / "finalists.md").read_text()
    assert f"{own.search_id}, {own.at}" in told and "FORCED" not in told


def test_another_command_on_its_folder_is_refused(knob_search: Search, finished_copy: Path) -> None:
    with pytest.raises(UserError, match=r"holds another search \(seed 0 there, 1 now\)"):
        knob_search(finished_copy, *OPTIONS, "--seed", "1")


def test_a_killed_search_goes_on_and_loses_no_trial(
    command: Callable[..., Command], knob_search: Search, prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    folder, cache = tmp_path / "run", tmp_path / "cache"
    first = command(
        "--space", "slow,second", "--out", str(folder), "--data", str(prepared_tone_corpus), "--cache-dir", str(cache),
        "--split", "speaker_kfold:4:1", "--sampler", "random", "--scheduler", "none", "--trials", "6",
    )  # fmt: skip
    first.wait_for(folder / "slow")
    first.wait_for_epochs(folder / "slow", more=3)
    first.kill()
    last = knob_search(folder, "--resume", "--cache-dir", str(cache))
    assert last.code == 0, last.text
    events = {space: read_events(folder / space / "events.jsonl") for space in ("slow", "second")}
    trials = {space: trials_of(some) for space, some in events.items()}
    assert sum(map(len, trials.values())) == 6
    for space, length in (("slow", 4), ("second", 2)):
        for trial in trials[space].values():
            assert [report["epoch"] for report in trial.epochs] == list(range(1, length + 1))
        begun = [event["number"] for event in events[space] if event["kind"] == "suggested"]
        assert begun == list(range(len(begun)))
    assert (cache / "loaded.txt").is_file()  # a trial went on from its checkpoint


def members(*options: str) -> list[Arguments]:
    with knob_spaces():
        return arguments_of_members(parse_arguments(options), Path("run"))


def test_pins_reach_the_spaces_that_have_the_parameter() -> None:
    plain, faulty = members("--space", "plain,faulty", "--fix", "fault=none", "--trials", "9", "--time-budget", "1h")
    assert (plain.fix, faulty.fix) == ({}, {"fault": "none"})
    assert plain.out == Path("run/plain") and plain.trials is None and plain.time_budget is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--space", "plain,second", "--fix", "y=1"], r"--fix y=1: none of the spaces plain, second .* They search: x"),
        (["--space", "plain,second", "--encoder", "tiny"], r"--encoder does nothing in the spaces plain, second"),
        (["--space", "plain,plain"], r"--space 'plain,plain' names a space twice"),
        (["--space", "plain,nope"], r"--space 'nope' is not known.*all, which is mfcc_full,mel_cnn"),
    ],
)
def test_what_several_spaces_cannot_take_is_refused_by_name(options: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        members(*options)


def test_its_config_names_its_members(finished: Sitting) -> None:
    config = json.loads((finished.folder / "config.json").read_text())
    assert config["members"] == list(SPACES) and config["plan"]["num_trials"] == 7


@pytest.mark.slow
def test_on_a_cluster_with_gpus_none_idles_while_trials_wait(
    command: Callable[..., Command], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    """Ray places trials of a space that takes a GPU and of one that does not; see :mod:`tests.search.packed_search`."""
    folder = tmp_path / "run"
    packed = command(
        *OPTIONS[:2], "--out", str(folder), "--data", str(prepared_tone_corpus), "--cache-dir", str(tmp_path / "cache"),
        "--split", "speaker_kfold:4:1", "--sampler", "random", "--scheduler", "none", "--trials", "16",
        module="tests.search.packed_search",
    )  # fmt: skip
    code, out, err = packed.end()
    assert code == 0, out + err
    assert "4 cores, 2 GPUs" in out
    events = [
        {**event, "space": space}
        for space in SPACES
        for event in read_events(folder / space / "events.jsonl")
        if event["kind"] in ("suggested", "done", "resources")
    ]
    running: dict[str, int] = dict.fromkeys(SPACES, 0)
    most = 0
    for event in sorted(events, key=lambda event: event["at"]):
        if event["kind"] == "resources":
            assert (event["cpus"], event["gpus"]) == (1, 1.0 if event["space"] == "plain" else 0)
        elif event["kind"] == "suggested":
            if event["space"] == "second":
                assert running["plain"] == 2  # GPUs first
            running[event["space"]] += 1
            assert running["plain"] <= 2 and sum(running.values()) <= 4
            most = max(most, sum(running.values()))
        else:
            running[event["space"]] -= 1
    assert most == 4
    assert len(trials_in(folder)) == 16


def test_its_folder_may_be_given_relative_to_where_it_is_called(
    knob_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    search = knob_search(Path("run"), *OPTIONS[:2], "--trials", "2", "--cache-dir", str(tmp_path / "cache"))
    assert search.code == 0, search.text
    assert len(trials_in(tmp_path / "run")) == 2
