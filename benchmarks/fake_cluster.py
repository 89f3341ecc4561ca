"""The search on a real Ray cluster of several nodes, with GPUs that are only claimed: what share of them is busy.

``python benchmarks/fake_cluster.py [--nodes 4] [--gpus 8] [--trials 120] [--speed 10]``

Every node is a raylet of its own on this machine that claims so many GPUs. Everything but the training is what a search
has: Tuner, searcher, rungs, record, board, workers that are reused. A trial sleeps as long as a recorded one's epochs
took, over ``--speed``, and reports a recorded curve. Each epoch says when it began and ended; the share of busy GPUs is
counted as in ``scaling.py``, from the first proposal, and once more from when every GPU has had a trial.
"""

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]

from benchmarks.recorded_curves import RecordedTrials  # noqa: E402
from benchmarks.virtual_cluster import Meter  # noqa: E402

FAMILY = "mel"
SPACE = "mel_cnn"


class SleepingTrial:
    """What a worker runs instead of training."""

    def __init__(self, speed: float) -> None:
        self._trials = RecordedTrials(FAMILY, seed=0, speed=speed)

    def __call__(self, config: dict[str, Any], plan: Any) -> None:
        from ray import tune

        number = config["number"]
        quality = (number * 0.618) % 1  # spread evenly
        for epoch in range(1, plan.max_epochs + 1):
            begin = time.time()
            time.sleep(self._trials.epoch_seconds(config["config"], number, epoch))
            end = time.time()
            score = self._trials.score(config["config"], number, epoch, quality)
            tune.report(
                {"epoch": epoch, "train_loss": 1 - score, "val_loss": 1 - score, "val_uar": score,
                 "val_accuracy": score, "val_macro_f1": score, "seconds": end - begin, "clips_per_second": 1.0,
                 "val_hits": [[round(13 * score)] * 6] * 9, "extras": [["began", begin], ["ended", end]]}
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gpus", type=int, default=8, help="of a node")
    parser.add_argument("--trials", type=int, default=120)
    parser.add_argument("--speed", type=float, default=10.0, help="how much faster epochs are than the recorded ones")
    options = parser.parse_args()

    import ray.cluster_utils
    from rich.console import Console

    from benchmarks import scaling
    from search.cluster.joining import joined_cluster
    from search.record import read_events
    from search.terminal import LiveView
    from search.tune_adapters import SittingStopper

    node = {"num_cpus": options.gpus, "num_gpus": options.gpus, "object_store_memory": 80 * 2**20}
    settings = argparse.Namespace(
        trials=options.trials, sampler="tpe", gpus_per_trial=1.0, max_concurrent=None
    )  # fmt: skip
    # the fake nodes have as many cores as GPUs
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        stack.enter_context(mock.patch.object(scaling, "CORES_OF_A_NODE", scaling.GPUS_OF_A_NODE))
        cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
        stack.callback(cluster.shutdown)
        for _ in range(options.nodes - 1):
            cluster.add_node(**node)
        stack.enter_context(joined_cluster(cluster.address))
        gpus = options.nodes * options.gpus
        folder = Path(scratch)
        search = scaling._search(SPACE, folder, settings, 0)
        searched, studies, resources = scaling._opened([search], folder, settings, gpus, stack)
        view = stack.enter_context(LiveView(Console(quiet=True), num_trials=options.trials, known=searched.trials))
        scaling._watch([search], studies, folder, view, stack)
        stack.enter_context(mock.patch("search.tuning.run_trial", SleepingTrial(options.speed)))
        began, cpu = time.time(), time.process_time()
        scaling._tune(searched, [search], resources, SittingStopper(None), folder)
        seconds, cpu = time.time() - began, time.process_time() - cpu
        events = read_events(search.folder / "events.jsonl")
    meter = Meter()
    for event in events:
        if event["kind"] == "epoch":
            report = event["report"]
            meter.spans.append((report["began"], report["ended"], 1.0))
            if report["epoch"] == 1:
                meter.starts.append(report["began"])
    starts = sorted(meter.starts)
    filled, last = starts[min(gpus, len(starts)) - 1], starts[-1]
    ended = sum(event["kind"] in ("done", "stopped") for event in events)
    print(
        f"{options.nodes} nodes, {gpus} GPUs: {ended} of {options.trials} trials, {len(meter.spans)} results in "
        f"{seconds:.0f} s (ideal {meter.work / gpus:.0f} s); mean trial {meter.work / ended:.1f} s; busy while work "
        f"waits {meter.busy_share(began, last, gpus):.1%}, once every GPU has had a trial "
        f"({filled - began:.0f} s) {meter.busy_share(filled, last, gpus):.1%}; {len(meter.spans) / seconds:.1f} "
        f"results/s; driver {cpu:.0f} s of CPU"
    )


if __name__ == "__main__":
    main()
