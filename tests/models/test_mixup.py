"""Mixup lays clips of a batch over one another, and the loss asks for both labels by their shares."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional

from ser_data.batches import Batch
from ser_models import training
from ser_models.losses import WeightedCrossEntropy
from ser_models.micro_batches import BatchGradients, Output
from ser_models.mixup import MixedBatch, mixed
from ser_models.training import CheckpointError, Trainer
from tests.models.learning_clips import NUM_CLASSES
from tests.models.test_training import (
    SETTINGS,
    PlainNetwork,
    holding,
    learning_data,
    network,
    numbers,
    saved_and_loaded,
    trainer,
)


@pytest.fixture
def batch() -> Batch:
    """Thirty clips of 3 to 12 frames."""
    data = learning_data()
    data.validation.batch_size = 30
    return next(iter(data.validation.epoch(None)))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def partners(batch: Batch, mixture: MixedBatch) -> list[int]:
    """Which clip lies over each, found in the numbers; no two mixtures of two clips are alike."""
    (_, share), _ = mixture.targets
    found = []
    for row, inputs in enumerate(mixture.arguments[0]):
        candidates = share * batch.inputs[row] + (1 - share) * batch.inputs
        apart = (candidates - inputs).abs().amax(dim=(1, 2))
        assert apart.min() < 1e-6
        found.append(int(apart.argmin()))
    return found


class TestMixedBatches:
    def test_every_clip_is_averaged_by_the_share_with_one_of_its_batch_and_each_is_used_once(
        self, batch: Batch
    ) -> None:
        for _ in range(5):
            over = partners(batch, mixed(batch, 8.0))
            assert sorted(over) == list(range(len(batch.labels))) != over

    def test_the_targets_are_the_labels_of_both_clips_with_shares_that_add_up_to_1(self, batch: Batch) -> None:
        mixture = mixed(batch, 8.0)
        (labels, share), (others, rest) = mixture.targets
        assert 0 < share < 1 and share + rest == pytest.approx(1)
        assert torch.equal(labels, batch.labels)
        assert torch.equal(others, batch.labels[partners(batch, mixture)])

    def test_a_mixture_is_as_long_as_the_longer_of_its_clips(self, batch: Batch) -> None:
        mixture = mixed(batch, 8.0)
        lengths = mixture.arguments[1]
        assert lengths.dtype == batch.lengths.dtype
        assert torch.equal(lengths, torch.maximum(batch.lengths, batch.lengths[partners(batch, mixture)]))
        for inputs, length in zip(mixture.arguments[0], lengths.tolist(), strict=True):
            assert (inputs[:length] != 0).any(dim=1).all() and (inputs[length:] == 0).all()

    def test_the_classes_of_the_whole_batch_are_kept_on_both_sides(self, batch: Batch) -> None:
        for _, (others, _) in (mixed(batch, 0.3).targets for _ in range(5)):
            assert torch.equal(others.bincount(minlength=NUM_CLASSES), batch.labels.bincount(minlength=NUM_CLASSES))

    def test_the_batch_itself_stays_as_it_is(self, batch: Batch) -> None:
        before = [tensor.clone() for tensor in (*batch.arguments, batch.labels, batch.clips)]
        mixture = mixed(batch, 0.3)
        for was, now in zip(before, (*batch.arguments, batch.labels, batch.clips), strict=True):
            assert torch.equal(was, now)
        assert torch.equal(mixture.labels, batch.labels) and torch.equal(mixture.clips, batch.clips)

    @pytest.mark.parametrize("alpha", [0.3, 2.0])
    def test_shares_are_drawn_from_the_beta_distribution(self, batch: Batch, alpha: float) -> None:
        shares = [mixed(batch, alpha).targets[0][1] for _ in range(1000)]
        assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-3


class TestLossOfMixtures:
    @pytest.mark.parametrize("parts", [1, 2, 7, 30])
    @pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 3.0])])
    @pytest.mark.parametrize("smoothing", [0.0, 0.3])
    def test_loss_and_gradients_are_torchs_of_both_labels_by_their_shares(
        self, batch: Batch, parts: int, weights: torch.Tensor | None, smoothing: float
    ) -> None:
        model, mixture = PlainNetwork(), mixed(batch, 8.0)
        (labels, share), (others, rest) = mixture.targets
        logits = model(*mixture.arguments)
        expected = share * functional.cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
        expected += rest * functional.cross_entropy(logits, others, weight=weights, label_smoothing=smoothing)
        expected_gradients = torch.autograd.grad(expected, list(model.parameters()))

        gradients = BatchGradients(
            WeightedCrossEntropy(weights, smoothing),
            torch.optim.SGD(model.parameters()),
            device=torch.device("cpu"),
            parts=parts,
        )
        loss, extra = gradients.leave(mixture, lambda some: Output(model(*some)), targets=mixture.targets)
        assert extra is None
        torch.testing.assert_close(loss, expected.detach(), atol=1e-6, rtol=0)
        for parameter, gradient in zip(model.parameters(), expected_gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-6, rtol=0)


class Remembering(PlainNetwork):
    """Keeps what it was called with and what it answered, by whether it was training."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[bool, list[tuple[torch.Tensor, torch.Tensor]]] = {True: [], False: []}

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        logits = super().forward(inputs, lengths)
        self.calls[self.training].append((inputs, logits.detach()))
        return logits


