"""What W&B costs a trial: its share of CPU time beside real trials, online against a server on this machine.

``python benchmarks/wandb_cost.py [--data PREPARED] [--space mfcc_fast] [--trials 6] [--mode online|offline]``

Trains trials of a space in this process, one after the other, and tells W&B of every epoch through the search's own
tracker, whose server runs in a process of its own. Printed: how long an epoch's report waits for the tracker (the only
thing that a trial could wait for), the CPU time a trial of the tracker's threads and of W&B's own service, and both as
a share of the trial's own, which is what a trial loses where all cores are busy. Once a search: CPU seconds until the
sweep stands. Without --data the sample corpus is made first. The goal: 1 %.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "benchmarks")]


def serve() -> None:
    """Be the server until standard input ends."""
    from tests.search.wandb_server import WandbServer

    with WandbServer() as server:
        print(server.url, flush=True)
        sys.stdin.read()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--space", default="mfcc_fast")
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--mode", default="online", choices=("online", "offline"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, _server() as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        os.environ |= {"WANDB_BASE_URL": url, "WANDB_API_KEY": "k" * 40, "WANDB_ERROR_REPORTING": "false"}
        _measure(options, Path(scratch))
        server.communicate()


def _server() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from benchmarks.wandb_cost import serve; serve()"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def _measure(options: argparse.Namespace, scratch: Path) -> None:
    from optuna import create_study
    from sample import prepared_sample

    from search.arguments import Arguments
    from search.corpora import task_data
    from search.families import get_family
    from search.run_folder import describe_data, new_config
    from search.space import load_space
    from search.study import StudyTrial
    from search.tracking.tracker import Tracker
    from search.trial import epochs_of_trial
    from search.trial_plan import TrialPlan
    from ser_data.corpus import open_corpus
    from ser_models.task import Task

    space = load_space(options.space)
    data = task_data(open_corpus(options.data or prepared_sample(scratch)[0]), None, None, seed=0)
    cache = options.cache_dir or scratch / "cache"
    task = Task(str(data.corpus.folder), data.split.name, data.emotions, 0, str(cache), 20.0, "cpu")
    family = get_family(space.family)
    plan = TrialPlan(str(scratch / "run"), family.module, task.to_dict(), 0, space.max_epochs, 1)
    told = {"family": space.family, "num_trials": options.trials, "max_epochs": space.max_epochs, "grace": space.grace}
    config = new_config(Arguments(space=options.space), "", {"plan": told, "data": describe_data(data)})
    random.seed(0)
    study = create_study()
    configs = [space.configure(study.ask()) for _ in range(options.trials)]
    list(epochs_of_trial(999, configs[0], plan))  # imports, features and first kernels are no trial's

    waits: list[float] = []
    with Tracker(
        scratch / "run", config, mode=options.mode, project="p", entity=None, say=lambda line: print(line, flush=True)
    ) as tracker:
        started = time.process_time()
        warm = StudyTrial(998, {}, dict(configs[0]), "benchmark", outcome="failed")
        tracker.on_event(warm, {"kind": "failed"})
        while not tracker._sent:  # W&B's import, its service and the sweep: once a search
            time.sleep(0.1)
        once = time.process_time() - started + _service_seconds()
        everything, training, service = time.process_time(), time.thread_time(), _service_seconds()
        for number, each in enumerate(configs):
            trial = StudyTrial(number, {}, dict(each), "benchmark")
            for report in epochs_of_trial(number, each, plan):
                trial.epochs.append({key: value for key, value in report.items() if key not in ("facts", "extras")})
                started = time.perf_counter()
                tracker.on_event(trial, {"kind": "epoch"})
                waits.append(time.perf_counter() - started)
            trial.outcome = "completed"
            tracker.on_event(trial, {"kind": "done"})
        training = time.thread_time() - training  # this thread trains, with one thread of torch's
    threads, service = time.process_time() - everything - training, _service_seconds() - service
    own, ours, theirs = (1e3 * spent / options.trials for spent in (training, threads, service))
    print(
        f"{options.mode}: {options.trials} trials of {own / 1e3:.1f} CPU seconds, {len(waits)} epochs; a report waits "
        f"{1e6 * sum(waits) / len(waits):.0f} microseconds; CPU a trial: {ours:.0f} ms of the search's process, "
        f"{theirs:.0f} ms of W&B's service, together {(ours + theirs) / own:.2%} of the trial's; once a search "
        f"{once:.1f} s"
    )


def _service_seconds() -> float:
    """CPU seconds of W&B's service, a child of this process."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        fields: list[Any] = rest.split()
        if name.startswith("wandb-core") and int(fields[1]) == os.getpid():
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
