"""How a search grows with its cluster, in virtual time: up to 64 nodes of 8 GPUs, 2,000 trials.

``python benchmarks/scaling.py [--space mel_cnn] [--nodes 1,4,16,64] [--trials 2000] [--seeds 0] [--speed 1]``

Real are Ray Tune's controller, the sampler, the rungs, the record, Optuna's journal and the board, all in one process
as in any search; the CPU time that they take passes in virtual time too. The cluster is made up
(``virtual_cluster.py``), and so are the trials, out of recorded ones (``recorded_curves.py``). W&B is off.

Prints a row for each cluster, and a line of JSON with all of it. Ideal is the work of the trials over the number of
GPUs. The share of busy GPUs is taken from the start until the last trial has begun: while work waits.
"""

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]

from benchmarks.recorded_curves import Landscape, RecordedTrials  # noqa: E402
from benchmarks.virtual_cluster import Clock, Costs, Meter, VirtualActors  # noqa: E402

GPUS_OF_A_NODE, CORES_OF_A_NODE = 8, 64
ENCODER_LAYERS = 12  # of the encoder that spaces over encoders are bound to
#: Measured with benchmarks/ray_costs.py; docs/scaling.md says on what.
COSTS = Costs(event=0.0004, event_per_worker=0.7e-6, worker=0.034, sync=0.003, hop=0.001)
_SPEAKERS, _EMOTIONS, _CLIPS = 9, 6, 13  # clips of a speaker and emotion among the validation clips


