"""What a search costs beside its trials: 100 trials that only report three epochs, ours against plain Ray Tune.

``python benchmarks/search_overhead.py [TRIALS]``

Both start Ray in a process of their own, use TPE, ASHA, two workers and reused actors, and report the same scores.
Plain is Ray Tune with its OptunaSearch and ASHAScheduler. Prints wall seconds from the command to the end, and the
ratio.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]
EPOCHS = 3


def ours(trials: int, storage_uri: str | None = None) -> None:
    """The search's own code, from record to rungs; with a storage where there is one at *storage_uri*."""
    from search.arguments import Arguments
    from search.cluster.joining import joined_cluster
    from search.ending import remove_checkpoints
    from search.proposals import Proposer
    from search.rungs import RungGroups, make_rule
    from search.seldom import Seldom
    from search.space import Space
    from search.storage.opening import opened_storage
    from search.storage.run_storage import open_record
    from search.study import Study
    from search.trial_plan import TrialPlan
    from search.tune_adapters import SittingStopper
    from search.tuning import Resources, tune_study
    from ser_models.task import Task

    def suggest(trial: object) -> dict[str, object]:
        return {"x": trial.suggest_float("x", 0.0, 1.0)}  # type: ignore[attr-defined]

    space = Space("null", "", "null", trials, EPOCHS, 1, (), suggest)  # type: ignore[arg-type]
    task = Task("", "", ("happy", "sad"), 0, "", 1.0, "cpu").to_dict()
    with (
        tempfile.TemporaryDirectory() as scratch,
        opened_storage(Arguments(out=Path(scratch, "run"), storage=storage_uri), print) as (arguments, storage),
    ):
        assert arguments.out is not None
        folder = arguments.out
        folder.mkdir()
        record = open_record(folder / "events.jsonl", storage)
        study = Study(
            record,
            Proposer(space, sampler="tpe", seed=0, study_name="null"),
            RungGroups(lambda: make_rule("asha", grace=1, reduction_factor=3, max_epochs=EPOCHS), lambda config: ""),
            num_trials=trials,
            max_epochs=EPOCHS,
        )
        files = None
        if storage is not None:
            files = storage.node_files(folder, Path(scratch, "cache"))
            study.listeners.append(Seldom(lambda: remove_checkpoints(folder, study, storage)))
        plan = TrialPlan(str(folder), "benchmarks.null_family", task, 0, EPOCHS, 1, files=files)
        with joined_cluster("local", num_cpus=2):
            tune_study(study, plan, SittingStopper(None), Resources(1, 0.0, 2), Arguments(max_failures=0))
        record.close()
        ended = sum(trial.outcome in ("completed", "stopped") for trial in study.trials.values())
    if ended != trials:
        reasons = {trial.reason for trial in study.trials.values() if trial.outcome == "failed"}
        raise RuntimeError(f"{ended} of {trials} trials ended; failed: {reasons}")


def _plain_trial(config: dict[str, float]) -> None:
    from ray import tune

    for epoch in range(1, EPOCHS + 1):
        tune.report({"epoch": epoch, "val_uar": (1 - abs(config["x"] - 0.3)) * epoch / (epoch + 1)})


def plain(trials: int) -> None:
    """Ray Tune as its documentation puts it together."""
    import logging

    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    ray.init(num_cpus=2, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(_plain_trial, {"cpu": 1}),
            param_space={"x": tune.uniform(0.0, 1.0)},
            tune_config=tune.TuneConfig(
                metric="val_uar",
                mode="max",
                num_samples=trials,
                reuse_actors=True,
                search_alg=ConcurrencyLimiter(OptunaSearch(seed=0), max_concurrent=2),
                scheduler=ASHAScheduler(time_attr="epoch", max_t=EPOCHS, grace_period=1, reduction_factor=3),
            ),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()
    ray.shutdown()


def _seconds(which: str, trials: int) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, __file__, str(trials), which], check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    if len(sys.argv) > 2:
        {"ours": ours, "plain": plain}[sys.argv[2]](trials)
        return
    rounds = [(_seconds("ours", trials), _seconds("plain", trials)) for _ in range(3)]
    for mine, theirs in rounds:
        print(
            f"{trials} trials of {EPOCHS} empty epochs: ours {mine:5.1f} s, plain Ray Tune {theirs:5.1f} s, "
            f"ratio {mine / theirs:.2f}"
        )


if __name__ == "__main__":
    main()
