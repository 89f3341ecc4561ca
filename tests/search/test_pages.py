"""leaderboard.html: what it says, of what is whole and of what is not. How it behaves is in test_page_in_browser."""

import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from search.answers import Corner
from search.arguments import parse_arguments
from search.encoder_axis import EncoderAxis
from search.pages.board_rows import boards_of
from search.pages.found import find_run
from search.pages.judged import Judged, crowd_groups, judged_rows, reliability
from search.pages.page import page_of, write_page
from search.pages.parameter_views import importance
from search.pages.published import fits, people, published
from search.pages.reproduce import command_of
from search.parameters import Value
from search.proposals import Proposer
from search.report import main
from search.space import load_space
from search.study import StudyTrial
from search.trial import _build
from search.trial_plan import TrialPlan
from ser_data.errors import UserError
from ser_models.metrics import confusion, uar
from tests.search.boards import FAIR, GOOD, POOR, config_json
from tests.search.made_up_runs import TRIALS, add_finalists, judged_config, write_run

SIX = ["anger", "disgust", "fear", "happy", "neutral", "sad"]


class Reader(HTMLParser):
    """What a page's tables and charts say."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text = ""
        self.charts: list[Any] = []
        self.tags: list[str] = []
        self._json = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        self._json = tag == "script" and ("type", "application/json") in attrs

    def handle_data(self, data: str) -> None:
        if self._json:
            self.charts.append(json.loads(data))
            self._json = False
            return
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        """The cells of the first row that has *name* in one of its first cells."""
        return next(row for row in self.rows if any(name == cell.strip() for cell in row[:3]))


def written(*folders: Path) -> str:
    """The page of runs."""
    runs = [find_run(folder) for folder in folders]
    return page_of(runs, [problem for run in runs for problem in run.problems])


def read(*folders: Path) -> Reader:
    """What it says, without plotly and what else is not theirs."""
    return reader_of(written(*folders))


def reader_of(page: str) -> Reader:
    return Reader(re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page, flags=re.S))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search over four trials. Read only."""
    return write_run(tmp_path_factory.mktemp("pages") / "run")


@pytest.fixture(scope="module")
def judged_run(tmp_path_factory: pytest.TempPathFactory, prepared_tone_corpus: Path) -> Path:
    """The same with finalists. Read only."""
    folder = tmp_path_factory.mktemp("pages") / "judged"
    write_run(folder, config=judged_config(prepared_tone_corpus))
    add_finalists(folder, prepared_tone_corpus)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return written(run)


@pytest.fixture(scope="module")
def judged_page(judged_run: Path, whole_pages: None) -> str:
    assert write_page([judged_run], judged_run / "leaderboard.html") == []
    return (judged_run / "leaderboard.html").read_text()


def test_every_trial_has_a_row_with_what_is_known_and_a_dash_for_what_is_not(run: Path, page: str) -> None:
    rows = [row for board in boards_of([find_run(run)]) for row in board.rows]
    assert [row["trial"] for row in rows] == ["t0000", "t0003", "t0001", "t0002"]  # failed ones last
    assert [row["rank"] for row in rows] == [1, 2, 3, None]
    assert rows[0]["gpu_seconds"] == pytest.approx(3 * 1.25 * 0.5)
    told = reader_of(page)
    best = told.row("t0000")
    assert [cell.strip() for cell in best[1:]][:2] == ["t0000", "completed"]
    assert "0.833" in best[3] and "–" in best  # a score, and no test score
    assert "1.9 s" in best  # of half a GPU
    assert "stopped" in told.row("t0003")[2]  # the search is over: it will not go on


def test_nothing_in_data_becomes_html(page: str) -> None:
    assert "<script>alert(1)" not in page and "<b>mlp</b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; more" in page
    assert "&lt;b&gt;mlp&lt;/b&gt;" in page


