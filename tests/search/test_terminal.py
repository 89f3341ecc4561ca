"""What a person sees: a board that fits, and a line for each finished trial where output is piped."""

import io

import pytest
from rich.console import Console

from search.leaderboard import leaderboard
from search.study import StudyTrial
from search.terminal import LiveView, board_table, settings
from tests.search.boards import FAIR, GOOD, POOR, config_json, epoch, trial

LONG = {
    "network": "crnn_attention", "learning_rate": 0.00123456, "weight_decay": 1e-05, "recurrent_units": 128,
    "class_weights": True, "spec_augment": False,
}  # fmt: skip


def test_settings_are_one_short_line() -> None:
    assert settings(LONG) == (
        "network=crnn_attention learning_rate=0.00123 weight_decay=1e-05 recurrent_units=128 class_weights=True "
        "spec_augment=False"
    )


@pytest.mark.parametrize("width", [80, 120, 140])
def test_the_board_loses_no_column_and_no_number(width: int) -> None:
    trials = [
        trial(0, [epoch(1, GOOD)], "completed", **LONG),
        trial(1, [epoch(1, POOR)], "stopped", **{**LONG, "network": "statistics_mlp", "learning_rate": 0.0025}),
        trial(2, [], "failed", **{**LONG, "weight_decay": 0.5}),
        trial(12, [epoch(1, FAIR)], None, network="cnn", learning_rate=0.5),
    ]
    console = Console(file=io.StringIO(), width=width)
    console.print(board_table(leaderboard(trials, config_json())))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, see above
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    for found in ("t0000", "t0001", "t0002", "t0012", "completed", "stopped", "failed", "running", "0.833", "0.333",
                  "0.823", "0.323"):  # fmt: skip
        assert found in text
    for head in ("rank", "trial", "status", "val UAR", "95 % over", "speakers", "accuracy", "epochs", "settings"):
        assert head in text
    rows = [line.split()[:4] for line in text.splitlines() if "t00" in line]
    assert rows == [
        ["1", "t0000", "completed", "0.833"], ["2", "t0012", "running", "0.500"], ["3", "t0001", "stopped", "0.333"],
        ["4", "t0002", "failed", "–"],
    ]  # fmt: skip


EXTRAS = {"val_roc_auc": 0.7654, "val_reconstruction": 0.0123}


def shown(trials: list[StudyTrial], width: int) -> str:
    """The board as the terminal has it."""
    console = Console(file=io.StringIO(), width=width)
    console.print(board_table(leaderboard(trials, config_json())))
    return console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, see above


@pytest.mark.parametrize("names", [(), ("val_roc_auc",), ("val_reconstruction",), tuple(EXTRAS)])
def test_extras_have_a_column_where_some_trial_has_them(names: tuple[str, ...]) -> None:
    extras = {name: EXTRAS[name] for name in names}
    trials = [
        trial(0, [epoch(1, GOOD, **extras), epoch(2, GOOD)], x=0.5),
        trial(1, [epoch(1, POOR)], x=0.25),
        trial(2, [], "failed", x=0.125),
    ]
    text = shown(trials, 140)
    assert ("ROC" in text, "recon" in text) == tuple(name in names for name in EXTRAS)
    assert "nan" not in text and "…" not in text
    there = [title for title, name in zip(("ROC", "recon"), EXTRAS, strict=True) if name in names]
    heads = ["UAR", "acc", *there, "epochs", "settings"]
    places = [next(line.index(head) for line in text.splitlines() if head in line) for head in heads]
    assert places == sorted(places)
    rows = [line.split() for line in text.splitlines() if "t00" in line]
    scores = [f"{value:.3f}" for value in extras.values()]
    assert rows == [
        ["1", "t0000", "completed", "0.833", "0.750–1.000", "0.823", *scores, "2", "2", "x=0.5"],
        ["2", "t0001", "completed", "0.333", "0.250–0.500", "0.323", *["–"] * len(names), "1", "1", "x=0.25"],
        ["3", "t0002", "failed", "–", "–", "–", *["–"] * len(names), "0", "0", "x=0.125"],
    ]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("names", [("val_roc_auc",), ("val_reconstruction",), tuple(EXTRAS)])
