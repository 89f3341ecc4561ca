"""CPU that a search of 40 head trials on cached layers spends outside training.

``python benchmarks/head_trials.py CORPUS ENCODER [CACHE_DIR]`` (a prepared corpus; an encoder's folder or id; a cache
that may hold its layers already)

Runs ``--space whisper_fast --fix unfreeze_depth=0 --trials 40`` twice (the first time with one trial, not measured,
so that the layers are cached) and counts the CPU of every process that it starts, Ray's daemons among them, which
this process adopts where they outlive their parents; what one uses in its last quarter of a second is missed. What
its trials need by themselves is then measured by training every recorded trial again, for as many epochs as it had,
in this process and without a search. The difference is start, scheduling, proposals, record and boards, and the
baselines, whose seconds are told apart (they take more CPU than that where they use several threads).
"""

import contextlib
import ctypes
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]
TRIALS = 40
_EVERY_SECONDS = 0.25
_PR_SET_CHILD_SUBREAPER = 36  # Linux: orphans of this process's descendants become its children

from search import run_folder  # noqa: E402
from search.baselines import baselines_of  # noqa: E402
from search.record import read_events  # noqa: E402
from search.study import trials_of  # noqa: E402


def main() -> None:
    corpus, encoder = sys.argv[1:3]
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as scratch:
        cache = sys.argv[3] if len(sys.argv) > 3 else f"{scratch}/cache"
        common = ["--data", corpus, "--encoder", encoder, "--cache-dir", cache, "--wandb", "disabled"]
        _cpu_of_search([*common, "--trials", "1", "--out", f"{scratch}/first"])
        folder = Path(scratch) / "run"
        started = time.perf_counter()
        cpu = _cpu_of_search([*common, "--trials", str(TRIALS), "--out", str(folder)])
        wall = time.perf_counter() - started
        training, epochs = _cpu_of_trials(folder, corpus, encoder, cache, Path(scratch) / "again")
        baselines = baselines_of(read_events(folder / run_folder.RECORD_FILE))
        told = ", ".join(f"{one.title} {one.report['seconds']:.0f} s" for one in baselines)
        print(
            f"{TRIALS} head trials, {epochs} epochs: {wall:.0f} s, {cpu:.0f} s of CPU in all, {training:.0f} s of them "
            f"the trials' own, {cpu - training:.0f} s outside training "
            f"(baselines among it: {told})"
        )


def _cpu_of_search(options: list[str]) -> float:
    """CPU seconds of a search, of all its processes together: each one's count when it was last seen."""
    command = [sys.executable, str(ROOT / "search" / "run.py"), "--space", "whisper_fast", "--fix", "unfreeze_depth=0"]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    seen: dict[tuple[int, str], float] = {}
    while seen.update(_cpu_of_descendants()) or process.poll() is None:
        time.sleep(_EVERY_SECONDS)
    if process.returncode:
        raise RuntimeError(f"the search ended with {process.returncode}")
    return sum(seen.values())


def _cpu_of_descendants() -> dict[tuple[int, str], float]:
    """CPU seconds so far of every process below this one, by its id and when it was started."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    below, grown = {os.getpid()}, True
    while grown:
        children = {pid for pid, fields in stats.items() if int(fields[1]) in below} - below
        below |= children
        grown = bool(children)
    ticks = os.sysconf("SC_CLK_TCK")
    return {(pid, stats[pid][19]): (int(stats[pid][11]) + int(stats[pid][12])) / ticks for pid in below - {os.getpid()}}


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_of_trials(folder: Path, corpus: str, encoder: str, cache: str, scratch: Path) -> tuple[float, int]:
    """CPU seconds and epochs of the recorded trials, trained again one after another on one thread."""
    import torch

    from search.trial import epochs_of_trial
    from search.trial_plan import TrialPlan
    from ser_models.task import Task

    def train(number: int, config: dict[str, object], epochs: int) -> None:
        sum(1 for _ in itertools.islice(epochs_of_trial(number, config, plan), epochs))

    torch.set_num_threads(1)
    config = run_folder.load(folder)
    trials = trials_of(read_events(folder / run_folder.RECORD_FILE))
    arguments = run_folder.stored_arguments(config)
    task = Task(
        corpus, config["data"]["split"], tuple(config["data"]["emotions"]), arguments.seed, cache,
        arguments.cache_gb, "cpu",
        encoder=config["plan"]["encoder"]["spec"], precision=arguments.precision,
        cache_precision=arguments.cache_precision,
    )  # fmt: skip
    plan = TrialPlan(
        str(scratch), "ser_models.encoders.family", task.to_dict(), arguments.seed,
        config["plan"]["max_epochs"], 1,
    )  # fmt: skip
    train(0, trials[0].config, 1)  # imports, and what a process opens once
    before = _own_cpu()
    for number, trial in trials.items():
        train(number + 1, trial.config, len(trial.epochs))
    return _own_cpu() - before, sum(len(trial.epochs) for trial in trials.values())


if __name__ == "__main__":
    main()
