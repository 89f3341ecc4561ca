"""The board of a search over several spaces, and what it says of how they shared the budget."""

from collections.abc import Iterable, Sequence

import pandas as pd

from search.allocator import Member
from search.baselines import BASELINE, CLASSICAL_ROW
from search.leaderboard import leaderboard
from search.opening import Search
from search.portfolio import ALLOCATED
from search.record import Event
from search.result_keys import SCORE
from search.study import StudyTrial
from ser_models.trial import Baseline

Found = tuple[Sequence[StudyTrial], Sequence[Baseline]]


def portfolio_board(members: Sequence[Search], found: Sequence[Found], *, ended: bool) -> pd.DataFrame:
    """The members' boards as one: trials are called ``SPACE/tNNNN``, and the classical baseline stands once.

    Args:
        members: its spaces' own searches
        found: trials and baselines of each member
        ended: whether the search ended for good
    """
    boards: list[pd.DataFrame] = []
    for member, (trials, baselines) in zip(members, found, strict=True):
        board = leaderboard(trials, member.config, baselines=baselines, ended=ended)
        classical = (board["origin"] == BASELINE) & (board["trial_id"] == CLASSICAL_ROW)
        if boards:
            board, classical = board[~classical], classical[~classical]
        board["trial_id"] = board["trial_id"].where(classical, member.space.name + "/" + board["trial_id"])
        boards.append(board.astype(object))
    together = pd.concat([board for board in boards if len(board)] or boards[:1], ignore_index=True)
    order = together.assign(
        failed=together["status"] == "failed", score=-together[SCORE].astype(float).fillna(float("-inf"))
    ).sort_values(["failed", "score"], kind="stable")  # fmt: skip
    sorted_board = together.loc[order.index].reset_index(drop=True)
    sorted_board["rank"] = range(1, len(sorted_board) + 1)
    fixed = [name for name in sorted_board.columns if not str(name).startswith("config.")]
    sorted_board[fixed] = sorted_board[fixed].infer_objects()
    return sorted_board


def allocation_lines(
    members: Sequence[Search], events: Iterable[Event], found: Sequence[Sequence[StudyTrial]]
) -> list[str]:
    """What each space got of the budget, and why, a sentence each.

    Args:
        members: the spaces' own searches
        events: of the whole search's record
        found: trials of each member
    """
    choices = [event for event in events if event["kind"] == ALLOCATED]
    seconds = [sum(trial.seconds for trial in trials) for trials in found]
    total = sum(seconds) or 1.0
    lines = []
    for searched, trials, own in zip(members, found, seconds, strict=True):
        name = searched.space.name
        member = Member(name, trials, 0, 1.0)
        reasons = [choice["reason"] for choice in choices if choice["space"] == name]
        why = ", ".join(f"{reasons.count(reason)} by its {reason}" for reason in ("start", "floor", "prospect")
                        if reason in reasons)  # fmt: skip
        best = f"best {member.best:.3f}" if member.best > float("-inf") else "no score"
        lines.append(f"{name}: {len(trials)} trials ({why}), {own / total:.0%} of the time in trials, {best}.")
    return lines
