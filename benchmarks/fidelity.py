"""What it is worth to tell the sampler how far a trial got: this project's searcher against Ray's OptunaSearch.

``python benchmarks/fidelity.py [--seeds 20] [--epochs 600]``

A made-up objective whose ranking depends on fidelity: configurations that end higher learn more slowly, as large
networks on frames do beside small ones on statistics, so that scores of few epochs rank them the wrong way round. Both
searchers ask Optuna's TPE with the same options and face the same early stopping (this project's rungs), one trial at a
time, until the same number of epochs is used up. OptunaSearch tells a stopped trial as complete with the score that it
had; this project tells it as pruned, with its intermediate scores. A third arm samples at random.

Nothing is trained, Ray starts no process. Printed, for configurations that take 2, 4 or 8 epochs to learn and for each
scheduler: the final score (at full length, without noise) of the configuration that each search would name its best,
mean and deviation over seeds, and the paired difference.
"""

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]
MAX_EPOCHS, GRACE, REDUCTION = 27, 3, 3
SLOWEST = (2, 4, 8)  # epochs that the best configurations take to learn
SCHEDULERS = ("asha", "checked-asha", "hyperband", "none")


def score(config: dict[str, Any], epoch: int, slowest: float) -> float:
    """Validation score in [0, 1] after *epoch* epochs, without noise; the largest take *slowest* epochs to learn."""
    rate_fit = -((math.log10(config["learning_rate"]) + 3.0) ** 2) * 0.05
    dropout_fit = -((config["dropout"] - 0.3) ** 2) * 0.3
    size = config["size"]  # 0 small … 1 large: ends higher, learns more slowly
    final = 0.60 + 0.15 * size + rate_fit + dropout_fit
    pace = 1.0 + (slowest - 1.0) * size  # epochs until two thirds of the way
    start = 0.17
    return start + (final - start) * (1 - math.exp(-epoch / pace))


def suggest(trial: Any) -> dict[str, Any]:
    """The space, define-by-run."""
    return {
        "size": trial.suggest_float("size", 0.0, 1.0),
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6),
    }


class Searcher(Protocol):
    """One of the arms."""

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """A trial's name and configuration."""

    def tell(self, name: Any, scores: list[float], *, stopped: bool) -> None:
        """What came of it."""


class Ours:
    """:class:`search.proposals.Proposer`."""

    def __init__(self, seed: int, sampler: str = "tpe") -> None:
        from search.proposals import Proposer
        from search.space import Space

        space = Space("synthetic", "", "", 1, MAX_EPOCHS, 1, (), suggest)
        self._proposer = Proposer(space, sampler=sampler, seed=seed, study_name="synthetic")

    def ask(self) -> tuple[Any, dict[str, Any]]:
        proposal = self._proposer.ask()
        return proposal.number, proposal.config

    def tell(self, name: Any, scores: list[float], *, stopped: bool) -> None:
        from optuna.trial import TrialState

        self._proposer.tell(name, scores, TrialState.PRUNED if stopped else TrialState.COMPLETE)


class Stock:
    """``ray.tune.search.optuna.OptunaSearch``, called as Tune calls it."""

    def __init__(self, seed: int) -> None:
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
        self._search = OptunaSearch(_define_by_run, metric="score", mode="max", sampler=sampler)
        self._count = 0

    def ask(self) -> tuple[Any, dict[str, Any]]:
        name = f"t{self._count}"
        self._count += 1
        return name, dict(self._search.suggest(name))

    def tell(self, name: Any, scores: list[float], *, stopped: bool) -> None:
        results = [{"score": value, "training_iteration": epoch} for epoch, value in enumerate(scores, start=1)]
        for result in results:
            self._search.on_trial_result(name, result)
        self._search.on_trial_complete(name, result=results[-1])


def _define_by_run(trial: Any) -> None:
    suggest(trial)


def best_found(searcher: Searcher, rule: Any, epochs: int, slowest: float, seed: int) -> tuple[float, int]:
    """True final score of the configuration with the best seen score, and the number of trials."""
    import random

    noise = random.Random(seed)
    used = number = 0
    best = (-1.0, 0.0)
    while used < epochs:
        name, config = searcher.ask()
        scores: list[float] = []
        stopped = False
        for epoch in range(1, MAX_EPOCHS + 1):
            scores.append(score(config, epoch, slowest) + noise.gauss(0, 0.01))
            used += 1
            stopped = rule.report(number, epoch, scores[-1]) is not None
            if stopped or used >= epochs:
                break
        if len(scores) == MAX_EPOCHS:
            rule.completed(number)
        searcher.tell(name, scores, stopped=stopped or len(scores) < MAX_EPOCHS)
        best = max(best, (max(scores), score(config, MAX_EPOCHS, slowest)))
        number += 1
    return best[1], number


def main() -> None:
    import warnings

    import optuna

    from search.rungs import make_rule
    from ser_data.seeds import derive_seed

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=600, help="of each search, all trials together")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    arms: dict[str, Callable[[int], Searcher]] = {
        "ours": Ours, "OptunaSearch": Stock, "random": lambda seed: Ours(seed, "random"),
    }  # fmt: skip
    print(
        f"{options.epochs} epochs a search, {MAX_EPOCHS} at most a trial, first rung at {GRACE}, {options.seeds} seeds"
    )
    for slowest in SLOWEST:
        by_scheduler: dict[str, dict[str, list[tuple[float, int]]]] = {}
        for scheduler in SCHEDULERS:
            found = by_scheduler[scheduler] = {}
            for name, make in arms.items():
                rules = (
                    make_rule(scheduler, grace=GRACE, reduction_factor=REDUCTION, max_epochs=MAX_EPOCHS)
                    for _ in range(options.seeds)
                )
                found[name] = [
                    best_found(make(derive_seed(seed, "fidelity")), rule, options.epochs, slowest, seed)
                    for seed, rule in enumerate(rules)
                ]
            told = ", ".join(
                f"{name} {_mean_sd([value for value, _ in some])} ({statistics.mean(n for _, n in some):.0f} trials)"
                for name, some in found.items()
            )
            print(f"slowest {slowest}, {scheduler}: {told}; ours − OptunaSearch "
                  f"{_difference(found['ours'], found['OptunaSearch'])}", flush=True)  # fmt: skip
        ours, stock = by_scheduler["checked-asha"]["ours"], by_scheduler["asha"]["OptunaSearch"]
        print(f"slowest {slowest}: ours under checked-asha − OptunaSearch under asha {_difference(ours, stock)}")


def _difference(ours: list[tuple[float, int]], others: list[tuple[float, int]]) -> str:
    differences = [one - other for (one, _), (other, _) in zip(ours, others, strict=True)]
    better = sum(difference > 0 for difference in differences)
    return f"{_mean_sd(differences)}, better with {better} seeds"


def _mean_sd(values: list[float]) -> str:
    return f"{statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    main()