def test_a_page_asks_nothing_of_a_network(judged_page: str) -> None:
    assert "default-src 'none'" in judged_page
    outside = re.sub(r"<script>.*?</script>", "", judged_page, flags=re.S)
    assert not re.search(r"""(src|href)=["'](https?:)?//""", outside)
    assert len(judged_page.encode()) < 8e6


def test_two_hundred_trials_stay_below_eight_megabytes(tmp_path: Path, whole_pages: None) -> None:
    settings = {f"parameter_{place}": 0.123456789 * place for place in range(24)}
    trials = [({**settings, "rate": 1 / (number + 1)}, [POOR, FAIR, GOOD] * 10, "done", "") for number in range(200)]
    config = config_json()
    config["plan"]["max_epochs"] = 30
    assert 4e6 < len(written(write_run(tmp_path / "many", trials, config=config)).encode()) < 8e6


def test_charts_tell_the_best_so_far_and_who_was_stopped_where(page: str) -> None:
    best, _, curves, rungs = reader_of(page).charts[:4]
    assert best["data"][0]["y"] == pytest.approx([1 / 3, 0.5, 10 / 12, 10 / 12], abs=1e-4)
    assert {trace["name"] for trace in curves["data"]} == {"stopped", "best, t0000"}
    told = {trace["name"]: trace["text"] for trace in rungs["data"]}
    assert told == {"went on": ["t0000, frames", "t0003, frames"], "stopped": ["t0001, frames"]}
    assert reader_of(page).row("rung 1")[:4] == ["rung 1", "t0001", "3", "2"]


def test_a_parameter_that_some_trials_were_not_asked_for_keeps_them_on_its_axis(page: str) -> None:
    traces = [chart["data"][0] for chart in reader_of(page).charts]
    [axes] = [trace["dimensions"] for trace in traces if trace.get("type") == "parcoords"]
    units = next(axis for axis in axes if axis["label"] == "units")
    assert len(units["values"]) == 3 and "not asked" in units["ticktext"]


def test_importance_needs_trials_and_finds_the_parameter_that_matters(tmp_path: Path, run: Path) -> None:
    few, names = importance(find_run(run).searches[0])
    assert "1 trials ran to their end; with fewer than 10" in few and not names
    generator = np.random.default_rng(1)
    trials = []
    for _ in range(40):
        network, noise = ["a", "b"][int(generator.integers(2))], float(generator.random())
        trials.append(({"network": network, "noise": noise}, [GOOD if network == "b" else POOR], "done", ""))
    _, names = importance(find_run(write_run(tmp_path / "forty", trials)).searches[0])
    assert names == ["network", "noise"]


def test_a_row_has_the_command_that_trains_it_again(run: Path) -> None:
    rows = {row["trial"]: row for board in boards_of([find_run(run)]) for row in board.rows}
    words = shlex.split(rows["t0003"].command)
    assert words[:2] == ["python", "search/run.py"]
    assert words[words.index("--as-trial") + 1] == "3" and words[words.index("--seed") + 1] == "3"
    assert {words[place + 1] for place, word in enumerate(words) if word == "--fix"} == {"network=cnn", "rate=0.3"}


def pinned_config(command: str) -> dict[str, Value]:
    """What a command that pins every parameter would train, with nothing left to a sampler."""
    arguments = parse_arguments(shlex.split(command)[2:])
    space = load_space(arguments.space, arguments.fix)
    space = space if space.encoder is None else space.bound_to(12)
    corner = Corner({}, high=False)
    config = space.configure(corner)
    assert not corner.asked
    return config


@pytest.mark.parametrize("name", ["mfcc_full", "mel_cnn", "wav2vec2_full"])
def test_the_command_pins_a_trial_s_whole_configuration(name: str) -> None:
    space = load_space(name)
    space = space if space.encoder is None else space.bound_to(12)
    proposer = Proposer(space, sampler="random", seed=1, study_name="any")
    config = config_json()
    config["arguments"] |= {"space": name, "fix": {}}
    known_good = len(space.start_configurations())
    for proposal in [proposer.ask() for _ in range(known_good + 5)]:
        one = StudyTrial(proposal.number, proposal.params, proposal.config, proposal.origin)
        assert pinned_config(command_of(one, config)) == proposal.config


