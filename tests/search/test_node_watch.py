"""Nodes that come and go: which a search may use, which it leaves out, and how many trials that makes."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import ray
from ray.exceptions import ActorUnavailableError, RayTaskError
from rich.console import Console

from search.arguments import Arguments
from search.cluster import lost_nodes, node_watch
from search.cluster.capacity import Change, TrialsAtATime, fitting
from search.cluster.joining import Cluster
from search.cluster.lost_nodes import Fate, fate_of
from search.cluster.node_watch import NodeWatch, away_from_unfit, usable_nodes, watched_nodes
from search.session import watch_nodes
from search.tune_adapters import SittingStopper
from ser_data.errors import UserError

FITS: Mapping[str, Any] = {"versions": {}, "files": {}, "unseen": [], "cuda": "", "storage": ""}
UNFIT = {**FITS, "unseen": ["/data"]}


@dataclass
class Nodes:
    """Nodes that answer what a test wants, in place of Ray's; one without a report does not answer yet."""

    cores: dict[str, int] = field(default_factory=dict)
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def join(self, name: str, report: Mapping[str, Any] | None = FITS, cores: int = 2) -> None:
        self.cores[name] = cores
        if report is not None:
            self.reports[name] = report

    def listed(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "NodeManagerAddress": f"at-{name}", "Alive": True, "Resources": {"CPU": cores}}
            for name, cores in self.cores.items()
        ]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    made = Nodes()
    monkeypatch.setattr(node_watch, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(ray, "nodes", made.listed)
    monkeypatch.setattr(ray, "wait", lambda refs, **_: ([ref for ref in refs if ref in made.reports], []))
    monkeypatch.setattr(node_watch, "ask", lambda new, *_: {node["NodeID"]: node for node in new})
    monkeypatch.setattr(node_watch, "report_of", lambda name: made.reports[name])
    monkeypatch.setattr(node_watch, "own_report", lambda: FITS)
    return made


class Sitting:
    """A watch, what it said, and the stopper that it may end."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.heard = threading.Event()
        self.stopper = SittingStopper(None)

    def say(self, line: str) -> None:
        self.said.append(line)
        self.heard.set()

    def watched(self) -> Any:
        return watched_nodes([], self.stopper, self.say, with_gpu=False)

    def next_line(self) -> str:
        assert self.heard.wait(30)
        self.heard.clear()
        return self.said[-1]


@pytest.fixture
def sitting() -> Sitting:
    return Sitting()


def test_a_search_is_refused_only_if_no_node_fits(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("a", UNFIT)
    nodes.join("b", UNFIT)
    with pytest.raises(UserError, match=r"cannot work on this search:\n  at-a, at-b: does not see /data\."):
        sitting.watched().__enter__()


def test_a_node_that_does_not_fit_is_named_at_the_start_and_left_out(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("good")
    nodes.join("bad", UNFIT, cores=8)
    with sitting.watched() as watch:
        assert sitting.next_line().splitlines()[1:] == [
            "  at-bad: does not see /data. Results must lie where every node sees them under the same path: "
            "name a shared folder by --out, or give a --storage.",
            "They are left out; the search runs on the others.",
        ]
        assert usable_nodes() == watch.capacity == [{"CPU": 2}]
        assert away_from_unfit() == {"label_selector": {"ray.io/node-id": "!in(bad)"}}
    assert away_from_unfit() == {}


def test_a_node_that_joins_and_does_not_fit_is_named_and_the_search_goes_on(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("good")
    with sitting.watched() as watch:
        assert away_from_unfit() == {}
        nodes.join("late", UNFIT)
        assert not watch.may_be_used("late") and watch.may_be_used("good")
        assert "at-late: does not see /data" in sitting.next_line()
        assert sitting.said[-1].endswith("They are left out; trials on the others go on.")
        assert not sitting.stopper.stop_all() and watch.take_change() is None


def test_where_no_node_is_left_that_fits_the_sitting_ends_with_how_to_go_on(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("good")
    with sitting.watched() as watch:
        del nodes.cores["good"]
        nodes.join("late", UNFIT)
        assert not watch.may_be_used("late")
        watch.refresh()
    assert isinstance(sitting.stopper.failure, UserError)
    assert "at-late: does not see /data" in str(sitting.stopper.failure) and "--resume" in str(sitting.stopper.failure)


def test_a_node_that_turns_out_not_to_fit_is_named_and_left_out(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("good")
    nodes.join("bad")
    with sitting.watched() as watch:
        watch.leave_out("bad", "has no room.")
        watch.leave_out("bad", "has no room.")
        assert not watch.may_be_used("bad") and watch.capacity == [{"CPU": 2}]
        assert watch.take_change() == Change(0, 1)
        (said,) = sitting.said
        assert "at-bad: has no room.\nThey are left out; trials on the others go on." in said
        watch.leave_out("good", "has no room either.")
    assert "at-good: has no room either.\nNo trial is lost" in str(sitting.stopper.failure)


def test_a_node_counts_when_it_has_been_looked_at_and_no_longer_when_it_is_gone(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("first")
    with sitting.watched() as watch:
        assert watch.take_change() is None  # it was there
        nodes.join("second", report=None)
        watch.refresh()
        assert not watch.knows("second") and watch.capacity == [{"CPU": 2}]
        nodes.reports["second"] = FITS
        assert watch.may_be_used("second") and watch.knows("second")
        assert watch.take_change() == Change(joined=1, left=0)
        del nodes.cores["first"]
        watch.refresh()
        assert watch.take_change() == Change(joined=0, left=1) and watch.capacity == [{"CPU": 2}]


def test_a_head_without_cores_is_not_looked_at(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("head", UNFIT, cores=0)
    nodes.join("worker")
    with sitting.watched():
        assert sitting.said == []


def test_a_cluster_without_a_core_for_trials_is_refused_with_what_to_do(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("head", cores=0)
    cluster = Cluster("joined", 0, 0, joined=True, hint="each joins with: ray start")
    message = (
        r"no machine of the cluster has a core for trials: its head .* Let one join, then try again\. each joins with"
    )
    with ExitStack() as stack, pytest.raises(UserError, match=message):
        watch_nodes(cluster, [Path("run")], None, Arguments(), sitting.stopper, stack, Console(quiet=True))


def test_nodes_that_a_launcher_may_start_count_before_they_are_there(
    nodes: Nodes, sitting: Sitting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_watch, "planned_nodes", lambda: [{"CPU": 4.0}] * 3)
    nodes.join("worker", cores=4)
    with sitting.watched() as watch:
        assert fitting(watch.capacity, 2, 0) == 6


@pytest.mark.parametrize(
    ("there", "cpus", "gpus", "expected"),
    [
        ([(3, 0), (3, 0)], 2, 0, 2),  # what is left over on each does not make another
        ([(16, 1), (16, 0)], 1, 0.25, 4),
        ([(2, 8)], 1, 0.25, 2),
        ([(16, 2)], 1, 0.6, 2),  # none runs on halves of two GPUs
        ([(16, 3)], 4, 2, 1),
        ([], 1, 0, 0),
    ],
)
def test_as_many_trials_fit_as_each_node_has_room_for(
    there: list[tuple[int, int]], cpus: int, gpus: float, expected: int
) -> None:
    assert fitting([{"CPU": cores, "GPU": cards} for cores, cards in there], cpus, gpus) == expected


class Noting:
    """A study that keeps what it is to write down."""

    def __init__(self) -> None:
        self.noted: list[dict[str, int]] = []

    def note_machines(self, **event: int) -> None:
        self.noted.append(event)


@pytest.mark.parametrize(("bound", "numbers"), [(None, (2, 4, 2)), (3, (2, 3, 2)), (1, (1, 1, 1))])
def test_trials_at_a_time_follow_the_nodes_within_max_concurrent_and_are_written_down(
    nodes: Nodes, sitting: Sitting, bound: int | None, numbers: tuple[int, ...]
) -> None:
    nodes.join("first")
    study = Noting()
    with sitting.watched() as watch:
        at_a_time = TrialsAtATime(watch, study, lambda there: fitting(there, 1, 0), bound)
        found = [at_a_time()]
        nodes.join("second")
        assert watch.may_be_used("second")
        found.append(at_a_time())
        assert at_a_time() == found[-1] and len(study.noted) == 1  # said once
        del nodes.cores["first"]
        watch.refresh()
        found.append(at_a_time())
    assert tuple(found) == numbers
    assert study.noted[0] == {"joined": 1, "left": 0, "concurrent": numbers[1], "cpus": 4, "gpus": 0}
    assert sitting.said[0] == f"1 more machine joined: {numbers[1]} trial{'s' if numbers[1] > 1 else ''} at a time"
    assert sitting.said[1].startswith("1 machine left: ")


def test_without_a_node_one_trial_waits_for_the_next_and_it_is_said(nodes: Nodes, sitting: Sitting) -> None:
    nodes.join("only")
    with sitting.watched() as watch:
        at_a_time = TrialsAtATime(watch, Noting(), lambda there: fitting(there, 1, 0), None)
        del nodes.cores["only"]
        watch.refresh()
        assert at_a_time() == 1
    assert sitting.said == ["1 machine left: none is left that could run a trial; the search waits for one to join"]


@pytest.fixture
def watch(nodes: Nodes, sitting: Sitting, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeWatch]:
    """Over three nodes, of which ``bad`` does not fit; actors are called as their nodes are."""
    nodes.join("own")
    nodes.join("other")
    nodes.join("bad", UNFIT)
    monkeypatch.setattr(lost_nodes, "_SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(lost_nodes, "node_of_actor", lambda name: name)
    context = mock.Mock(get_node_id=lambda: "own")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    with sitting.watched() as watched:
        yield watched


def died(node: str, *, preempted: bool = False, in_its_start: bool = False) -> Exception:
    return ray.exceptions.RayActorError(node, "died", actor_init_failed=in_its_start, preempted=preempted)


def raised(node: str) -> Exception:
    return RayTaskError("train", "traceback", ValueError("x"), actor_id=node)


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (died("own"), Fate.OWN_FAULT),
        (died("other"), Fate.OWN_FAULT),
        (died("other", preempted=True), Fate.LOST_NODE),
        (died("gone"), Fate.LOST_NODE),
        (died("gone", in_its_start=True), Fate.OWN_FAULT),
        (ActorUnavailableError("socket closed", None), Fate.LOST_NODE),
        (died("bad"), Fate.UNFIT_NODE),
        (raised("bad"), Fate.UNFIT_NODE),
        (raised("other"), Fate.OWN_FAULT),
        (ray.tune.TuneError("x"), Fate.OWN_FAULT),
    ],
)
def test_a_worker_that_failed_is_its_trials_fault_unless_its_node_is_gone_or_unfit(
    watch: NodeWatch, error: Exception, fate: Fate
) -> None:
    assert fate_of(error, watch) is fate


def test_a_worker_that_died_shortly_before_its_node_is_a_lost_node(
    watch: NodeWatch, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_nodes, "_SETTLE_SECONDS", 60.0)
    threading.Timer(0.2, nodes.cores.pop, ["other"]).start()
    assert fate_of(died("other"), watch) is Fate.LOST_NODE
