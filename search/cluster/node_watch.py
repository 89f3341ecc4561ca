"""Which nodes of a cluster a search may use, as they come and go.

Every node is looked at before a trial counts there, by :mod:`search.cluster.node_reports`. One that does not fit is
named with what to do, and left alone: trials and tasks are kept off it by Ray's labels, and it can be mended while the
others work. A thread looks again every few seconds; the driver reads what it found.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster.autoscaling import Resources, planned_nodes, total
from search.cluster.node_reports import ask, own_report, report_of, told_of, what_does_not_fit
from ser_data.errors import UserError

NODE_LABEL = "ray.io/node-id"  # Ray gives it to every node
_ANSWER_SECONDS = 120.0  # of a node; importing torch from a cold disk is most of it
_LOOK_SECONDS = 3.0

_current: "NodeWatch | None" = None


def current() -> "NodeWatch | None":
    """The watch over the cluster that this process has joined; None on a Ray of its own."""
    return _current


def away_from_unfit() -> dict[str, Any]:
    """Options of a Ray task that keep it off the nodes that do not fit."""
    unfit = _current.unfit if _current is not None else frozenset()
    return {"label_selector": selector(unfit)} if unfit else {}


def usable_nodes() -> list[Resources]:
    """Resources of each node that tasks may run on, those that a launcher may still start among them."""
    if _current is not None:
        _current.refresh()
        return _current.capacity
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def selector(unfit: frozenset[str]) -> dict[str, str]:
    """What Ray takes for: on any node but those with the ids *unfit*."""
    return {NODE_LABEL: f"!in({','.join(sorted(unfit))})"}


@dataclass(frozen=True)
class Change:
    """Nodes that trials may run on which joined, and which left, since the last time somebody asked."""

    joined: int
    left: int


class NodeWatch:
    """Looks at the nodes of a cluster, at once and whenever one joins.

    Attributes:
        say: tells the user a line
        unfit: ids of the nodes that must not be used
        capacity: resources of the nodes that trials may run on, those that a launcher may still start among them
    """

    def __init__(
        self, paths: Sequence[str], stopper: Any, say: Callable[[str], None], *, with_gpu: bool, storage: str = ""
    ) -> None:
        """Look at no node yet.

        Args:
            paths: that every node should see, absolute
            stopper: :class:`search.tune_adapters.SittingStopper` of the sitting
            say: tells the user a line
            with_gpu: whether trials take GPUs
            storage: that every node should read and write, empty for none
        """
        self.say = say
        self._storage = storage
        self._paths = paths
        self._stopper = stopper
        self._with_gpu = with_gpu
        self._planned = planned_nodes()
        self._fit: dict[str, Resources] = {}
        self._asked: dict[Any, tuple[Mapping[str, Any], float]] = {}  # node and time by what answers
        self._alive: frozenset[str] = frozenset()
        self._joined = self._left = self._looks = 0
        self._told = ""  # of the nodes that were found unfit last
        self._news = threading.Condition()
        self._look_now = threading.Event()
        self.unfit: frozenset[str] = frozenset()

    @property
    def capacity(self) -> list[Resources]:
        with self._news:
            there = list(self._fit.values())
        more = any(total(self._planned, name) > total(there, name) for name in ("CPU", "GPU"))
        return list(self._planned) if more else there

    def knows(self, node: str) -> bool:
        """Whether the node with that id is there and has been looked at."""
        return node in self._fit or node in self.unfit

    def take_change(self) -> Change | None:
        """What changed since the last call, None if nothing did."""
        with self._news:
            change = Change(self._joined, self._left)
            self._joined = self._left = 0
        return change if change.joined or change.left else None

    def hand_to(self, stopper: Any) -> None:
        """From now on *stopper* is told if no node is left that fits."""
        self._stopper = stopper

    def may_be_used(self, node: str, *, timeout: float = 30.0) -> bool:
        """Whether the node with that id fits; waits until it has been looked at, *timeout* seconds at most."""
        looks = self._looks
        self._look_until(lambda: self.knows(node) or (self._looks > looks + 1 and node not in self._alive), timeout)
        return node not in self.unfit

    def leave_out(self, node: str, trouble: str) -> None:
        """Use the node with that id no more, which turned out not to fit; *trouble* says why, and what to do."""
        import ray

        address = next((known["NodeManagerAddress"] for known in ray.nodes() if known["NodeID"] == node), node)
        with self._news:
            if node in self.unfit:
                return
            self._left += self._fit.pop(node, None) is not None
            self.unfit |= {node}
            self._told = told_of({address: [trouble]})
            self._news.notify_all()
        self._tell_of_unfit()

    def refresh(self, *, timeout: float = 30.0) -> None:
        """Wait until it has been seen who is there now, *timeout* seconds at most."""
        looks = self._looks
        self._look_until(lambda: self._looks > looks + 1, timeout)  # one look may be under way, and have seen less

    def _look_until(self, true: Callable[[], bool], timeout: float) -> None:
        end = time.monotonic() + timeout
        with self._news:
            while not true() and (left := end - time.monotonic()) > 0:
                self.wake()
                self._news.wait(min(left, 1.0))

    def wake(self) -> None:
        """Look now."""
        self._look_now.set()

    def begin(self) -> None:
        """Look at the nodes that are there, and wait for their answers.

        Raises:
            UserError: none of them fits; it says which there are, why, and what to do
        """
        self._look(wait=_ANSWER_SECONDS)
        self.take_change()  # these were there
        if self.unfit and not self._fit:
            raise UserError(self._told)
        if self.unfit:
            self.say(f"{self._told}\nThey are left out; the search runs on the others.")

    def follow(self, ended: threading.Event) -> None:
        """Look again every few seconds until *ended*."""
        while True:
            self._look_now.wait(_LOOK_SECONDS)
            self._look_now.clear()
            if ended.is_set():
                return
            try:
                known = self.unfit
                self._look(wait=0.0)
                if self.unfit - known:
                    self._tell_of_unfit()
            except Exception:  # the cluster is going, or gone: the search itself finds out, and has better words
                time.sleep(min(1.0, _LOOK_SECONDS))

    def _tell_of_unfit(self) -> None:
        if self._fit or self._asked:
            self.say(f"{self._told}\nThey are left out; trials on the others go on.")
        else:
            self._stopper.fail(UserError(f"{self._told}\nNo trial is lost: mend it, then go on with --resume."))

    def _look(self, *, wait: float) -> None:
        """Note who left, ask those that are new, and take in answers, for which it waits *wait* seconds at most."""
        import ray

        # no trial runs where there is nothing for it: the head of a cluster in a cloud
        alive = {
            node["NodeID"]: node
            for node in ray.nodes()
            if node["Alive"] and (node["Resources"].get("CPU") or node["Resources"].get("GPU"))
        }
        with self._news:
            for name in self._fit.keys() - alive.keys():
                del self._fit[name]
                self._left += 1
            self.unfit &= alive.keys()
            self._asked = {ref: (node, at) for ref, (node, at) in self._asked.items() if node["NodeID"] in alive}
            known = self._fit.keys() | self.unfit | {node["NodeID"] for node, _ in self._asked.values()}
        new = [node for name, node in alive.items() if name not in known]
        asked = ask(new, self._paths, self._with_gpu, self._storage)
        with self._news:
            self._asked |= {ref: (node, time.monotonic()) for ref, node in asked.items()}
        if self._asked:
            answered, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=wait)
            self._take_in(answered)
        with self._news:
            self._alive = frozenset(alive)
            self._looks += 1
            self._news.notify_all()

    def _take_in(self, answered: Sequence[Any]) -> None:
        """Judge the nodes that answered; one that does not answer in time is believed to fit."""
        told: dict[str, list[str]] = {}
        for ref, (node, at) in list(self._asked.items()):
            troubles: list[str] = []
            if ref in answered:
                try:
                    troubles = what_does_not_fit(own_report(), report_of(ref))
                except LookupError:
                    with self._news:
                        del self._asked[ref]
                    continue
            elif time.monotonic() - at < _ANSWER_SECONDS:
                continue
            with self._news:
                del self._asked[ref]
                if troubles:
                    told[node["NodeManagerAddress"]] = troubles
                    self.unfit |= {node["NodeID"]}
                else:
                    self._fit[node["NodeID"]] = node["Resources"]
                    self._joined += 1
        if told:
            self._told = told_of(told)


@contextlib.contextmanager
def watched_nodes(
    paths: Sequence[Path], stopper: Any, say: Callable[[str], None], *, with_gpu: bool, storage: str = ""
) -> Iterator[NodeWatch]:
    """Look at all nodes of the cluster, and as long as the context lasts at those that join.

    Args:
        paths: that every node should see, absolute
        stopper: :class:`search.tune_adapters.SittingStopper`; ends where no node is left that fits
        say: tells the user a line
        with_gpu: whether trials take GPUs
        storage: that every node should read and write, empty for none

    Raises:
        UserError: no node fits; it says which there are, why, and what to do
    """
    global _current
    watch = NodeWatch([str(path) for path in paths], stopper, say, with_gpu=with_gpu, storage=storage)
    watch.begin()
    ended = threading.Event()
    thread = threading.Thread(target=watch.follow, args=(ended,), name="nodes that join", daemon=True)
    thread.start()
    _current = watch
    try:
        yield watch
    finally:
        _current = None
        ended.set()
        watch.wake()
        thread.join(timeout=5)