def test_the_board_loses_no_column_and_no_number_to_its_extras(names: tuple[str, ...], width: int) -> None:
    extras = {name: EXTRAS[name] for name in names}
    trials = [
        trial(0, [epoch(1, GOOD, seconds=234.0, **extras)], **LONG),
        trial(1, [epoch(1, POOR, **extras)], "stopped", **{**LONG, "network": "statistics_mlp"}),
    ]
    text = shown(trials, width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    numbers = ["0.833", "0.750–1.000", "0.823", "234", *(f"{extras[name]:.3f}" for name in names)]
    for found in ("t0000", "completed", *numbers):
        assert found in text
    assert any("=" in line for line in text.splitlines())  # of the settings that differ


def test_a_score_without_an_interval_shows_none() -> None:
    config = config_json(val_totals=[[6, 6]], actors={"train": 4, "validation": 1, "test": 0})
    console = Console(file=io.StringIO(), width=80)
    console.print(board_table(leaderboard([trial(0, [epoch(1, [[3, 3]])], x=0.1)], config)))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO, see above
    assert "0.500" in text and "nan" not in text


def test_the_board_shows_the_head_of_many_rows() -> None:
    board = leaderboard([trial(number, [epoch(1, FAIR)], x=number) for number in range(30)], config_json())
    assert board_table(board).row_count == 10


def test_piped_output_gets_a_line_per_finished_trial_and_no_other() -> None:
    text = io.StringIO()
    trials = {
        0: trial(0, [epoch(1, FAIR), epoch(2, GOOD)]),
        1: trial(1, [epoch(1, POOR)], "stopped", reason="rung 1: 0.333 < 0.500"),
        2: trial(2, [], "failed", reason="ValueError: [too] wide"),
    }
    with LiveView(Console(file=text, width=80), num_trials=4, known=trials) as view:
        view.say("a line")
        for number, kind in ((0, "suggested"), (0, "epoch"), (0, "done"), (1, "epoch"), (1, "stopped"), (2, "failed")):
            view.on_event(trials[number], {"kind": kind, "number": number})
    lines = text.getvalue().splitlines()
    assert lines[0] == "a line"
    assert [line.partition("] ")[2] for line in lines[1:]] == [
        "t0000 completed: 0.833 after 2 epochs",
        "t0001 stopped: 0.333 after 1 epochs (rung 1: 0.333 < 0.500)",
        "t0002 failed: no epoch (ValueError: [too] wide)",
    ]


def test_a_terminal_shows_leaders_running_trials_and_a_bar_and_cleans_up() -> None:
    text = io.StringIO()
    console = Console(file=text, width=100, force_terminal=True, _environ={"TERM": "xterm"})
    trials = {
        number: trial(number, [epoch(1, FAIR), epoch(2, GOOD)], network="cnn", x=0.5 + number) for number in range(7)
    }
    trials[7] = trial(7, [epoch(1, POOR)], None, network="crnn", x=0.25)
    view = LiveView(console, num_trials=9, known=trials)
    with view:
        trials[8] = trial(8, [], None, network="mlp")
        trials[7].length = trials[8].length = 2
        view.on_event(trials[8], {"kind": "suggested", "number": 8})
        plain = Console(width=100, record=True, file=io.StringIO())
        plain.print(view._render())
    shown = plain.export_text()
    assert [f"t000{number}" in shown for number in range(9)] == [True] * 5 + [False] * 2 + [True] * 2
    assert "1/2" in shown and "0/2" in shown  # epochs of the running ones
    assert "network=crnn x=0.25" in shown
    assert "7/9 trials" in shown
    assert text.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in text.getvalue()  # the cursor is back


def test_of_hundreds_of_running_trials_a_screenful_is_shown_and_all_are_counted() -> None:
    trials = {number: trial(number, [epoch(1, FAIR)], None) for number in range(512)}
    trials[512] = trial(512, [epoch(1, GOOD)])
    text = live_text(LiveView(Console(file=io.StringIO(), force_terminal=True), num_trials=600, known=trials))
    rows = [line.split()[0] for line in text.splitlines() if line.startswith("t0")]
    assert rows[0] == "t0512" and 10 < len(rows) < 60
    assert "512 running" in text


def test_a_trial_is_shown_with_its_own_length() -> None:
    trials = {number: trial(number, [epoch(1, FAIR)], None) for number in range(2)}
    trials[0].length, trials[1].length = 8, 30
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), num_trials=2, known=trials)
    plain = Console(width=100, record=True, file=io.StringIO())
    plain.print(view._render())
    shown = plain.export_text()
    assert "1/8 " in shown and "1/30 " in shown


