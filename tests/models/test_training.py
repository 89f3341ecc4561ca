"""The loop learns, reports honestly, and goes on from a state as if it had never stopped."""

import dataclasses
import io
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from ser_data.batches import Batch
from ser_data.errors import UserError
from ser_models import training
from ser_models.losses import WeightedCrossEntropy
from ser_models.mfcc.networks import Cnn, Crnn
from ser_models.micro_batches import OutOfMemoryError, split
from ser_models.optimisers import OPTIMISERS, SCHEDULES, ParameterGroup, build_optimiser, learning_rate_factor
from ser_models.training import CheckpointError, DivergedError, Trainer, TrainingData, TrainingSettings
from tests.models import learning_clips
from tests.models.learning_clips import DIM, NUM_CLASSES, ListedBatches

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


class OfferedBatches(ListedBatches):
    """Listed clips in the data layer's own batches."""

    def epoch(self, generator: torch.Generator | None) -> Iterator[Batch]:  # type: ignore[override]
        for batch in super().epoch(generator):
            yield Batch(batch.inputs, batch.lengths, batch.labels, batch.clips)


def learning_data(**problem: Any) -> TrainingData:
    data = learning_clips.learning_data(**problem)
    return dataclasses.replace(data, train=_offered(data.train), validation=_offered(data.validation))


