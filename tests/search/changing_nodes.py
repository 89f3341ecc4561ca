"""``python -m tests.search.changing_nodes FOLDER CORPUS``: a search on a real Ray whose nodes come and go.

Trials are held at a gate (the space ``held``), so that what happens does not depend on how fast the machine is. The
head takes no trial. The search begins on one node; one joins, and one that does not fit; the node of the second trial
is lost twice, once killed and once ended, and the only one that joins then does not fit either, but gets the waiting
trial before anybody has looked at it; at last the last trial's worker is killed while its node lives, without a retry
left. What a test wants to know is printed as a line of JSON.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from tests.search.knob_search import knob_spaces

# a node that is killed is gone for Ray after a second; one that is only slow is not
os.environ |= {"RAY_health_check_initial_delay_ms": "500", "RAY_health_check_period_ms": "300"}
UNFIT = "unfit"  # a resource that marks a node as one
LATE = "late"  # and one that marks a node that is looked at only after a trial has begun there
GATE = 2  # epochs after which a trial is held


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + 90
    while not (found := what()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


class Story:
    """What happens to the nodes while the search in *folder* runs."""

    def __init__(self, cluster: Any, folder: Path, cache: Path) -> None:
        self.told: dict[str, Any] = {}
        self.searched = threading.Event()
        self._cluster = cluster
        self._record = folder / "events.jsonl"
        self._cache = cache

    def tell(self) -> None:
        try:
            self._tell()
        except Exception as error:
            self.told["error"] = repr(error)
            for place in range(3):
                self._open(place)
        finally:
            self.searched.wait()  # nodes die with the thread that started them

    def _tell(self) -> None:
        from search.cluster.node_watch import current

        wait_for(lambda: self._is_held(0))
        unfit = self._cluster.add_node(num_cpus=2, resources={UNFIT: 1})
        wait_for(lambda: unfit.node_id in (watch := current()).unfit if current() else False)
        second = self._cluster.add_node(num_cpus=1)
        wait_for(lambda: self._is_held(1))
        self._cluster.remove_node(second, allow_graceful=False)
        second = self._cluster.add_node(num_cpus=1)
        wait_for(lambda: self.times_loaded() == 1)
        self._cluster.remove_node(second, allow_graceful=True)
        wait_for(lambda: len(self._at_work()) == 1)  # the other waits for a node
        unfit_too = self._cluster.add_node(num_cpus=1, resources={UNFIT: 1, LATE: 1})
        wait_for(lambda: unfit_too.node_id in current().unfit)
        wait_for(lambda: unfit_too.node_id not in self._at_work())
        self._cluster.add_node(num_cpus=1)
        wait_for(lambda: self._times_trained(1, epoch=GATE) >= 2)  # it began anew
        self._open(0)
        self._open(1)
        wait_for(lambda: self._is_held(2))
        fits = 3.0  # and three cores of nodes that do not fit, which are free all the time
        self.told["free"] = wait_for(lambda: self._free() > fits and self._free())
        ((worker,),) = self._at_work().values()
        os.kill(worker["Pid"], signal.SIGKILL)
        self.told["on_unfit"] = [a for a in self._workers() if a["Address"]["NodeID"] == unfit.node_id]

    def _trials(self) -> Any:
        from search.record import read_events
        from search.study import trials_of

        return trials_of(read_events(self._record)) if self._record.exists() else {}

    def _is_held(self, number: int) -> bool:
        trial = self._trials().get(number)
        return trial is not None and len(trial.epochs) == GATE

    def _open(self, number: int) -> None:
        from search.space import load_space

        x = load_space("held").known_good[number]["x"]
        (self._cache / f"open-{x}").touch()

    def times_loaded(self) -> int:
        """How often a checkpoint was taken up."""
        loaded = self._cache / "loaded.txt"
        return len(loaded.read_text().splitlines()) if loaded.exists() else 0

    def _times_trained(self, number: int, *, epoch: int) -> int:
        x = self._trials()[number].config["x"]
        return (self._cache / "ran.txt").read_text().count(f"{x} {epoch} ")

    def _at_work(self) -> dict[str, list[dict[str, Any]]]:
        """Trials' workers that live, by their nodes."""
        found: dict[str, list[dict[str, Any]]] = {}
        for worker in self._workers():
            if worker["State"] == "ALIVE":
                found.setdefault(worker["Address"]["NodeID"], []).append(worker)
        return found

    @staticmethod
    def _workers() -> list[dict[str, Any]]:
        from ray._private.state import actors

        of_trials = [actor for actor in actors().values() if actor["ActorClassName"] != "Depot"]
        return [actor for actor in of_trials if actor["Address"]["NodeID"]]

    @staticmethod
    def _free() -> float:
        import ray

        return float(ray.available_resources().get("CPU", 0))


def sit_down(folder: Path, corpus: Path, address: str) -> int:
    from rich.console import Console

    from search.arguments import parse_arguments
    from search.sitting import sit

    arguments = [
        "--out", str(folder / "run"), "--data", str(corpus), "--cache-dir", str(folder / "cache"), "--space", "held",
        "--split", "speaker_kfold:4:1", "--scheduler", "none", "--max-failures", "0", "--wandb", "disabled",
        "--address", address,
    ]  # fmt: skip
    return sit(parse_arguments(arguments), "a test", Console(width=200))


def main(folder: Path, corpus: Path) -> None:
    from ray.cluster_utils import Cluster

    import search.cluster.node_watch

    ask = search.cluster.node_watch.ask

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    story = Story(cluster, folder / "run", folder / "cache")

    def ask_for_more(nodes: Any, paths: Any, *others: Any) -> Any:
        """A folder that is nowhere, of a node that is not to fit."""
        asked = {}
        for node in nodes:
            if LATE not in node["Resources"] or story.times_loaded() == 2:  # else it is asked at the next look
                asked |= ask([node], [*paths, "/nowhere"] if UNFIT in node["Resources"] else paths, *others)
        return asked

    with (
        knob_spaces(),
        mock.patch("search.cluster.node_watch.ask", ask_for_more),
        mock.patch("search.cluster.node_watch._LOOK_SECONDS", 0.2),
        mock.patch("ray._private.node.Node._register_shutdown_hooks"),  # signals, which no thread may set
    ):
        changes = threading.Thread(target=story.tell, daemon=True)
        changes.start()
        code = sit_down(folder, corpus, cluster.address)
        story.searched.set()
    cluster.shutdown()
    print(json.dumps({**story.told, "code": code}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
