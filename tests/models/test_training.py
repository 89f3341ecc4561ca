"""The loop learns, reports honestly, and goes on from a state as if it had never stopped."""

import dataclasses
import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from ser_models import training
from ser_models.mfcc.networks import Cnn, Crnn
from ser_models.optimisers import OPTIMISERS, SCHEDULES, ParameterGroup, build_optimiser, learning_rate_factor
from ser_models.training import CheckpointError, DivergedError, Trainer, TrainingSettings
from tests.models.learning_clips import DIM, NUM_CLASSES, learning_data

SETTINGS = TrainingSettings(
    epochs=4,
    batch_size=16,
    optimiser="adamw",
    learning_rate=3e-3,
    weight_decay=1e-2,
    schedule="cosine",
    label_smoothing=0.1,
    class_weights=True,
)


def network(seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Crnn(
            DIM, NUM_CLASSES, channels=8, blocks=1, kernel_size=3, hidden_units=6, recurrent_layers=1,
            pooling="attention", activation="gelu", dropout=0.3,
        )  # fmt: skip


def trainer(*, seed: int = 0, model: torch.nn.Module | None = None, **changes: Any) -> Trainer:
    data = changes.pop("data", None) or learning_data()
    return Trainer(model or network(), dataclasses.replace(SETTINGS, **changes), data, seed=seed)


def saved_and_loaded(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def numbers(result: training.EpochResult) -> dict[str, Any]:
    """The result without what the clock says."""
    return {name: value for name, value in result.to_dict().items() if name not in ("seconds", "clips_per_second")}


def test_it_learns_and_reports_every_epoch() -> None:
    run = trainer(epochs=12, learning_rate=1e-2, data=learning_data(signal=2.0))
    results = list(run.run())
    assert [result.epoch for result in results] == list(range(1, 13))
    assert results == run.history
    assert results[-1].train_loss < results[0].train_loss
    assert max(result.val_uar for result in results) > 0.8
    assert all(result.seconds > 0 and result.clips_per_second > 0 for result in results)


def test_reported_scores_are_those_of_the_models_predictions() -> None:
    run = trainer()
    for result in run.run():
        predicted = run.predict_validation().argmax(axis=1)
        truth = run.data.validation_labels
        assert result.val_uar == pytest.approx(balanced_accuracy_score(truth, predicted))
        assert result.val_accuracy == pytest.approx(accuracy_score(truth, predicted))
        assert result.val_macro_f1 == pytest.approx(f1_score(truth, predicted, average="macro"))
        hits = np.array(result.val_hits)
        assert hits.shape == run.val_totals.shape == (4, NUM_CLASSES)
        assert hits.sum() / run.val_totals.sum() == pytest.approx(result.val_accuracy)
        assert np.mean(hits.sum(axis=0) / run.val_totals.sum(axis=0)) == pytest.approx(result.val_uar)


def test_hits_are_counted_by_speaker_sorted_by_name() -> None:
    run = trainer()
    result = next(run.run())
    assert run.val_speakers == ("s0", "s1", "s2", "s3")
    right = run.predict_validation().argmax(axis=1) == run.data.validation_labels
    for row, speaker in enumerate(run.val_speakers):
        mine = run.data.validation_speakers == speaker
        assert sum(result.val_hits[row]) == (right & mine).sum()
        assert run.val_totals[row].sum() == mine.sum()


def test_validation_predictions_follow_the_datas_order_whatever_the_batches_order() -> None:
    run = trainer()
    next(run.run())
    expected = run.predict_validation()
    run.data.validation.indices = run.data.validation.indices[::-1].copy()
    np.testing.assert_allclose(run.predict_validation(), expected, atol=1e-6)


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_resuming_gives_the_numbers_and_weights_of_an_uninterrupted_training(optimiser: str) -> None:
    straight = trainer(optimiser=optimiser)
    expected = [numbers(result) for result in straight.run()]

    first = trainer(optimiser=optimiser)
    steps = first.run()
    next(steps), next(steps)
    state = saved_and_loaded(first.state())
    second = trainer(optimiser=optimiser, model=network(seed=99))
    second.load_state(state)
    assert second.epoch == 2
    list(second.run())

    assert [numbers(result) for result in second.history] == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name
    assert second.best_epoch == straight.best_epoch
    for name, value in straight.best_weights.items():
        assert torch.equal(value, second.best_weights[name]), name


def test_a_finished_training_has_nothing_left_to_run() -> None:
    run = trainer()
    list(run.run())
    assert list(run.run()) == []
    again = trainer()
    again.load_state(saved_and_loaded(run.state()))
    assert list(again.run()) == []
    assert again.best_epoch == run.best_epoch > 0


def test_the_best_weights_are_those_of_the_first_epoch_with_the_highest_uar() -> None:
    run = trainer(epochs=6)
    predictions = {}
    for result in run.run():
        predictions[result.epoch] = run.predict_validation()
    scores = [result.val_uar for result in run.history]
    assert run.best_epoch == 1 + scores.index(max(scores))
    run.model.load_state_dict(run.best_weights)
    np.testing.assert_array_equal(run.predict_validation(), predictions[run.best_epoch])


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    first, second, other = (list(map(numbers, trainer(seed=seed).run())) for seed in (0, 0, 1))
    assert first == second != other


def test_the_callers_random_state_neither_matters_nor_changes() -> None:
    torch.manual_seed(1)
    first = [numbers(result) for result in trainer().run()]
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    second = [numbers(result) for result in trainer().run()]
    assert torch.equal(torch.rand(3), expected)
    assert first == second


def test_a_diverged_training_names_the_epoch() -> None:
    run = trainer(optimiser="sgd", learning_rate=1.0, clip_norm=math.inf)
    next(run.run())
    with torch.no_grad():
        next(run.model.parameters()).fill_(math.nan)
    with pytest.raises(DivergedError, match="Epoch 2: the training loss is nan"):
        next(run.run())
    assert run.epoch == 1


def test_a_model_that_is_not_a_number_on_validation_only_is_refused_too() -> None:
    data = learning_data()
    data.validation.clips = [clip * math.inf for clip in data.validation.clips]
    with pytest.raises(DivergedError, match="Epoch 1: the validation loss is nan"):
        next(trainer(data=data).run())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 0}, "The checkpoint has version 0; this trial has 1.*Remove the checkpoint"),
        ({"seed": 5}, "The checkpoint has seed 5; this trial has 0"),
        ({"settings": {}}, r"The checkpoint has settings \{\}"),
        ({"model": {}}, "The checkpoint does not fit this network: .*Missing key"),
    ],
)
def test_a_state_of_another_trial_is_refused(change: dict[str, Any], message: str) -> None:
    run = trainer()
    next(run.run())
    with pytest.raises(CheckpointError, match=message):
        trainer().load_state({**run.state(), **change})


