"""Several spaces that share a budget, without Ray: what is handed out when, and what a record gives back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from search.portfolio import ALLOCATED, SPAN, Machine, MemberStudy, Portfolio
from search.proposals import Proposer
from search.record import Record, read_events
from search.rungs import NoStopping, RungGroups
from search.space import load_space
from search.study import Study
from tests.search.boards import FAIR, GOOD, POOR, epoch
from tests.search.knob_search import knob_spaces

EPOCHS = 3  # of the space plain


@dataclass
class Opened:
    """A portfolio on disk, to be closed and opened again."""

    folder: Path
    resources: Sequence[tuple[int, float]]
    machine: Machine
    num_trials: int
    records: list[Record] = field(default_factory=list)

    def open(self) -> Portfolio:
        names = [f"space_{place}" for place in range(len(self.resources))]
        self.records = [Record(self.folder / f"{name}.jsonl") for name in ("all", *names)]
        with knob_spaces():
            space = load_space("plain")
        members = [
            MemberStudy(name, self._study(record, space, name), 1, cpus, gpus)
            for name, record, (cpus, gpus) in zip(names, self.records[1:], self.resources, strict=True)
        ]
        return Portfolio(self.records[0], members, self.machine, num_trials=self.num_trials)

    @staticmethod
    def _study(record: Record, space: Any, name: str) -> Study:
        proposer = Proposer(space, sampler="random", seed=0, study_name=name)
        return Study(record, proposer, RungGroups(NoStopping, str), num_trials=SPAN, max_epochs=EPOCHS, space=name)

    def close(self) -> None:
        for record in self.records:
            record.close()

    def choices(self) -> list[dict[str, Any]]:
        return [event for event in read_events(self.folder / "all.jsonl") if event["kind"] == ALLOCATED]


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Opened]:
    def make(*resources: tuple[int, float], cpus: int = 2, gpus: int = 0, trials: int = 99, **machine: Any) -> Opened:
        return Opened(tmp_path, resources, Machine(cpus, gpus, **machine), trials)

    return make


def run_to_end(portfolio: Portfolio, number: int, hits: list[list[int]] = FAIR, seconds: float = 10.0) -> None:
    for which in range(1, EPOCHS + 1):
        portfolio.report(number, epoch(which, hits, seconds=seconds))


def places(numbers: Sequence[int]) -> list[int]:
    return [number // SPAN for number in numbers]


def hand_out(portfolio: Portfolio) -> list[int]:
    """Numbers of all trials that may start now."""
    numbers = []
    while (proposal := portfolio.next_trial()) is not None:
        numbers.append(proposal.number)
    return numbers


def test_as_many_trials_start_as_cores_are_free_and_the_rest_wait(opened: Callable[..., Opened]) -> None:
    portfolio = opened((1, 0), (2, 0), cpus=4).open()
    first = hand_out(portfolio)
    assert places(first) == [0, 1, 0] and portfolio.waiting
    run_to_end(portfolio, first[0])
    assert places(hand_out(portfolio)) == [0] and portfolio.waiting
    run_to_end(portfolio, first[1])
    assert sum(2 if place else 1 for place in places(hand_out(portfolio))) == 2


def test_no_gpu_idles_while_a_trial_could_use_it(opened: Callable[..., Opened]) -> None:
    """Four cores, two GPUs: a space on cores alone starts only when the GPUs are taken."""
    portfolio = opened((1, 0), (1, 1), (1, 0.5), cpus=4, gpus=2).open()
    live = hand_out(portfolio)
    for _ in range(12):
        gpus = sum({0: 0.0, 1: 1.0, 2: 0.5}[place] for place in places(live))
        cores_left = 4 - len(live)
        assert gpus == 2 or cores_left == 0
        assert gpus >= 1.5  # less would leave room for a trial of either GPU space
        ended = live.pop(0)
        run_to_end(portfolio, ended, POOR if ended // SPAN else GOOD)  # the space without GPUs has the best prospect
        live += hand_out(portfolio)


def test_at_most_as_many_run_as_are_allowed(opened: Callable[..., Opened]) -> None:
    portfolio = opened((1, 0), (1, 0), cpus=8, concurrent=3).open()
    assert len(hand_out(portfolio)) == 3 and portfolio.waiting


def test_machines_that_come_and_go_are_written_down_and_shared_from_then_on(opened: Callable[..., Opened]) -> None:
    state = opened((1, 0), (1, 1.0), cpus=1)
    portfolio = state.open()
    assert places(hand_out(portfolio)) == [0]
    portfolio.note_machines(joined=1, left=0, concurrent=3, cpus=3, gpus=1)
    assert places(hand_out(portfolio)) == [1, 0]  # the GPU first
    portfolio.note_machines(joined=0, left=2, concurrent=0, cpus=0, gpus=0)
    for number in list(portfolio.trials):
        run_to_end(portfolio, number)
    assert hand_out(portfolio) == [] and portfolio.waiting
    portfolio.note_machines(joined=1, left=0, concurrent=1, cpus=1, gpus=0)
    assert places(hand_out(portfolio)) == [0]
    noted = [event for event in read_events(state.folder / "all.jsonl") if event["kind"] == "machines"]
    assert [(event["joined"], event["left"], event["concurrent"]) for event in noted] == [
        (1, 0, 3),
        (0, 2, 0),
        (1, 0, 1),
    ]
    state.close()


def test_the_budget_of_trials_is_of_all_spaces_together(opened: Callable[..., Opened]) -> None:
    portfolio = opened((1, 0), (1, 0), cpus=8, trials=5).open()
    numbers = hand_out(portfolio)
    assert len(numbers) == 5 and not portfolio.waiting
    assert portfolio.remaining == 0 and portfolio.unfinished
    for number in numbers:
        run_to_end(portfolio, number)
    assert not portfolio.unfinished and len(portfolio.trials) == 5


def test_what_is_reported_reaches_the_study_that_it_belongs_to(opened: Callable[..., Opened]) -> None:
    search = opened((1, 0), (1, 0))
    portfolio = search.open()
    first, second = hand_out(portfolio)
    run_to_end(portfolio, second, GOOD)
    portfolio.fail(first, "a fault")
    assert portfolio.trials[second].best_score == pytest.approx(10 / 12)
    assert (portfolio.trials[first].outcome, portfolio.trials[first].reason) == ("failed", "a fault")
    assert [trial.space for trial in portfolio.trials.values()] == ["space_0", "space_1"]
    portfolio.end("trials")
    search.close()
    kinds = [[event["kind"] for event in read_events(search.folder / f"space_{n}.jsonl")] for n in (0, 1)]
    assert kinds[0] == ["format", "sitting", "suggested", "failed", "ended"]
    assert kinds[1] == ["format", "sitting", "suggested", "epoch", "epoch", "epoch", "done", "ended"]


def test_every_choice_is_on_record_before_its_trial_with_the_reason(opened: Callable[..., Opened]) -> None:
    search = opened((1, 0), (1, 0), cpus=1)
    portfolio = search.open()
    for hits in (FAIR, GOOD, FAIR, GOOD, GOOD):
        (number,) = hand_out(portfolio)
        run_to_end(portfolio, number, hits)
    search.close()
    choices = search.choices()
    assert [choice["reason"] for choice in choices] == ["start"] * 4 + ["prospect"]
    assert [choice["space"] for choice in choices] == ["space_0", "space_1"] * 2 + ["space_1"]
    assert choices[-1]["prospects"]["space_1"] > choices[-1]["prospects"]["space_0"]


@pytest.mark.parametrize("killed_after", [1, 2, 5, 9])
def test_a_search_that_was_killed_goes_on_with_its_unfinished_trials_and_makes_the_same_choices(
    opened: Callable[..., Opened], tmp_path: Path, killed_after: int
) -> None:
    def drive(search: Opened, steps: int | None) -> None:
        """One trial at a time, an epoch a step."""
        portfolio = search.open()
        done = 0
        while (proposal := portfolio.next_trial()) is not None:
            hits = (POOR, GOOD)[proposal.number // SPAN]
            for which in range(1, EPOCHS + 1):  # it reports from its checkpoint on
                if steps is not None and done == steps:
                    return search.close()
                portfolio.report(proposal.number, epoch(which, hits, seconds=10.0))
                done += 1
        search.close()

    whole = Opened(tmp_path / "whole", ((1, 0), (1, 0)), Machine(1, 0), 8)
    torn = Opened(tmp_path / "torn", ((1, 0), (1, 0)), Machine(1, 0), 8)
    for search in (whole, torn):
        search.folder.mkdir()
    drive(whole, None)
    drive(torn, killed_after)
    drive(torn, None)

    def without_times(search: Opened, name: str) -> list[dict[str, Any]]:
        events = read_events(search.folder / f"{name}.jsonl")
        return [{k: v for k, v in event.items() if k != "at"} for event in events if event["kind"] != "sitting"]

    for name in ("space_0", "space_1"):
        assert without_times(torn, name) == without_times(whole, name)
    assert [c["space"] for c in torn.choices()] == [c["space"] for c in whole.choices()]