def test_what_comes_before_the_trials_is_one_live_line() -> None:
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), num_trials=2, known={})
    plain = Console(width=100, record=True, file=io.StringIO())
    with view.preparing() as show:
        show("frozen layers: 1,200 of 5,884 clips")
        plain.print(view._render())
    plain.print(view._render())
    assert plain.export_text().count("frozen layers: 1,200 of 5,884 clips") == 1


def test_piped_output_tells_once_what_is_being_prepared() -> None:
    text = io.StringIO()
    view = LiveView(Console(file=text, width=80), num_trials=2, known={})
    with view.preparing() as show:
        for line in ("frozen layers: 0 of 9 clips", "frozen layers: 4 of 9 clips", "linear probe: 1 of 2 epochs"):
            show(line)
    assert [line.partition("] ")[2] for line in text.getvalue().splitlines()] == [
        "frozen layers: 0 of 9 clips", "linear probe: 1 of 2 epochs",
    ]  # fmt: skip


def live_text(view: LiveView) -> str:
    """What a terminal shows now."""
    plain = Console(width=120, record=True, file=io.StringIO())
    plain.print(view._render())
    return plain.export_text()


def test_a_terminal_tells_best_pace_rung_and_time_left() -> None:
    trials = {
        0: trial(0, [epoch(1, FAIR), epoch(2, GOOD)], x=0.5),
        1: trial(1, [epoch(1, POOR)], None, x=0.25),
        2: trial(2, [epoch(number, POOR) for number in range(1, 7)], None, x=0.125),
        3: trial(3, [epoch(1, GOOD), epoch(2, [[2, 2], [2, 2], [2, 2]])], "failed", x=0.1),
    }
    trials[1].length = trials[2].length = 8
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), num_trials=9, known=trials, rungs=[2, 6],
                    seconds_left=lambda: 754.0)  # fmt: skip
    text = live_text(view)
    assert "best so far 0.833 (t0000) · 2 running" in text  # a failed one is not the best
    assert "epochs/s" not in text
    assert "12:34 min left of the time" in text
    assert [line.split()[3] for line in text.splitlines() if "running" in line and "t000" in line][:2] == ["2", "end"]
    for number in (1, 2):
        view.on_event(trials[number], {"kind": "epoch", "number": number})
    assert "epochs/s" in live_text(view)


def test_time_is_foretold_from_trials_that_ended_in_this_sitting() -> None:
    trials = {0: trial(0, [epoch(1, FAIR)])}
    view = LiveView(Console(file=io.StringIO(), force_terminal=True), num_trials=5, known=trials)
    trials[1] = trial(1, [epoch(1, FAIR)])
    assert "left" not in live_text(view)
    trials[2] = trial(2, [epoch(1, FAIR)])
    assert "about " in live_text(view) and " left" in live_text(view)


def test_a_view_without_a_score_says_so() -> None:
    assert "no score yet · 0 running" in live_text(LiveView(Console(file=io.StringIO()), num_trials=2, known={}))