def test_a_state_of_another_network_is_refused() -> None:
    run = trainer()
    next(run.run())
    other = Cnn(DIM, NUM_CLASSES, channels=8, blocks=1, kernel_size=3, pooling="mean", activation="relu", dropout=0.0)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        trainer(model=other).load_state(run.state())


@pytest.mark.parametrize(
    "change",
    [
        {"optimiser": "sgd"}, {"learning_rate": 1e-3}, {"weight_decay": 0.5}, {"schedule": "linear"},
        {"label_smoothing": 0.3}, {"class_weights": False}, {"clip_norm": 0.01},
    ],
)  # fmt: skip
def test_every_setting_changes_the_training(change: dict[str, Any]) -> None:
    usual, changed = (list(trainer(**some).run())[1] for some in ({}, change))
    assert usual.train_loss != changed.train_loss


def plain_network(seed: int) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Cnn(
            DIM, NUM_CLASSES, channels=8, blocks=1, kernel_size=3, pooling="mean", activation="relu", dropout=0.0
        )


def test_with_permuted_training_labels_the_score_is_that_of_chance() -> None:
    scores = []
    for permutation in range(12):
        data = learning_data(num_train=90, num_validation=120, permute_with=permutation)
        run = trainer(data=data, model=plain_network(permutation), epochs=4, learning_rate=1e-2, class_weights=False)
        scores += [result.val_uar for result in run.run()]
    assert np.mean(scores) == pytest.approx(1 / NUM_CLASSES, abs=0.05)


def test_with_the_true_labels_the_same_training_learns() -> None:
    data = learning_data(num_train=90, num_validation=120)
    run = trainer(data=data, model=plain_network(0), epochs=4, learning_rate=1e-2, class_weights=False)
    assert list(run.run())[-1].val_uar > 0.6


class TestParameterGroups:
    def test_a_group_keeps_its_own_rate_and_the_rest_the_settings_rate(self) -> None:
        model = network()
        head = ParameterGroup("head", list(model.head.parameters()), learning_rate=0.0, weight_decay=0.0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        run = Trainer(model, SETTINGS, learning_data(), seed=0, groups=[head])
        next(run.run())
        for name, _ in model.named_parameters():
            assert torch.equal(before[name], model.state_dict()[name]) == name.startswith("head."), name

    def test_biases_and_norms_are_not_decayed(self) -> None:
        model = torch.nn.Linear(3, 2)
        optimiser = build_optimiser("adamw", [ParameterGroup("all", list(model.parameters()), 0.1, 0.5)])
        decays = {
            parameter.ndim: group["weight_decay"] for group in optimiser.param_groups for parameter in group["params"]
        }
        assert decays == {2: 0.5, 1: 0.0}

    def test_frozen_parameters_are_left_out(self) -> None:
        model = torch.nn.Linear(3, 2)
        model.weight.requires_grad_(False)
        optimiser = build_optimiser("sgd", [ParameterGroup("all", list(model.parameters()), 0.1, 0.5)])
        assert [parameter.ndim for group in optimiser.param_groups for parameter in group["params"]] == [1]
        with pytest.raises(ValueError, match="no parameter is trained"):
            build_optimiser("sgd", [])

    def test_an_unknown_optimiser_is_refused(self) -> None:
        group = ParameterGroup("all", list(torch.nn.Linear(3, 2).parameters()), 0.1, 0.5)
        with pytest.raises(ValueError, match="optimiser 'lion' is not known; known are adamw"):
            build_optimiser("lion", [group])


class TestSchedule:
    @pytest.mark.parametrize("schedule", SCHEDULES)
    @pytest.mark.parametrize("total", [1, 2, 5, 100])
    def test_every_step_has_a_rate_and_the_peak_is_the_settings_rate(self, schedule: str, total: int) -> None:
        factors = [learning_rate_factor(schedule, step, total) for step in range(total)]
        assert all(0 < factor <= 1 for factor in factors)
        if total > 2:
            assert max(factors) == 1.0

    def test_it_warms_up_and_then_falls_as_its_name_says(self) -> None:
        shapes = {name: [learning_rate_factor(name, step, 100) for step in range(100)] for name in SCHEDULES}
        for factors in shapes.values():
            assert factors[:6] == sorted(factors[:6])
        assert set(shapes["constant"][5:]) == {1.0}
        np.testing.assert_allclose(np.diff(shapes["linear"][5:]), -1 / 95)
        assert shapes["cosine"][5 + 19] > shapes["linear"][5 + 19]
        assert shapes["cosine"][-1] < 0.01

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="schedule 'step' is not known; known are constant"):
            learning_rate_factor("step", 10, 20)
