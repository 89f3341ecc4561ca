"""Our TPE proposes what Optuna's proposes."""

import optuna
import pytest
from optuna.samplers._tpe import sampler as implementation
from optuna.trial import TrialState

from search.tpe import Tpe

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def suggest(trial: optuna.Trial) -> float:
    """A conditional space, so that there are several groups."""
    kind = trial.suggest_categorical("kind", ("a", "b", "c"))
    value = trial.suggest_float("shared", 0.0, 1.0)
    if kind == "a":
        return value + trial.suggest_float("only_a", 0.0, 1.0)
    if kind == "b":
        return value * trial.suggest_int("only_b", 1, 5)
    return value


def proposals(sampler: type[optuna.samplers.TPESampler], count: int) -> list[dict[str, object]]:
    """Trials of a search, every third pruned, with one running beside each proposal."""
    study = optuna.create_study(
        direction="maximize", sampler=sampler(seed=3, multivariate=True, group=True, constant_liar=True)
    )
    found = []
    waiting: tuple[optuna.Trial, float] | None = None
    for number in range(count):
        trial = study.ask()
        value = suggest(trial)
        found.append(dict(trial.params))
        if waiting is not None:
            before, score = waiting
            for epoch in range(1, 1 + number % 3):
                before.report(score * epoch, epoch)
            pruned = number % 3 == 2
            study.tell(before, None if pruned else score, TrialState.PRUNED if pruned else TrialState.COMPLETE)
        waiting = trial, value
    return found


def test_it_proposes_what_optunas_own_proposes() -> None:
    assert proposals(Tpe, 60) == proposals(optuna.samplers.TPESampler, 60)


def test_trials_are_split_once_a_proposal_and_optuna_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    original = implementation._split_trials
    calls = []

    def counted(study: optuna.Study, trials: list[optuna.trial.FrozenTrial], n_below: int) -> object:
        calls.append(len(trials))
        return original(study, trials, n_below)

    monkeypatch.setattr(implementation, "_split_trials", counted)
    proposals(Tpe, 40)
    ours = len(calls)
    assert implementation._split_trials is counted
    calls.clear()
    proposals(optuna.samplers.TPESampler, 40)
    assert ours < len(calls) / 2
