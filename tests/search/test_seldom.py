"""Views that are written after trials have ended, for a twentieth of the driver's time at most."""

import pytest

from search.seldom import SHARE, Seldom
from search.study import StudyTrial

TRIAL = StudyTrial(0, {}, {}, "tpe")
EPOCH, DONE = {"kind": "epoch"}, {"kind": "done"}


class Board:
    """One that takes two seconds to write, by a clock of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.written: list[float] = []
        monkeypatch.setattr("search.seldom.monotonic", lambda: self.now)
        self._listen = Seldom(self._write)

    def _write(self) -> None:
        self.written.append(self.now)
        self.now += 2.0

    def hear(self, event: dict[str, str], at: float) -> None:
        self.now = max(self.now, at)
        self._listen(TRIAL, event)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return Board(monkeypatch)


def test_the_first_end_of_a_trial_is_on_the_board_at_once_and_an_epoch_writes_nothing(board: Board) -> None:
    board.hear(EPOCH, at=100)
    assert board.written == []
    board.hear(DONE, at=101)
    assert board.written == [101]


@pytest.mark.parametrize("kind", ["done", "stopped", "failed"])
def test_every_way_to_end_counts(board: Board, kind: str) -> None:
    board.hear({"kind": kind}, at=101)
    assert board.written == [101]


def test_an_end_that_came_too_soon_is_made_up_for_by_the_next_event_whatever_it_is(board: Board) -> None:
    pause = 2.0 / SHARE
    board.hear(DONE, at=101)
    board.hear(DONE, at=110)
    board.hear(EPOCH, at=103 + pause - 1)
    assert board.written == [101]
    board.hear(EPOCH, at=103 + pause)
    assert board.written == [101, 103 + pause]
    board.hear(EPOCH, at=103 + 10 * pause)
    assert len(board.written) == 2, "nothing ended since"


def test_with_an_end_a_second_the_board_takes_its_share_and_no_more(board: Board) -> None:
    for second in range(2000):
        board.hear(DONE, at=200.0 + second)
    taken = 2.0 * len(board.written) / (board.now - 200)
    assert SHARE / 2 < taken <= 1.1 * SHARE


def test_a_board_that_cannot_be_written_says_so_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def write() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OSError("no room")

    listen = Seldom(write)
    with pytest.raises(OSError, match="no room"):
        listen(TRIAL, DONE)
    listen(TRIAL, EPOCH)
    assert len(tries) == 2