def test_the_command_names_one_of_several_encoders_and_its_parameters_plainly() -> None:
    space = EncoderAxis.over(load_space("wav2vec2_full"), {"small": 12, "large": 24})
    proposer = Proposer(space, sampler="random", seed=1, study_name="any")
    shared = {"revision": "abc", "pretrained": True}
    config = config_json()
    config["arguments"] |= {"space": "wav2vec2_full", "fix": {}}
    config["plan"]["encoders"] = [{"label": one, "name": f"lab/{one}", **shared} for one in ("small", "large")]
    for proposal in [proposer.ask() for _ in range(4)]:
        one = StudyTrial(proposal.number, proposal.params, proposal.config, proposal.origin)
        words = shlex.split(command_of(one, config))
        assert words[words.index("--encoder") + 1] == f"lab/{proposal.config['encoder']}@abc"
        pins = dict(word.split("=") for place, word in enumerate(words) if words[place - 1] == "--fix")
        assert "encoder" not in pins
        assert pins.items() <= {name: str(value) for name, value in proposal.config.items()}.items()


def test_as_trial_trains_with_the_generators_of_that_number() -> None:
    plan = TrialPlan("run", "tests.search.knob_family", {}, seed=5, max_epochs=1, threads=1)
    seeds = []
    with (
        mock.patch("tests.search.knob_family.build", lambda *args, seed, **kwargs: seeds.append(seed)),
        mock.patch("search.trial.task_and_settings", lambda config, plan: (None, {})),
    ):
        _build(7, {}, plan)
        _build(0, {}, replace(plan, first_number=7))
        _build(0, {}, plan)
    assert seeds[0] == seeds[1] != seeds[2]


def test_finalists_stand_on_the_board_with_test_and_its_interval(judged_run: Path, judged_page: str) -> None:
    [board] = boards_of([find_run(judged_run)])
    rows = {row["trial"]: row for row in board.rows}
    assert rows["t0000"]["test_uar"] == 0.7 and rows["t0000"]["seeds"] == 2
    assert rows["ensemble"]["rank"] is None and rows["ensemble"]["test_uar"] == 0.72
    assert board.winner is rows["t0000"]
    text = reader_of(judged_page).text
    assert "0.600–0.800" in text and "The winner t0000 (.700) gains" in text


def test_confusions_are_counts_and_shares_with_the_interval_in_the_title(
    judged_run: Path, judged_page: str, prepared_tone_corpus: Path
) -> None:
    first = rows_of(judged_run, prepared_tone_corpus)[0]
    page = reader_of(judged_page)
    expected = uar(confusion(first.labels, first.predictions, 6))
    assert f"t0000: UAR {expected:.3f} (95 % over 8 speakers " in page.text
    [anger] = [row for row in page.rows if len(row) == 8 and row[0] == "anger"][:1]
    assert sum(int(re.sub(r".*%", "", cell)) for cell in anger[1:7]) == int(anger[7]) == 16
    for end in ("svg", "png"):
        assert (judged_run / "figures" / f"confusion_t0000.{end}").stat().st_size > 1000
    assert f"UAR {expected:.3f}" in (judged_run / "figures" / "confusion_t0000.svg").read_text()


def rows_of(folder: Path, corpus: Path) -> list[Judged]:
    from ser_data.corpus import open_corpus

    predictions = find_run(folder).predictions
    assert predictions is not None
    return judged_rows(predictions, open_corpus(corpus))


