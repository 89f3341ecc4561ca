"""How many trials run at a time on a cluster whose nodes come and go."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from search.cluster.autoscaling import Resources, total
from search.cluster.node_watch import Change, NodeWatch

#: Tells from the nodes that there are how many trials they can run at a time.
Count = Callable[[Sequence[Resources]], int]


def fitting(nodes: Iterable[Resources], cpus: float, gpus: float) -> int:
    """How many trials *nodes* have room for at a time. None is spread over two nodes, or over parts of two GPUs.

    Args:
        nodes: resources of each, by name
        cpus: cores of one trial
        gpus: GPUs of one trial

    >>> fitting([{"CPU": 3}, {"CPU": 3}], 2, 0)
    2
    >>> fitting([{"CPU": 16, "GPU": 2}], 1, 0.4)
    4
    """
    return sum(_fitting_on(node, cpus, gpus) for node in nodes)


def _fitting_on(node: Resources, cpus: float, gpus: float) -> int:
    room = int(node.get("CPU", 0) / cpus + 1e-9)
    if not gpus:
        return room
    there = node.get("GPU", 0)
    on_gpus = int(there) * int(1 / gpus + 1e-9) if gpus < 1 else int(there / gpus + 1e-9)
    return min(room, on_gpus)


class TrialsAtATime:
    """Called, it gives how many trials may run now; a change of the cluster is written down and said before."""

    def __init__(self, watch: NodeWatch, study: Any, count: Count, bound: int | None) -> None:
        """Follow the nodes of *watch*.

        Args:
            watch: says which nodes may be used
            study: :class:`search.study.Study` or :class:`search.portfolio.Portfolio`, which notes it in its record
            count: of the trials that may run at a time
            bound: ``--max-concurrent``
        """
        self._watch = watch
        self._study = study
        self._count = count
        self._bound = bound
        self._now = self._counted()

    def __call__(self) -> int:
        change = self._watch.take_change()
        if change is not None:
            self._now = self._counted()
            nodes = self._watch.capacity
            self._study.note_machines(
                joined=change.joined, left=change.left, concurrent=self._now, cpus=total(nodes, "CPU"),
                gpus=total(nodes, "GPU"),
            )  # fmt: skip
            self._watch.say(told(change, self._now))
        return max(1, self._now)  # where there is no room at all, one trial waits for it

    def _counted(self) -> int:
        now = self._count(self._watch.capacity)
        return now if self._bound is None else min(now, self._bound)


def told(change: Change, concurrent: int) -> str:
    """
    >>> told(Change(2, 0), 6)
    '2 more machines joined: 6 trials at a time'
    >>> told(Change(1, 1), 1)
    '1 more machine joined, 1 left: 1 trial at a time'
    """
    parts = [f"{_machines(change.joined, 'more ')} joined"] if change.joined else []
    if change.left:
        parts.append(f"{change.left if parts else _machines(change.left)} left")
    if not concurrent:
        return f"{', '.join(parts)}: none is left that could run a trial; the search waits for one to join"
    return f"{', '.join(parts)}: {concurrent} trial{'s' if concurrent > 1 else ''} at a time"


def _machines(number: int, which: str = "") -> str:
    return f"{number} {which}machine{'s' if number > 1 else ''}"
