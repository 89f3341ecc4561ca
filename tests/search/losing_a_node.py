"""``python -m tests.search.losing_a_node OPTIONS``: a search on a Ray of two nodes, one of which is lost.

Each node has one core. As soon as the record tells of epochs of two running trials, the second node's processes are
killed. Prints what the record said then.
"""

import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.search.knob_search import knob_spaces


def running(record: Path) -> list[int]:
    """Trials of the record with an epoch that have not ended."""
    from search.record import read_events
    from search.study import trials_of

    if not record.exists():
        return []
    return [n for n, trial in trials_of(read_events(record)).items() if trial.epochs and trial.outcome is None]


def lose_a_node(cluster: Any, node: Any, record: Path) -> None:
    while len(both := running(record)) < 2:
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    print(f"lost a node while trials {both} ran", flush=True)


if __name__ == "__main__":
    from ray.cluster_utils import Cluster

    from search.run import main
    from ser_data.command import run_command

    record = Path(sys.argv[sys.argv.index("--out") + 1]) / "events.jsonl"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    threading.Thread(target=lose_a_node, args=(cluster, second, record), daemon=True).start()
    sys.argv += ["--address", cluster.address]
    with knob_spaces():
        run_command(main)