class TestTraining:
    @pytest.mark.parametrize("accumulation", [1, 3])
    def test_the_model_sees_mixtures_and_the_reported_loss_is_that_of_their_targets(
        self, accumulation: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mixtures: list[MixedBatch] = []

        def remembered(batch: Batch, alpha: float) -> MixedBatch:
            assert alpha == 0.7
            mixtures.append(mixed(batch, alpha))
            return mixtures[-1]

        monkeypatch.setattr(training, "mixed", remembered)
        run = trainer(model=Remembering(), mixup_alpha=0.7, accumulation=accumulation, data=learning_data(num_train=40))
        result = next(run.run())
        assert [len(mixture.labels) for mixture in mixtures] == [16, 16, 8]
        seen, answered = (list(some) for some in zip(*run.model.calls[True], strict=True))
        losses = []
        for mixture in mixtures:
            parts = [(seen.pop(0), answered.pop(0)) for _ in range(accumulation)]
            assert torch.equal(torch.cat([inputs for inputs, _ in parts]), mixture.arguments[0])
            logits = torch.cat([logits for _, logits in parts])
            losses.append(
                sum(
                    share * functional.cross_entropy(logits, labels, weight=run.data.class_weights, label_smoothing=0.1)
                    for labels, share in mixture.targets
                )
            )
        assert result.train_loss == pytest.approx(np.average(losses, weights=[16, 16, 8]), abs=1e-6)

    def test_validation_clips_are_not_mixed(self) -> None:
        run = trainer(model=Remembering(), mixup_alpha=0.7)
        result = next(run.run())
        for batch, (inputs, _) in zip(run.data.validation.epoch(None), run.model.calls[False], strict=True):
            assert torch.equal(inputs, batch.inputs)
        logits = torch.cat([logits for _, logits in run.model.calls[False]])
        expected = functional.cross_entropy(logits, torch.from_numpy(run.data.validation_labels))
        assert result.val_loss == pytest.approx(float(expected), abs=1e-6)

    def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(self) -> None:
        model = PlainNetwork  # without dropout: what differs is order and mixture
        first, second, other = (
            list(map(numbers, trainer(model=model(), mixup_alpha=0.4, seed=seed).run())) for seed in (0, 0, 1)
        )
        assert first == second != other

    def test_each_epoch_mixes_anew(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shares: list[float] = []

        def remembered(batch: Batch, alpha: float) -> MixedBatch:
            mixture = mixed(batch, alpha)
            shares.append(mixture.targets[0][1])
            return mixture

        monkeypatch.setattr(training, "mixed", remembered)
        run = trainer(mixup_alpha=2.0)
        list(run.run())
        assert len(set(shares)) == len(shares) == 3 * SETTINGS.epochs

    @pytest.mark.parametrize("accumulation", [1, 3])
    @pytest.mark.parametrize("done", [1, 3])
    def test_a_resumed_training_mixes_as_an_uninterrupted_one(self, done: int, accumulation: int) -> None:
        straight, first, second = (trainer(mixup_alpha=0.4, accumulation=accumulation) for _ in range(3))
        expected = [numbers(result) for result in straight.run()]
        steps = first.run()
        for _ in range(done):
            next(steps)
        second.load_state(saved_and_loaded(first.state()))
        list(second.run())
        assert [numbers(result) for result in second.history] == expected
        for one, other in zip(straight.model.parameters(), second.model.parameters(), strict=True):
            assert torch.equal(one, other)

    def test_a_state_of_another_alpha_is_refused(self) -> None:
        run = trainer(mixup_alpha=0.4)
        next(run.run())
        with pytest.raises(CheckpointError, match=r"'mixup_alpha': 0\.4.*'mixup_alpha': 0\.2"):
            trainer(mixup_alpha=0.2).load_state(saved_and_loaded(run.state()))

    def test_alpha_changes_the_training_and_0_is_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        some, more = (list(trainer(mixup_alpha=alpha).run())[-1].train_loss for alpha in (0.2, 0.4))
        usual = list(map(numbers, trainer().run()))
        assert len({some, more, usual[-1]["train_loss"]}) == 3

        def never(batch: Batch, alpha: float) -> MixedBatch:
            raise AssertionError("mixed without being asked to")

        monkeypatch.setattr(training, "mixed", never)
        assert list(map(numbers, trainer(mixup_alpha=0.0).run())) == usual

    def test_a_negative_alpha_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"mixup_alpha=-0\.1 must be at least 0"):
            dataclasses.replace(SETTINGS, mixup_alpha=-0.1)

    def test_the_training_in_parts_is_that_of_whole_batches(self) -> None:
        whole, parts = (
            trainer(model=PlainNetwork(), mixup_alpha=0.4, accumulation=some, optimiser="sgd") for some in (1, 5)
        )
        for one, other in zip(whole.run(), parts.run(), strict=True):
            assert other.train_loss == pytest.approx(one.train_loss, abs=1e-6)
        for one, other in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
            torch.testing.assert_close(other, one, atol=1e-6, rtol=0)

    def test_a_batch_that_did_not_fit_is_done_again_with_the_same_mixture(self) -> None:
        surprised = trainer(model=holding(4), mixup_alpha=0.4)
        warned = trainer(model=PlainNetwork(), mixup_alpha=0.4, accumulation=4)
        assert [numbers(result) for result in surprised.run()] == [numbers(result) for result in warned.run()]
        assert surprised.accumulation == 4

    def test_the_callers_random_state_neither_matters_nor_changes(self) -> None:
        def run() -> Trainer:
            made = trainer(model=network(), mixup_alpha=0.4, epochs=1)
            list(made.run())
            return made

        torch.manual_seed(1)
        first = numbers(run().history[0])
        torch.manual_seed(2)
        expected = torch.rand(3)
        torch.manual_seed(2)
        second = numbers(run().history[0])
        assert torch.equal(torch.rand(3), expected)
        assert first == second
