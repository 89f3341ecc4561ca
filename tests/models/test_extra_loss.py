"""What a network minimises beside its logits' loss, and what is called before each epoch."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from ser_models import training
from ser_models.training import DivergedError, EpochResult, Trainer, TrainingData
from tests.models.learning_clips import DIM
from tests.models.test_training import (
    PlainNetwork,
    learning_data,
    numbers,
    out_of_gpu_memory,
    saved_and_loaded,
    trainer,
)


class Sided(PlainNetwork):
    """Logits of a clip's mean, and how far a layer of their own is from reconstructing that mean.

    Args:
        most: clips at a time that the memory holds
        side: whether the extra loss is given

    Attributes:
        extras: of every forward pass, by whether it was in training
        scale: what the extra loss is multiplied with, by whether it is in training
    """

    def __init__(self, *, most: int = 1000, side: bool = True) -> None:
        super().__init__(lambda clips: out_of_gpu_memory() if clips > most else None)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.side = torch.nn.Linear(DIM, DIM)
        self.gives = side
        self.extras: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        self.scale = {True: 1.0, False: 1.0}

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        logits = super().forward(inputs, lengths)
        if not self.gives:
            return logits, None
        extra = self.extra_of(inputs, lengths) * self.scale[self.training]
        self.extras[self.training].append(extra.detach())
        return logits, extra

    def extra_of(self, inputs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        means = inputs.sum(dim=1) / lengths[:, None]
        return (self.side(means) - means).square().mean(dim=1)


def epochs_at_once(run: Trainer) -> list[dict[str, Any]]:
    return [numbers(result) for result in run.run()]


class TestMinimised:
    @pytest.mark.parametrize("accumulation", [1, 3, 16])
    def test_a_step_is_that_of_the_logits_loss_plus_the_mean_extra_loss(self, accumulation: int) -> None:
        model, data = Sided(), learning_data(num_train=16)
        batch = next(iter(data.train.epoch(None)))  # all there are, in whatever order
        logits, extra = model(batch.inputs, batch.lengths)
        loss = functional.cross_entropy(logits, batch.labels, weight=data.class_weights, label_smoothing=0.1)
        gradients = torch.autograd.grad(loss + extra.mean(), list(model.parameters()))
        expected = [
            parameter.detach() - 0.5 * gradient
            for parameter, gradient in zip(model.parameters(), gradients, strict=True)
        ]
        assert all((gradient != 0).any() for gradient in gradients)  # those of the side come from the extra loss alone
        run = trainer(
            model=model, data=data, epochs=1, optimiser="sgd", learning_rate=0.5, weight_decay=0.0, warmup_share=0.0,
            schedule="constant", clip_norm=math.inf, accumulation=accumulation,
        )  # fmt: skip
        result = next(run.run())
        assert result.train_loss == pytest.approx((loss + extra.mean()).item(), abs=1e-6)
        for parameter, value in zip(model.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.detach(), value, atol=1e-6, rtol=0)

    def test_it_falls_over_the_epochs(self) -> None:
        results = list(trainer(model=Sided(), epochs=8, learning_rate=3e-2).run())
        for name in ("train_extra_loss", "val_extra_loss"):
            assert results[-1].extras[name] < 0.5 * results[0].extras[name]

    def test_a_head_that_it_does_not_touch_trains_as_without_it(self) -> None:
        with_it, without = (trainer(model=Sided(side=side), clip_norm=math.inf) for side in (True, False))
        for one, other in zip(with_it.run(), without.run(), strict=True):
            assert one.val_loss == pytest.approx(other.val_loss, abs=1e-6)
            assert one.train_loss - one.extras["train_extra_loss"] == pytest.approx(other.train_loss, abs=1e-6)
        torch.testing.assert_close(with_it.model.head.weight, without.model.head.weight, atol=1e-6, rtol=0)


class TestReported:
    @pytest.mark.parametrize("accumulation", [1, 3])
    def test_the_means_are_over_clips_whatever_the_sizes_of_their_batches(self, accumulation: int) -> None:
        model = Sided()
        # batches of 16, 16 and 8, and of 8, 8, 8 and 6
        run = trainer(model=model, data=learning_data(num_train=40), accumulation=accumulation, extra_loss="distance")
        for result in run.run():
            trained, judged = (torch.cat(model.extras[some]).double() for some in (True, False))
            assert (len(trained), len(judged)) == (40, 30)
            assert result.extras == {
                "train_distance": pytest.approx(float(trained.mean()), abs=1e-6),
                "val_distance": pytest.approx(float(judged.mean()), abs=1e-6),
            }
            assert {type(value) for value in result.extras.values()} == {float}
            model.extras = {True: [], False: []}

    def test_the_validation_mean_is_that_of_the_model_after_the_epoch(self) -> None:
        run = trainer(model=Sided())
        for result in run.run():
            with torch.no_grad():
                expected = [run.model.extra_of(*batch.arguments) for batch in run.data.validation.epoch(None)]
            assert result.extras["val_extra_loss"] == pytest.approx(float(torch.cat(expected).mean()), abs=1e-6)

    @pytest.mark.parametrize("accumulation", [2, 5, 100])
    def test_the_numbers_in_parts_are_those_of_whole_batches(self, accumulation: int) -> None:
        whole, parts = (trainer(model=Sided(), optimiser="sgd", accumulation=some) for some in (1, accumulation))
        for one, other in zip(whole.run(), parts.run(), strict=True):
            assert other.extras == pytest.approx(one.extras, abs=1e-6)
            assert other.train_loss == pytest.approx(one.train_loss, abs=1e-6)

    def test_a_batch_that_did_not_fit_counts_once(self) -> None:
        surprised, warned = trainer(model=Sided(most=4)), trainer(model=Sided(), accumulation=4)
        assert epochs_at_once(surprised) == epochs_at_once(warned)

    def test_a_network_without_one_reports_none(self) -> None:
        silent, plain = trainer(model=Sided(side=False)), trainer(model=PlainNetwork())
        assert epochs_at_once(silent) == epochs_at_once(plain)
        assert [result.extras for result in silent.history] == [{}] * 4

    def test_a_result_keeps_its_extras_through_plain_values_and_states(self) -> None:
        straight, first, second = (trainer(model=Sided(), extra_loss="distance") for _ in range(3))
        expected = epochs_at_once(straight)
        result = next(first.run())
        assert EpochResult(**result.to_dict()) == result
        second.load_state(saved_and_loaded(first.state()))
        assert second.history[0].extras == result.extras != {}
        assert [numbers(some) for some in (*second.history, *second.run())] == expected

    def test_in_bf16_it_is_float32_and_nearly_that_of_fp32(self) -> None:
        full, half = (next(trainer(model=Sided(), precision=precision).run()) for precision in ("fp32", "bf16"))
        assert half.extras == pytest.approx(full.extras, rel=0.02)
        assert half.extras != full.extras


class TestDiverged:
    @pytest.mark.parametrize("scale", [math.nan, math.inf])
    def test_one_that_is_no_number_in_training_names_the_epoch(self, scale: float) -> None:
        run = trainer(model=Sided())
        next(run.run())
        run.model.scale[True] = scale
        with pytest.raises(DivergedError, match=r"Epoch 2: the training loss is (nan|inf)"):
            next(run.run())
        assert run.epoch == 1 == len(run.history)

    @pytest.mark.parametrize("scale", [math.nan, math.inf])
    def test_one_that_is_no_number_on_validation_only_is_refused_too(self, scale: float) -> None:
        run = trainer(model=Sided(), extra_loss="distance")
        next(run.run())
        run.model.scale[False] = scale
        with pytest.raises(DivergedError, match=r"Epoch 2: .*(nan|inf)"):
            next(run.run())
        assert run.epoch == 1 == len(run.history)


class TestBeginningOfAnEpoch:
    def test_each_epoch_is_announced_once_before_it_is_trained(self) -> None:
        seen: list[object] = []
        model = PlainNetwork(lambda clips: seen.append("clips"))
        run = trainer(model=model, begin_epoch=seen.append)
        assert seen == []
        for result in run.run():
            seen.append(f"result {result.epoch}")
        expected: list[object] = []
        for epoch in (1, 2, 3, 4):
            expected += [epoch, "clips", "clips", "clips", f"result {epoch}"]
        assert seen == expected

    @pytest.mark.parametrize("done", [1, 3, 4])
    def test_a_resumed_training_announces_the_epochs_that_are_left(self, done: int) -> None:
        first = trainer(model=PlainNetwork())
        steps = first.run()
        for _ in range(done):
            next(steps)
        announced: list[int] = []
        second = trainer(model=PlainNetwork(), begin_epoch=announced.append)
        second.load_state(saved_and_loaded(first.state()))
        list(second.run())
        assert announced == list(range(done + 1, 5))

    def test_what_it_raises_ends_the_training_before_the_epoch(self) -> None:
        def refuse(epoch: int) -> None:
            if epoch == 2:
                raise ValueError("no second phase")

        run = trainer(model=PlainNetwork(), begin_epoch=refuse)
        steps = run.run()
        next(steps)
        sizes = len(run.model.sizes)
        with pytest.raises(ValueError, match="no second phase"):
            next(steps)
        assert (run.epoch, len(run.model.sizes)) == (1, sizes)


def halved(data: TrainingData) -> TrainingData:
    """The first half of the training clips, and all clips at half their loudness."""
    train, validation = (
        type(source)(
            [clip / 2 for clip in source.clips], source.labels, indices, batch_size=source.batch_size, shuffle=shuffle
        )
        for source, indices, shuffle in (
            (data.train, data.train.indices[:24], True),
            (data.validation, data.validation.indices, False),
        )
    )
    return dataclasses.replace(data, train=train, validation=validation)


class TestOtherData:
    @staticmethod
    def in_phases(model: torch.nn.Module, **changes: Any) -> Trainer:
        """Trains on all clips in its first two epochs and on the halved ones from then on."""
        phases = (learning_data(), halved(learning_data()))

        def begin(epoch: int) -> None:
            run.data = phases[epoch > 2]

        run = trainer(model=model, data=phases[0], begin_epoch=begin, **changes)
        return run

    def test_an_epoch_is_trained_and_judged_on_the_data_that_its_beginning_left(self) -> None:
        run = self.in_phases(PlainNetwork())
        sizes = []
        for result in run.run():
            sizes.append(run.model.sizes[sum(map(len, sizes)) :])
            source = run.data.validation
            assert (source.clips[0].abs().max() < learning_data().validation.clips[0].abs().max()) == (result.epoch > 2)
            run.model.eval()
            with torch.no_grad():
                logits = torch.cat([run.model(*batch.arguments) for batch in source.epoch(None)])
            expected = functional.cross_entropy(logits, torch.from_numpy(run.data.validation_labels))
            assert result.val_loss == pytest.approx(float(expected), abs=1e-6)
            np.testing.assert_allclose(run.predict_validation(), logits.softmax(dim=1).numpy(), atol=1e-6)
        assert sizes == [[16, 16, 16], [16, 16, 16], [16, 8], [16, 8]]

    def test_the_means_are_over_the_clips_of_the_new_data(self) -> None:
        run = self.in_phases(Sided())
        for result in run.run():
            trained = torch.cat(run.model.extras[True])
            assert len(trained) == (24 if result.epoch > 2 else 48)
            assert result.extras["train_extra_loss"] == pytest.approx(float(trained.mean()), abs=1e-6)
            run.model.extras = {True: [], False: []}

    @pytest.mark.parametrize("done", [1, 2, 3])  # before the change of data, at it, and after it
    def test_a_resumed_training_takes_the_data_of_an_uninterrupted_one(self, done: int) -> None:
        straight, first, second = (self.in_phases(Sided()) for _ in range(3))
        expected = epochs_at_once(straight)
        steps = first.run()
        for _ in range(done):
            next(steps)
        second.load_state(saved_and_loaded(first.state()))
        list(second.run())
        assert [numbers(result) for result in second.history] == expected
        assert expected != epochs_at_once(trainer(model=Sided()))

    def test_every_step_has_a_learning_rate_of_the_schedule(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rates: list[float] = []
        usual = training.set_learning_rates

        def listening(optimiser: torch.optim.Optimizer, *arguments: Any, **named: Any) -> None:
            usual(optimiser, *arguments, **named)
            rates.append(optimiser.param_groups[0]["lr"])

        monkeypatch.setattr(training, "set_learning_rates", listening)
        list(self.in_phases(PlainNetwork(), schedule="linear", warmup_share=0.0).run())
        assert len(rates) == 3 + 3 + 2 + 2
        assert rates == sorted(rates, reverse=True) and rates[-1] > 0