class SimulatedTrials:
    """The work of one search over a space, or over several: what Tune's workers would do."""

    def __init__(self, studies: Sequence[Any], spaces: Sequence[Any], *, seed: int, speed: float) -> None:
        from search.trial import MEMBER_SPAN

        self._studies = studies
        self._span = MEMBER_SPAN
        self._trials = [RecordedTrials(space.family, seed=seed, speed=speed) for space in spaces]
        self._landscapes = [Landscape(space, seed) for space in spaces]
        self._qualities: dict[int, float] = {}

    def cold_seconds(self, config: Mapping[str, Any]) -> float:
        return self._trials[config["number"] // self._span].cold_start

    def start_seconds(self, config: Mapping[str, Any]) -> float:
        return self._trials[config["number"] // self._span].start_seconds(config["config"], config["number"])

    def epoch(self, config: Mapping[str, Any], epoch: int) -> tuple[float, dict[str, Any]]:
        number, own = config["number"], config["config"]
        trials = self._trials[number // self._span]
        score = trials.score(own, number, epoch, self._quality(number))
        seconds = trials.epoch_seconds(own, number, epoch)
        hits = [[round(score * _CLIPS)] * _EMOTIONS for _ in range(_SPEAKERS)]
        hits[0] = [(number * 7 + epoch + emotion) % _CLIPS for emotion in range(_EMOTIONS)]  # no two alike
        return seconds, {
            "epoch": epoch, "train_loss": 1 - score, "val_loss": 1 - score, "val_uar": score, "val_accuracy": score,
            "val_macro_f1": score, "seconds": seconds, "clips_per_second": 5144 / seconds, "val_hits": hits,
            "num_parameters": 100_000, "learning_rate": 1e-3,
            # what Tune adds on a worker
            "trial_id": "0", "training_iteration": epoch, "done": False, "date": "", "timestamp": 0, "pid": 1,
            "time_this_iter_s": seconds, "time_total_s": seconds, "hostname": "", "node_ip": "",
            "iterations_since_restore": epoch, "config": dict(config),
        }  # fmt: skip

    def true_level(self, number: int) -> float:
        """UAR that the trial's configuration is worth, without the luck of its training."""
        member, own = divmod(number, self._span)
        trial = self._studies[member].trials[own]
        return self._trials[member].true_level(trial.config, self._quality(number))

    def _quality(self, number: int) -> float:
        if number not in self._qualities:
            member, own = divmod(number, self._span)
            frozen = self._studies[member]._proposer.frozen_trials[own]
            self._qualities[number] = self._landscapes[member].quality(frozen.params, frozen.distributions)
        return self._qualities[number]


def simulate(options: argparse.Namespace, nodes: int, seed: int) -> dict[str, Any]:
    """One search on a cluster of *nodes*; what it took."""
    from rich.console import Console

    from search.cluster.joining import joined_cluster
    from search.space import members_of
    from search.terminal import LiveView
    from search.tune_adapters import SittingStopper

    warnings.simplefilter("ignore")
    gpus = nodes * GPUS_OF_A_NODE
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        folder = Path(scratch)
        searches = [_search(name, folder, options, seed) for name in members_of(options.space)]
        # Ray is here for what Tune asks it for beside the cluster; it runs nothing
        stack.enter_context(joined_cluster("local", num_cpus=1))
        clock, meter = Clock(), Meter()
        stack.enter_context(_in_virtual_time(clock, COSTS))
        searched, studies, resources = _opened(searches, folder, options, gpus, stack)
        with clock.stopped():
            work = SimulatedTrials(studies, [search.space for search in searches], seed=seed, speed=options.speed)
        actors = VirtualActors(clock=clock, gpus=gpus, work=work, costs=COSTS, meter=meter)
        stack.enter_context(mock.patch("ray.tune.execution.tune_controller.RayActorManager", lambda **_: actors))
        view = stack.enter_context(LiveView(Console(quiet=True), num_trials=options.trials, known=searched.trials))
        _watch(searches, studies, folder, view, stack)
        _tune(searched, searches, resources, SittingStopper(None), folder)
        took, busy, computed = clock.now, clock.busy, clock.computed
        trials = list(searched.trials.items())
        number, best = max(trials, key=lambda pair: pair[1].best_score)
        starts = sorted(meter.starts)
        last_start = starts[-1]
        # what proposals are worth, whatever was cut: in the order in which they were made
        levels = [work.true_level(number) for number, _ in sorted(trials, key=lambda pair: pair[1].number)]
        quarter = max(1, len(levels) // 4)
        filled = starts[min(sum(one.concurrent for one in resources), len(starts)) - 1]
        return {
            "space": options.space, "seed": seed, "speed": options.speed, "nodes": nodes, "gpus": gpus,
            "concurrent": [one.concurrent for one in resources], "gpus_per_trial": [one.gpus for one in resources],
            "trials": len(trials), "ended": sum(trial.outcome in ("completed", "stopped") for _, trial in trials),
            "results": len(meter.spans), "events": actors.events,
            "seconds": took, "ideal": meter.work / gpus, "work": meter.work,
            "last_start": last_start, "busy_share": meter.busy_share(0, last_start, gpus), "filled": filled,
            "busy_share_once_filled": meter.busy_share(filled, last_start, gpus) if filled < last_start else None,
            "driver_busy": busy, "driver_cpu": computed,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "best": best.best_score, "best_level": work.true_level(number),
            "level_of_quarters": [
                sum(part) / len(part) for part in (levels[i : i + quarter] for i in range(0, len(levels), quarter))
            ],
            "median_trial_seconds": sorted(trial.seconds for _, trial in trials)[len(trials) // 2],
            "mean_trial_seconds": sum(trial.seconds for _, trial in trials) / len(trials),
            "of_spaces": [len(study.trials) for study in studies],
        }  # fmt: skip


def _search(name: str, folder: Path, options: argparse.Namespace, seed: int) -> Any:
    """A search of the space called *name* as it is when its data are open."""
    from filelock import FileLock

    from search import run_folder
    from search.arguments import Arguments
    from search.families import get_family
    from search.opening import Search
    from search.space import load_space

    space = load_space(name)
    if space.encoder is not None:
        space = space.bound_to(ENCODER_LAYERS)
    arguments = Arguments(
        space=name, seed=seed, wandb="disabled", sampler=options.sampler, gpus_per_trial=options.gpus_per_trial,
        max_concurrent=options.max_concurrent,
    )  # fmt: skip
    data = {
        "corpus": "simulated", "manifest_hash": "0" * 64, "generated": False, "split": "simulated", "leaky": False,
        "notes": [], "clips": {}, "actors": {"train": 63, "validation": _SPEAKERS, "test": 19},
        "val_totals": [[_CLIPS] * _EMOTIONS for _ in range(_SPEAKERS)],
    }  # fmt: skip
    plan = {"family": space.family, "num_trials": options.trials, "max_epochs": space.max_epochs, "grace": space.grace}
    own = folder / name
    own.mkdir()
    config = run_folder.new_config(arguments, "simulated", {"plan": plan, "data": data})
    return Search(own, config, arguments, space, get_family(space.family), FileLock(own / "lock"))


def _opened(
    searches: Sequence[Any], folder: Path, options: argparse.Namespace, gpus: int, stack: ExitStack
) -> tuple[Any, list[Any], list[Any]]:
    """The study or portfolio, the study of each space, and what trials of each take."""
    from search.portfolio import Machine, MemberStudy, Portfolio
    from search.record import Record
    from search.run_folder import RECORD_FILE, UNBOUNDED
    from search.session import open_study
    from search.tuning import choose_resources

    cores = gpus // GPUS_OF_A_NODE * CORES_OF_A_NODE
    alone = len(searches) == 1
    records = [stack.enter_context(Record(search.folder / RECORD_FILE)) for search in searches]
    studies = [
        open_study(search, record, num_trials=options.trials if alone else UNBOUNDED, space="" if alone else
                   search.space.name)
        for search, record in zip(searches, records, strict=True)
    ]  # fmt: skip
    resources = [choose_resources(search.arguments, search.family, cores=cores, gpus=gpus) for search in searches]
    for study, one in zip(studies, resources, strict=True):
        study.take_resources(one.cpus, one.gpus)
    if alone:
        return studies[0], studies, resources
    members = [
        MemberStudy(search.space.name, study, len(search.space.start_configurations()), one.cpus, one.gpus)
        for search, study, one in zip(searches, studies, resources, strict=True)
    ]
    record = stack.enter_context(Record(folder / RECORD_FILE))
    machine = Machine(cores, gpus, options.max_concurrent)
    return Portfolio(record, members, machine, num_trials=options.trials), studies, resources


def _watch(searches: Sequence[Any], studies: Sequence[Any], folder: Path, view: Any, stack: ExitStack) -> None:
    """As a session does."""
    from types import SimpleNamespace

    from search.portfolio_session import keep_board
    from search.session import watch
    from search.tracking.tracker import Tracker

    for search, study in zip(searches, studies, strict=True):
        tracker = Tracker(search.folder, search.config, mode="disabled", project="", entity=None, say=view.say)
        watch(search, study, view, stack.enter_context(tracker))
    if len(searches) > 1:
        whole: Any = SimpleNamespace(members=searches, folder=folder, config=searches[0].config)
        board = keep_board(whole, studies)
        for study in studies:
            study.listeners.append(board)


def _tune(searched: Any, searches: Sequence[Any], resources: Sequence[Any], stopper: Any, folder: Path) -> None:
    from search.trial import place_of_member
    from search.trial_plan import TrialPlan
    from search.tuning import tune_several, tune_study

    plans = [
        TrialPlan(str(search.folder), search.family.module, {}, search.arguments.seed, search.space.max_epochs, 1)
        for search in searches
    ]
    if len(plans) == 1:
        tune_study(searched, plans[0], stopper, resources[0], searches[0].arguments)
    else:
        tune_several(
            searched, plans, resources, stopper, folder, place_of=place_of_member, arguments=searches[0].arguments
        )


@contextlib.contextmanager
def _in_virtual_time(clock: Clock, costs: Costs) -> Iterator[None]:
    """The disk's time is charged instead of waited for; what is done now and then goes by the virtual clock."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("os.fsync", lambda descriptor: clock.charge(costs.sync)))
        stack.enter_context(mock.patch("search.seldom.monotonic", lambda: clock.now))
        yield


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--space", default="mel_cnn")
    parser.add_argument("--nodes", default="1,4,16,64")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--speed", type=float, default=1.0, help="how much faster epochs are than the recorded ones")
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--gpus-per-trial", type=float, default=1.0, help="0: what the family takes by default")
    parser.add_argument("--max-concurrent", type=int)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    options.gpus_per_trial = options.gpus_per_trial or None
    return options


def main() -> None:
    options = _options()
    cases = [(int(nodes), int(seed)) for seed in options.seeds.split(",") for nodes in options.nodes.split(",")]
    if options.alone:
        ((nodes, seed),) = cases
        print(json.dumps(simulate(options, nodes, seed)))
        return
    for nodes, seed in cases:
        command = [sys.executable, __file__, *sys.argv[1:], "--nodes", str(nodes), "--seeds", str(seed), "--alone"]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ).stdout
        found = json.loads(output.splitlines()[-1])
        print(_row(found), flush=True)
        print(json.dumps(found), flush=True)


def _row(found: Mapping[str, Any]) -> str:
    return (
        f"| {found['nodes']} | {found['gpus']} | {found['seconds']:.0f} | {found['ideal']:.0f} | "
        f"{found['busy_share']:.1%} | {found['best']:.3f} ({found['best_level']:.3f}) | {found['driver_cpu']:.0f} | "
        f"{found['peak_mb']:.0f} | {found['results'] / found['seconds']:.1f} |"
    )


if __name__ == "__main__":
    main()