def test_predictions_csv_has_file_speaker_truth_probabilities_and_uncertainty(
    judged_run: Path, judged_page: str
) -> None:
    assert "predictions.csv" in judged_page
    table = pd.read_csv(judged_run / "predictions.csv")
    assert list(table.columns) == ["row", "file", "speaker", "truth", "predicted", *(f"p_{name}" for name in SIX),
                                   "uncertainty"]  # fmt: skip
    assert len(table) == 2 * 96 and table["uncertainty"].between(0, 1).all()
    sure = table[table["row"] == "t0000"]["uncertainty"].mean()
    assert sure < table[table["row"] == "SVM"]["uncertainty"].mean()


def made_up(probabilities: list[list[float]], labels: list[int], votes: list[str]) -> Judged:
    clips = pd.DataFrame({"clip": list("abcdef")[: len(labels)], "speaker": ["x", "x", "y", "y"], "voice_vote": votes})
    return Judged("t", ("happy", "sad"), np.array(labels), np.array(probabilities), clips)


def test_calibration_error_is_the_gap_between_what_is_said_and_what_is_right() -> None:
    one = made_up([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.45, 0.55]], [0, 1, 0, 1], [""] * 4)
    found = reliability(one)
    assert found.clips == [2, 2] and found.accuracy == [1.0, 0.5]
    assert found.error == pytest.approx((0.45 + 0.45) / 2)


def test_clips_are_told_apart_by_what_people_hear() -> None:
    one = made_up([[0.9, 0.1]] * 4, [0, 0, 0, 0], ["happy", "happy:sad", "sad", ""])
    assert [chosen.tolist() for _, chosen in crowd_groups(one)] == [
        [True, False, False, False], [False, True, False, False], [False, False, True, False],
    ]  # fmt: skip
    assert not crowd_groups(made_up([[0.9, 0.1]] * 4, [0, 0, 0, 0], [""] * 4))


def test_the_published_figures_have_a_source_each_and_are_of_the_same_task() -> None:
    table = published()
    assert table["source"].notna().all() and table["value"].between(0, 1).all()
    assert people() == 0.409
    six = boards_of_config(config_json(emotions=SIX))
    assert fits(six) and not fits(boards_of_config(config_json(emotions=["happy", "sad"])))
    assert not fits(boards_of_config(config_json(emotions=SIX, generated=True)))


def boards_of_config(config: dict[str, Any]) -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(data=config["data"])


def test_published_figures_are_apart_and_leaky_protocols_red(tmp_path: Path) -> None:
    page = written(write_run(tmp_path / "run", config=config_json(emotions=SIX)))
    assert page.index('id="board-0"') < page.index("Published elsewhere</h2>")
    assert re.search(r'<tbody class="leaky">.{0,200}EmoBox', page)
    assert not re.search(r'<tbody class="leaky">.{0,120}tfds', page)


def test_a_leaky_split_and_generated_speech_are_said_above_the_board(tmp_path: Path) -> None:
    leaky = write_run(tmp_path / "leaky", config=config_json(split="random", leaky=True))
    assert "Split random is leaky: the same speakers train and validate" in read(leaky).text
    assert 'class="board leaky"' in written(leaky)
    assert "This speech is generated." in read(write_run(tmp_path / "made", config=config_json(generated=True))).text


def test_runs_on_other_clips_have_a_board_of_their_own(tmp_path: Path, run: Path) -> None:
    other = write_run(tmp_path / "other", config=config_json(split="audeering"))
    same = write_run(tmp_path / "same")
    boards = boards_of([find_run(folder) for folder in (run, other, same)])
    assert [[one.name for one in board.runs] for board in boards] == [["run", "same"], ["other"]]
    assert len(boards[0].rows) == 8 and len(boards[1].rows) == 4
    text = read(run, other, same).text
    assert "Board: crema_d, split tfds" in text and "Board: crema_d, split audeering" in text


def test_a_search_over_several_spaces_has_one_board(tmp_path: Path) -> None:
    whole = {**config_json(), "members": ["a", "b"]}
    write_run(tmp_path, (), config=whole)
    for name in "ab":
        config = config_json()
        config["arguments"]["space"] = name
        write_run(tmp_path / name, config=config)
    [board] = boards_of([find_run(tmp_path)])
    assert {row["trial"] for row in board.rows} >= {"a/t0000", "b/t0000"}
    assert "Families side by side" in read(tmp_path).text


