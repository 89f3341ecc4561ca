"""A cluster in virtual time: Ray Tune's own controller believes in it, and nothing runs on it.

:class:`VirtualActors` stands where Tune's actor manager stands. Tune asks it for workers and tasks as it does on a real
cluster; here a task is an entry in a calendar, and waiting for one turns the clock forward. The clock also runs on
with the CPU time of the driver's process, so whatever Tune, the sampler, the record and the board cost is in the search
time, and results queue behind a driver that is busy. What the driver waits for in reality and not here (a disk, Ray's
own messages) is charged by :class:`Costs`.
"""

import heapq
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Costs:
    """Seconds that a real cluster takes and this one does not.

    Attributes:
        event: of the driver, for each result or start that it waits for, fetches and answers
        event_per_worker: more of it for each worker that there is
        worker: of the driver, for each worker that it asks for
        sync: of the driver, for each event on disk
        hop: between the driver and a worker, each way; the driver does not wait for it
    """

    event: float = 0.0
    event_per_worker: float = 0.0
    worker: float = 0.0
    sync: float = 0.0
    hop: float = 0.0


class Clock:
    """Virtual seconds: the process's CPU time, and what was waited for."""

    def __init__(self, cpu: Callable[[], float] = time.process_time) -> None:
        self._cpu = cpu
        self._began = cpu()
        self._left_out = self._charged = self._waited = 0.0

    @property
    def now(self) -> float:
        return self.busy + self._waited

    @property
    def busy(self) -> float:
        """Seconds that the driver worked, charges among them."""
        return self._cpu() - self._began - self._left_out + self._charged

    @property
    def computed(self) -> float:
        """Those of them that its process took on the CPU here."""
        return self.busy - self._charged

    def charge(self, seconds: float) -> None:
        """The driver works for *seconds* that are not CPU time here."""
        self._charged += seconds

    def wait_until(self, moment: float) -> None:
        self._waited += max(0.0, moment - self.now)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What is computed in the context belongs to the simulation, not to the driver."""
        began = self._cpu()
        try:
            yield
        finally:
            self._left_out += self._cpu() - began


class Work(Protocol):
    """What trials do, by the configuration that Tune hands a worker."""

    def cold_seconds(self, config: Mapping[str, Any]) -> float:
        """Until a worker has started."""

    def start_seconds(self, config: Mapping[str, Any]) -> float:
        """From a trial's begin on a worker that runs to that of its first epoch."""

    def epoch(self, config: Mapping[str, Any], epoch: int) -> tuple[float, dict[str, Any]]:
        """How long an epoch takes, and what is reported."""


@dataclass
class Meter:
    """What trials did on the GPUs.

    Attributes:
        spans: begin, end and GPUs of every epoch, in virtual seconds
        starts: when each trial began to train
    """

    spans: list[tuple[float, float, float]] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)

    @property
    def work(self) -> float:
        """GPU seconds of all epochs."""
        return sum((end - begin) * gpus for begin, end, gpus in self.spans)

    def busy_share(self, begin: float, end: float, gpus: float) -> float:
        """Share of *gpus* on which epochs ran between *begin* and *end*."""
        inside = sum(max(0.0, min(e, end) - max(b, begin)) * used for b, e, used in self.spans)
        return inside / ((end - begin) * gpus)


class VirtualActor:
    """A worker as Tune holds it; ``TrackedActor`` of Ray."""

    def __init__(self, number: int, on_start: Any, on_stop: Any, on_error: Any) -> None:
        self.actor_id = number
        self._on_start, self._on_stop, self._on_error = on_start, on_stop, on_error

    def set_on_start(self, on_start: Any) -> None:
        self._on_start = on_start

    def set_on_stop(self, on_stop: Any) -> None:
        self._on_stop = on_stop

    def set_on_error(self, on_error: Any) -> None:
        self._on_error = on_error


class _Handle:
    """What Tune asks a worker for beside tasks: metrics that every result is filled up with."""

    def __init__(self) -> None:
        self.get_auto_filled_metrics = self

    def remote(self, **_: object) -> dict[str, Any]:
        return {}


@dataclass
class _Worker:
    config: Mapping[str, Any]
    gpus: float
    devices: tuple[int, ...]
    epoch: int = 0
    tasks: set[int] = field(default_factory=set)  # places in the calendar that it waits for


