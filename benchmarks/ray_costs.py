"""What Ray and the disk cost a driver beside Tune's own code; the charges of ``scaling.py`` come from here.

``python benchmarks/ray_costs.py``

An event: send a worker a task, wait for one of N futures as Tune's actor manager does, and fetch it, in CPU time of the
driver's process; N - 1 futures are of tasks that go on. A worker: ask for a placement group and an actor in it. A hop:
half of an idle worker's round trip, wall time. A sync: an event appended to a record, less its CPU time.
"""

import asyncio
import random
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]

from search.cluster.joining import joined_cluster  # noqa: E402

FUTURES = (8, 32, 128, 512)
REPEATS = 100
WORKERS = 4


class Busy:
    """A worker with tasks that never end, and one that ends at once."""

    async def go_on(self) -> None:
        await asyncio.sleep(3600)

    async def epoch(self) -> dict[str, Any]:
        return {"epoch": 1, "val_uar": 0.5, "val_hits": [[9] * 6] * 9, "seconds": 1.0, "config": {"x": 1.0}}


class Idle:
    """A worker as Tune asks for one."""


def main() -> None:
    import ray

    with joined_cluster("local", num_cpus=2):
        busy = ray.remote(Busy).options(num_cpus=0, max_concurrency=2 * max(FUTURES)).remote()
        ray.get(busy.epoch.remote())
        trips = [_seconds(lambda: ray.get(busy.epoch.remote()), time.perf_counter) for _ in range(REPEATS)]
        print(f"hop: {statistics.median(trips) / 2 * 1e3:.2f} ms")
        going_on: list[Any] = []
        for number in FUTURES:
            going_on += [busy.go_on.remote() for _ in range(number - 1 - len(going_on))]
            seconds = [_seconds(partial(_event, ray, busy, going_on), time.process_time) for _ in range(REPEATS)]
            print(f"event, {number} futures: {statistics.median(seconds) * 1e3:.2f} ms of CPU")
        started = time.process_time()
        groups = [ray.util.placement_group([{"CPU": 0.1}]) for _ in range(WORKERS)]
        idle = [
            ray.remote(Idle).options(num_cpus=0.1, placement_group=group).remote() for group in groups
        ]  # fmt: skip
        ray.get([worker.__ray_ready__.remote() for worker in idle])
        print(f"worker: {(time.process_time() - started) / WORKERS * 1e3:.2f} ms of CPU")
    print(f"sync: {_sync_seconds() * 1e3:.2f} ms")


def _event(ray: Any, busy: Any, going_on: list[Any]) -> None:
    futures = [busy.epoch.remote(), *going_on]
    random.shuffle(futures)
    ready, _ = ray.wait(futures, num_returns=1, timeout=10)
    ray.get(ready)


def _seconds(act: Any, clock: Any) -> float:
    started = clock()
    act()
    return float(clock() - started)


def _sync_seconds() -> float:
    from search.record import Record

    event = {"kind": "epoch", "number": 1, "report": {"epoch": 1, "val_uar": 0.5, "val_hits": [[9] * 6] * 9}}
    waits = []
    with tempfile.TemporaryDirectory() as folder, Record(Path(folder) / "events.jsonl") as record:
        for _ in range(REPEATS):
            wall, cpu = time.perf_counter(), time.process_time()
            record.append(dict(event))
            waits.append(time.perf_counter() - wall - (time.process_time() - cpu))
    return statistics.median(waits)


if __name__ == "__main__":
    main()