def test_what_is_gone_or_damaged_is_said_and_the_rest_shown(
    tmp_path: Path, prepared_tone_corpus: Path, judged_run: Path
) -> None:
    folder = write_run(tmp_path / "run", config=judged_config(prepared_tone_corpus))
    add_finalists(folder, prepared_tone_corpus)
    (folder / "finalists" / "round-1" / "test_predictions.csv").unlink()
    (folder / "best").mkdir()
    text = read(folder).text
    assert "what its finalists said of each clip is gone" in text and "best is not whole" in text
    assert "0.600–0.800" in text  # the finalists' board is there
    (folder / "finalists.csv").write_text("rank,name\n1,t0000\n")
    assert "lacks the columns role, test_uar" in read(folder).text
    config = json.loads((judged_run / "config.json").read_text())
    config["data"]["prepared"] = str(tmp_path / "moved")
    moved = write_run(tmp_path / "moved_run", config=config)
    add_finalists(moved, prepared_tone_corpus)
    text = read(moved).text
    assert "Sex, age, sentence and the crowd's votes are not shown: no corpus at" in text
    assert "Confusion matrix" in text


def test_half_a_run_is_shown_as_far_as_it_got(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "half", ended="")
    record = folder / "events.jsonl"
    record.write_bytes(record.read_bytes()[:-20])
    text = read(folder).text
    assert "it is not finished" in text and "running" in text
    config = config_json()
    del config["data"]
    nothing = write_run(tmp_path / "nothing", (), config=config, ended="")
    assert "never got as far as its data" in read(nothing).text
    assert "has no trial yet" in read(write_run(tmp_path / "none", ())).text


def test_runs_that_cannot_be_read_are_left_out_by_name(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_json()
    config["format"] = 9
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    page = tmp_path / "page.html"
    assert main([str(run), str(tmp_path / "old"), str(tmp_path / "nowhere"), "--out", str(page)]) == 0
    told = capsys.readouterr()
    assert "has format 9; this version reads format 1" in told.err and "nowhere holds no search" in told.err
    assert f"{page}: " in told.out and "has format 9" in page.read_text()
    with pytest.raises(UserError, match="nowhere holds no search"):
        main([str(tmp_path / "nowhere")])
    with pytest.raises(UserError, match=r"is a folder. Name a file in it"):
        main([str(run), "--out", str(tmp_path)])


def test_a_page_that_cannot_be_written_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be written \(.*Name another page with --out"):
        write_page([run], tmp_path / "file" / "page.html")


def test_the_record_is_left_as_it_is(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TRIALS)
    before = (folder / "events.jsonl").read_bytes()
    write_page([folder], folder / "leaderboard.html")
    assert (folder / "events.jsonl").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "events.jsonl", "events.jsonl.lock", "leaderboard.html",
    ]  # fmt: skip


def test_the_front_is_of_what_nothing_cheaper_beats(tmp_path: Path) -> None:
    trials = [({"x": 0}, [FAIR], "done", ""), ({"x": 1}, [GOOD], "done", ""), ({"x": 2}, [POOR], "done", "")]
    page = read(write_run(tmp_path / "run", trials, costs_gmacs=[0.5, 0.2, 0.1]))
    assert "Score against inference cost" in page.text
    fronts = [trace for chart in page.charts for trace in chart.get("data", ()) if trace.get("name") == "front"]
    assert [(trace["x"], trace["text"]) for trace in fronts] == [([0.1, 0.2], ["t0002", "t0001"])]
    assert "0.2" in page.row("t0001")


def test_a_run_that_counted_no_multiply_adds_shows_its_parameters(tmp_path: Path) -> None:
    page = read(write_run(tmp_path / "run"))
    assert "Score against size" in page.text
    assert "inference cost" not in page.text