def _offered(listed: Any) -> OfferedBatches:
    return OfferedBatches(
        listed.clips, listed.labels, listed.indices, batch_size=listed.batch_size, shuffle=listed.shuffle
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
    of_trainer = ("groups", "precision", "begin_epoch", "extra_loss")
    how = {name: changes.pop(name) for name in of_trainer if name in changes}
    return Trainer(model or network(), dataclasses.replace(SETTINGS, **changes), data, seed=seed, **how)


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


def two_classes(data: TrainingData, validation: Callable[[np.ndarray], np.ndarray]) -> TrainingData:
    """Whether a clip is of class 0, and *validation* of that for the labels that are judged on."""
    data.train.labels = (data.train.labels == 0).astype(np.int64)
    return dataclasses.replace(
        data,
        class_weights=torch.ones(2),
        validation_labels=validation((data.validation_labels == 0).astype(np.int64)),
    )


def test_of_two_classes_the_roc_auc_is_that_of_the_second_classs_probabilities() -> None:
    data = two_classes(learning_data(), lambda labels: labels)
    run = trainer(data=data, model=PlainNetwork(num_classes=2), learning_rate=0.1)
    for result in run.run():
        expected = roc_auc_score(data.validation_labels, run.predict_validation()[:, 1])
        assert result.extras == {"val_roc_auc": pytest.approx(expected)}
        assert type(result.extras["val_roc_auc"]) is float
    assert expected > 0.7  # and falls below .5 where the classes are taken for one another


def test_roc_auc_is_left_out_of_more_classes_and_where_validation_has_one_alone() -> None:
    assert next(trainer().run()).extras == {}
    data = two_classes(learning_data(), np.zeros_like)
    assert next(trainer(data=data, model=PlainNetwork(num_classes=2)).run()).extras == {}


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


def late_head(model: torch.nn.Module, first_epoch: int = 3) -> list[ParameterGroup]:
    return [ParameterGroup("head", list(model.head.parameters()), 1e-2, 0.1, first_epoch)]


def early_head(model: torch.nn.Module, last_epoch: int = 2) -> list[ParameterGroup]:
    return [ParameterGroup("head", list(model.head.parameters()), 1e-2, 0.1, last_epoch=last_epoch)]


@pytest.mark.parametrize(
    ("done", "first_epoch", "changes"),
    [
        *((2, 1, {"optimiser": optimiser}) for optimiser in OPTIMISERS),
        *((2, 3, {"optimiser": optimiser}) for optimiser in OPTIMISERS),  # the head thaws in the first epoch resumed
        (1, 3, {"accumulation": 3}),
        (3, 3, {"accumulation": 3}),
    ],
)
def test_resuming_gives_the_numbers_and_weights_of_an_uninterrupted_training(
    done: int, first_epoch: int, changes: dict[str, Any]
) -> None:
    def built(seed: int) -> Trainer:
        model = network(seed)
        return trainer(model=model, groups=late_head(model, first_epoch), **changes)

    straight = built(seed=0)
    expected = [numbers(result) for result in straight.run()]

    first = built(seed=0)
    steps = first.run()
    for _ in range(done):
        next(steps)
    state = saved_and_loaded(first.state())
    second = built(seed=99)
    second.load_state(state)
    assert second.epoch == done
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
        ({"version": 1}, "The checkpoint has version 1; this trial has 3.*Remove the checkpoint"),
        ({"seed": 5}, "The checkpoint has seed 5; this trial has 0"),
        ({"settings": {}}, r"The checkpoint has settings \{\}"),
        ({"precision": "bf16"}, "The checkpoint has precision 'bf16'; this trial has 'fp32'"),
        ({"groups": {}}, r"The checkpoint has groups \{\}; this trial has \{'rest': \[0.003, 0.01, 1, None\]\}"),
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
        {"warmup_share": 0.5}, {"mixup_alpha": 0.4},
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


class PlainNetwork(torch.nn.Module):
    """Masked mean and a layer: no dropout, nothing that looks across the batch.

    Args:
        breaks: what happens to a forward pass of so many clips
        num_classes: how many logits
    """

    def __init__(self, breaks: Callable[[int], None] = lambda clips: None, num_classes: int = NUM_CLASSES) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.head = torch.nn.Linear(DIM, num_classes)
        self.breaks = breaks
        self.sizes: list[int] = []  # clips of each forward pass in training

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.sizes.append(len(inputs))
            self.breaks(len(inputs))
        return self.head(inputs.sum(dim=1) / lengths[:, None])


class TestAccumulation:
    @pytest.mark.parametrize("accumulation", [2, 3, 5, 16, 100])
    @pytest.mark.parametrize("class_weights", [True, False])
    def test_the_training_is_that_of_whole_batches(self, accumulation: int, class_weights: bool) -> None:
        whole, parts = (
            trainer(model=PlainNetwork(), accumulation=some, optimiser="sgd", class_weights=class_weights)
            for some in (1, accumulation)
        )
        for one, other in zip(whole.run(), parts.run(), strict=True):
            assert other.train_loss == pytest.approx(one.train_loss, abs=1e-6)
            assert other.val_loss == pytest.approx(one.val_loss, abs=1e-6)
        for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
            torch.testing.assert_close(other, one, atol=1e-6, rtol=0)

    def test_a_batch_is_split_evenly(self) -> None:
        run = trainer(model=PlainNetwork(), accumulation=3)
        next(run.run())
        assert run.model.sizes == [6, 5, 5] * 3

    @pytest.mark.parametrize("parts", [1, 2, 7, 9])
    @pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0])])
    @pytest.mark.parametrize("smoothing", [0.0, 0.3])
    def test_the_shares_of_a_batchs_parts_add_up_to_torchs_mean(
        self, parts: int, weights: torch.Tensor | None, smoothing: float
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        logits = torch.randn(9, NUM_CLASSES, generator=generator, requires_grad=True)
        labels = torch.randint(NUM_CLASSES, (9,), generator=generator)
        loss = WeightedCrossEntropy(weights, smoothing)
        expected = torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
        divisor = loss.divisor(labels)
        shares = sum(loss.share(*part, divisor) for part in split((logits, labels), parts))
        torch.testing.assert_close(shares, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(
            *(torch.autograd.grad(some, logits)[0] for some in (shares, expected)), atol=1e-6, rtol=0
        )

    def test_a_whole_batchs_loss_is_torchs_bit_for_bit(self) -> None:
        generator = torch.Generator().manual_seed(0)
        weights = torch.tensor([0.2, 1.0, 3.0])
        for _ in range(20):
            logits = torch.randn(9, NUM_CLASSES, generator=generator)
            labels = torch.randint(NUM_CLASSES, (9,), generator=generator)
            expected = torch.nn.functional.cross_entropy(logits, labels, weight=weights, label_smoothing=0.1)
            assert torch.equal(WeightedCrossEntropy(weights, 0.1).mean(logits, labels), expected)

    def test_less_than_one_part_is_refused(self) -> None:
        with pytest.raises(ValueError, match="accumulation=0 must be at least 1"):
            dataclasses.replace(SETTINGS, accumulation=0)


def out_of_gpu_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def out_of_machine_memory() -> None:
    torch.empty(2**60, dtype=torch.uint8)


def holding(most: int, failure: Callable[[], object] = out_of_gpu_memory) -> PlainNetwork:
    """A network in memory that is enough for *most* clips at a time."""
    return PlainNetwork(lambda clips: failure() if clips > most else None)


class TestOutOfMemory:
    @pytest.mark.parametrize("failure", [out_of_gpu_memory, out_of_machine_memory])
    def test_the_batch_is_done_again_in_four_parts_and_so_are_all_that_follow(
        self, failure: Callable[[], object]
    ) -> None:
        run = trainer(model=holding(4, failure), epochs=2)
        list(run.run())
        assert run.accumulation == 4
        assert run.model.sizes == [16] + [4] * 4 * 3 * 2

    def test_the_numbers_are_those_of_a_training_that_began_with_the_smaller_parts(self) -> None:
        surprised, warned = trainer(model=holding(4)), trainer(model=PlainNetwork(), accumulation=4)
        assert [numbers(result) for result in surprised.run()] == [numbers(result) for result in warned.run()]

    def test_gradients_of_the_parts_that_still_went_through_are_dropped(self) -> None:
        def third_fails(clips: int) -> None:
            if clips == 4 and model.sizes.count(4) == 3:
                out_of_gpu_memory()

        model = PlainNetwork(third_fails)
        run, undisturbed = (
            trainer(model=some, accumulation=parts) for some, parts in ((model, 4), (PlainNetwork(), 16))
        )
        assert [numbers(result) for result in run.run()] == [numbers(result) for result in undisturbed.run()]
        assert model.sizes[:5] == [4, 4, 4, 1, 1]

    def test_a_failing_backward_pass_counts_too(self) -> None:
        class Backward(PlainNetwork):
            def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
                logits = super().forward(inputs, lengths)
                if logits.requires_grad and len(inputs) > 4:
                    logits.register_hook(lambda gradient: out_of_gpu_memory())
                return logits

        run = trainer(model=Backward())
        next(run.run())
        assert run.accumulation == 4

    def test_a_resumed_training_knows(self) -> None:
        first = trainer(model=holding(4))
        next(first.run())
        second = trainer(model=holding(4))
        second.load_state(saved_and_loaded(first.state()))
        assert second.accumulation == 4
        list(first.run()), list(second.run())
        assert [numbers(result) for result in first.history] == [numbers(result) for result in second.history]
        assert 16 not in second.model.sizes

    def test_a_second_time_is_an_error_that_says_what_to_do(self) -> None:
        run = trainer(model=holding(3))
        with pytest.raises(
            OutOfMemoryError,
            match=r"The memory of cpu does not hold a batch of 16 clips taken 4 at a time\. Take a smaller batch_size, "
            r"a shorter max_clip_seconds, gradient_checkpointing, or a smaller encoder\. \(CUDA out of memory",
        ) as caught:
            next(run.run())
        assert isinstance(caught.value, UserError)
        assert run.model.sizes == [16, 4]

    def test_a_second_time_in_a_resumed_training_is_an_error_too(self) -> None:
        first = trainer(model=holding(4))
        next(first.run())
        second = trainer(model=holding(3))
        second.load_state(saved_and_loaded(first.state()))
        with pytest.raises(OutOfMemoryError, match="16 clips taken 4 at a time"):
            next(second.run())
        assert second.model.sizes == [4]

    def test_single_clips_are_not_split_further(self) -> None:
        run = trainer(model=holding(0), accumulation=16)
        with pytest.raises(OutOfMemoryError, match="16 clips taken 1 at a time"):
            next(run.run())
        assert run.model.sizes == [1]

    def test_there_are_never_more_parts_than_clips(self) -> None:
        run = trainer(model=holding(1), accumulation=8)
        next(run.run())
        assert run.accumulation == 16

    def test_an_optimiser_or_a_validation_that_does_not_fit_is_named_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Evaluated(PlainNetwork):
            def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
                return super().forward(inputs, lengths) if self.training else out_of_gpu_memory()

        with pytest.raises(OutOfMemoryError, match="a batch of 8 clips taken 8 at a time"):
            next(trainer(model=Evaluated()).run())
        monkeypatch.setattr(training, "take_step", lambda optimiser: out_of_gpu_memory())
        with pytest.raises(OutOfMemoryError, match="a batch of 16 clips taken 16 at a time"):
            next(trainer(model=PlainNetwork()).run())

    def test_another_error_is_passed_on_as_it_is(self) -> None:
        def mistake() -> None:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

        run = trainer(model=holding(0, mistake))
        with pytest.raises(RuntimeError, match=r"^mat1 and mat2 shapes cannot be multiplied$"):
            next(run.run())
        assert run.accumulation == 1


class TestModelsOfOtherShapes:
    def test_the_model_is_called_with_whatever_its_batches_offer(self) -> None:
        @dataclasses.dataclass(frozen=True)
        class Sums:
            arguments: tuple[torch.Tensor, ...]
            labels: torch.Tensor
            clips: torch.Tensor

        class SumBatches(ListedBatches):
            def epoch(self, generator: torch.Generator | None) -> Iterator[Sums]:  # type: ignore[override]
                for batch in super().epoch(generator):
                    yield Sums((batch.inputs.sum(dim=1),), batch.labels, batch.clips)

        def sums(listed: Any) -> SumBatches:
            return SumBatches(
                listed.clips, listed.labels, listed.indices, batch_size=listed.batch_size, shuffle=listed.shuffle
            )

        data = learning_data()
        data = dataclasses.replace(data, train=sums(data.train), validation=sums(data.validation))
        results = list(trainer(model=torch.nn.Linear(DIM, NUM_CLASSES), data=data, accumulation=2).run())
        assert results[-1].train_loss < results[0].train_loss

    def test_parts_outside_the_state_dict_are_neither_copied_nor_missed(self) -> None:
        class Frozen(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.head = torch.nn.Linear(DIM, NUM_CLASSES)
                self.backbone = [torch.nn.Linear(DIM, DIM).requires_grad_(False)]  # a list hides it from torch

            def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
                return self.head(self.backbone[0](inputs).mean(dim=1))

            def train(self, mode: bool = True) -> "Frozen":
                super().train(mode)
                self.backbone[0].eval()
                return self

        run = trainer(model=Frozen())
        next(run.run())
        assert set(run.best_weights) == {"head.weight", "head.bias"}
        assert not run.model.backbone[0].training


class TestParameterGroups:
    def test_a_group_keeps_its_own_rate_and_the_rest_the_settings_rate(self) -> None:
        model = network()
        head = ParameterGroup("head", list(model.head.parameters()), learning_rate=0.0, weight_decay=0.0)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        run = Trainer(model, SETTINGS, learning_data(), seed=0, groups=[head])
        next(run.run())
        for name, _ in model.named_parameters():
            assert torch.equal(before[name], model.state_dict()[name]) == name.startswith("head."), name

    @pytest.mark.parametrize("optimiser", OPTIMISERS)
    def test_a_late_group_stays_bit_for_bit_until_its_epoch_and_then_moves(self, optimiser: str) -> None:
        model = network()
        run = trainer(model=model, optimiser=optimiser, groups=late_head(model))
        weights = [[parameter.detach().clone() for parameter in model.head.parameters()]]
        for _ in run.run():
            weights.append([parameter.detach().clone() for parameter in model.head.parameters()])
        moved = [[not torch.equal(*pair) for pair in zip(*twice, strict=True)] for twice in itertools.pairwise(weights)]
        assert [(any(some), all(some)) for some in moved] == [
            (False, False),
            (False, False),
            (True, True),
            (True, True),
        ]

    def test_a_late_group_has_neither_gradient_nor_optimiser_state_before_its_epoch(self) -> None:
        model = network()
        run = trainer(model=model, groups=late_head(model))
        head = set(model.head.parameters())
        for result in run.run():
            thawed = result.epoch >= 3
            assert all((parameter.grad is not None) == thawed for parameter in head)
            assert all(parameter.requires_grad == thawed for parameter in head)
            assert (len(run.state()["optimiser"]["state"]) == len(list(model.parameters()))) == thawed

    @pytest.mark.parametrize("optimiser", OPTIMISERS)
    def test_a_group_moves_until_its_last_epoch_and_then_stays_bit_for_bit(self, optimiser: str) -> None:
        model = network()
        run = trainer(model=model, optimiser=optimiser, groups=early_head(model))
        weights = [[parameter.detach().clone() for parameter in model.head.parameters()]]
        rest = []
        for result in run.run():
            weights.append([parameter.detach().clone() for parameter in model.head.parameters()])
            rest.append(next(model.parameters()).detach().clone())
            frozen = result.epoch > 2
            assert all((parameter.grad is None) == frozen for parameter in model.head.parameters())
            assert (result.learning_rates["head"] == 0) == frozen
            assert result.learning_rates["rest"] > 0
        moved = [[not torch.equal(*pair) for pair in zip(*twice, strict=True)] for twice in itertools.pairwise(weights)]
        assert [(any(some), all(some)) for some in moved] == [
            (True, True),
            (True, True),
            (False, False),
            (False, False),
        ]
        assert not any(torch.equal(*pair) for pair in itertools.pairwise(rest))

    @pytest.mark.parametrize("done", [1, 2, 3])  # before the last epoch of the head, at it, and after it
    def test_a_resumed_training_freezes_a_group_where_an_uninterrupted_one_does(self, done: int) -> None:
        def built(seed: int) -> Trainer:
            model = network(seed)
            return trainer(model=model, groups=early_head(model))

        straight, first, second = built(0), built(0), built(99)
        expected = [numbers(result) for result in straight.run()]
        steps = first.run()
        for _ in range(done):
            next(steps)
        second.load_state(saved_and_loaded(first.state()))
        list(second.run())
        assert [numbers(result) for result in second.history] == expected
        for name, value in straight.model.state_dict().items():
            assert torch.equal(value, second.model.state_dict()[name]), name

    def test_a_state_of_another_last_epoch_is_refused(self) -> None:
        run, other = (
            trainer(model=model, groups=early_head(model, last_epoch))
            for model, last_epoch in ((network(), 2), (network(), 3))
        )
        next(run.run())
        with pytest.raises(CheckpointError, match=r"'head': \[0\.01, 0\.1, 1, 2\].*'head': \[0\.01, 0\.1, 1, 3\]"):
            other.load_state(saved_and_loaded(run.state()))

    def test_a_parameter_frozen_for_good_is_not_thawed_with_its_group(self) -> None:
        model = network()
        frozen = next(model.head.parameters()).requires_grad_(False)
        before = frozen.clone()
        list(trainer(model=model, groups=late_head(model)).run())
        assert not frozen.requires_grad
        assert torch.equal(before, frozen)

    def test_learning_rates_are_reported_by_name_and_are_0_before_a_groups_first_epoch(self) -> None:
        model = network()
        results = list(trainer(model=model, groups=late_head(model), schedule="constant").run())
        assert [result.learning_rates for result in results] == [
            {"head": 0.0, "rest": 3e-3}, {"head": 0.0, "rest": 3e-3}, {"head": 1e-2, "rest": 3e-3},
            {"head": 1e-2, "rest": 3e-3},
        ]  # fmt: skip
        assert [result.learning_rate for result in results] == [0.0, 0.0, 1e-2, 1e-2]
        assert training.EpochResult(**results[2].to_dict()) == results[2]

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
        late = ParameterGroup("all", list(torch.nn.Linear(3, 2).parameters()), 0.1, 0.5, first_epoch=2)
        for groups in ([], [late]):
            with pytest.raises(ValueError, match="no parameter is trained in the first epoch"):
                build_optimiser("sgd", groups)

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

    def test_the_share_of_the_warm_up_may_be_chosen(self) -> None:
        factors = [learning_rate_factor("constant", step, 10, warmup_share=0.4) for step in range(10)]
        np.testing.assert_allclose(factors, [0.2, 0.4, 0.6, 0.8] + [1.0] * 6)
        assert learning_rate_factor("linear", 0, 10, warmup_share=0.0) == 1.0
        assert learning_rate_factor("cosine", 9, 10, warmup_share=1.0) < 1.0
        with pytest.raises(ValueError, match=r"warmup_share=1\.5 must be from 0 to 1"):
            dataclasses.replace(SETTINGS, warmup_share=1.5)

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(ValueError, match="schedule 'step' is not known; known are constant"):
            learning_rate_factor("step", 10, 20)