class VirtualActors:
    """Ray's actor manager, as far as Tune's controller uses it.

    Attributes:
        events: how many the driver handled
    """

    def __init__(self, *, clock: Clock, gpus: int, work: Work, costs: Costs, meter: Meter) -> None:
        """A cluster of *gpus* on which *work* is done; cores never lack."""
        self._clock, self._work, self._costs, self._meter = clock, work, costs, meter
        self._free = [1.0] * gpus
        self._numbers = itertools.count()
        self._calendar: list[tuple[float, int, Callable[[], None]]] = []
        self._dropped: set[int] = set()
        self._pending: dict[VirtualActor, tuple[Mapping[str, Any], float]] = {}
        self._workers: dict[VirtualActor, _Worker] = {}
        self._live_actors_to_ray_actors_resources: dict[VirtualActor, tuple[Any, Any]] = {}  # Tune looks into it
        self.events = 0

    @property
    def num_pending_actors(self) -> int:
        return len(self._pending)

    @property
    def num_live_actors(self) -> int:
        return len(self._workers)

    @property
    def num_total_actors(self) -> int:
        return len(self._pending) + len(self._workers)

    @property
    def num_actor_tasks(self) -> int:
        return sum(len(worker.tasks) for worker in self._workers.values())

    def get_live_actors_resources(self) -> dict[str, float]:
        return {"GPU": sum(worker.gpus for worker in self._workers.values())}

    # arguments have the names that Tune calls them by

    def is_actor_started(self, tracked_actor: VirtualActor) -> bool:
        return tracked_actor in self._workers

    def is_actor_failed(self, tracked_actor: VirtualActor) -> bool:
        return False

    def add_actor(
        self, cls: Any, kwargs: Mapping[str, Any], resource_request: Any, on_start: Any, on_stop: Any, on_error: Any
    ) -> VirtualActor:
        """Ask for a worker, whose first trial has the configuration in *kwargs*."""
        self._clock.charge(self._costs.worker)
        actor = VirtualActor(next(self._numbers), on_start, on_stop, on_error)
        self._pending[actor] = kwargs["config"], float(resource_request.required_resources.get("GPU", 0.0))
        return actor

    def remove_actor(self, tracked_actor: VirtualActor, kill: bool = False, stop_future: object = None) -> bool:
        """Let a worker go; whether it had begun to start, so that it will say when it has stopped."""
        if self._pending.pop(tracked_actor, None) is not None:
            return False
        self.clear_actor_task_futures(tracked_actor)  # an earlier wish that it stops among them
        self._at(self._clock.now + self._costs.hop, tracked_actor, lambda: self._stop(tracked_actor))
        return True

    def schedule_actor_task(
        self,
        tracked_actor: VirtualActor,
        method_name: str,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        on_result: Callable[[VirtualActor, Any], None] | None = None,
        on_error: object = None,
        _return_future: bool = False,
    ) -> None:
        """Put what comes of a task into the calendar; ``stop`` is said by :meth:`remove_actor`."""
        worker = self._workers[tracked_actor]
        begin = self._clock.now + self._costs.hop
        result: Any = True
        if method_name == "stop":
            return
        if method_name == "reset":
            worker.config, worker.epoch = args[0], 0
            end = begin
        else:
            assert method_name == "train", f"Tune asks a worker for '{method_name}', which a virtual one cannot do"
            with self._clock.stopped():
                end, result = self._train(worker, begin)
        assert on_result is not None
        self._at(end + self._costs.hop, tracked_actor, lambda: on_result(tracked_actor, result))

    def _train(self, worker: _Worker, begin: float) -> tuple[float, dict[str, Any]]:
        worker.epoch += 1
        if worker.epoch == 1:
            begin += self._work.start_seconds(worker.config)
            self._meter.starts.append(begin)
        seconds, report = self._work.epoch(worker.config, worker.epoch)
        self._meter.spans.append((begin, begin + seconds, worker.gpus))
        return begin + seconds, report

    def clear_actor_task_futures(self, tracked_actor: VirtualActor) -> None:
        """What the worker still does is of no interest any more."""
        worker = self._workers.get(tracked_actor)
        if worker is not None:
            self._dropped |= worker.tasks
            worker.tasks.clear()

    def next(self, timeout: float | None = None) -> bool:
        """Handle the next event, however long it takes to come: a real manager would only look for it again."""
        self._start_pending()
        while self._calendar:
            moment, number, happen = heapq.heappop(self._calendar)
            if number in self._dropped:
                self._dropped.remove(number)
                continue
            self._clock.wait_until(moment)
            self._clock.charge(self._costs.event + self._costs.event_per_worker * len(self._workers))
            self.events += 1
            happen()
            self._start_pending()
            return True
        if timeout is not None:
            self._clock.wait_until(self._clock.now + timeout)
        return False

    def cleanup(self) -> None:
        self._calendar.clear()
        self._workers.clear()
        self._pending.clear()

    def _at(self, moment: float, actor: VirtualActor, happen: Callable[[], None]) -> None:
        number = next(self._numbers)
        worker = self._workers[actor]
        worker.tasks.add(number)

        def once() -> None:
            worker.tasks.discard(number)
            happen()

        heapq.heappush(self._calendar, (moment, number, once))

    def _start_pending(self) -> None:
        with self._clock.stopped():  # whoever places workers, it is not the driver
            self._place_pending()

    def _place_pending(self) -> None:
        for actor, (config, gpus) in list(self._pending.items()):
            devices = self._devices(gpus)
            if devices is None:
                continue
            del self._pending[actor]
            for device in devices:
                self._free[device] -= min(gpus, 1.0)
            self._workers[actor] = _Worker(config, gpus, devices)
            self._live_actors_to_ray_actors_resources[actor] = _Handle(), None
            seconds = self._work.cold_seconds(config)
            self._at(self._clock.now + seconds, actor, lambda actor=actor: self._started(actor))  # type: ignore[misc]

    def _devices(self, gpus: float) -> tuple[int, ...] | None:
        """Where a worker fits: a part of a GPU goes where least is left; None if nowhere."""
        if gpus == 0:
            return ()
        fitting = [device for device, free in enumerate(self._free) if free >= min(gpus, 1.0) - 1e-9]
        if gpus < 1:
            return (min(fitting, key=lambda device: self._free[device]),) if fitting else None
        return tuple(fitting[: int(gpus)]) if len(fitting) >= gpus else None

    def _started(self, actor: VirtualActor) -> None:
        if actor._on_start:
            actor._on_start(actor)

    def _stop(self, actor: VirtualActor) -> None:
        worker = self._workers.pop(actor)
        del self._live_actors_to_ray_actors_resources[actor]
        for device in worker.devices:
            self._free[device] += min(worker.gpus, 1.0)
        if actor._on_stop:
            actor._on_stop(actor)
