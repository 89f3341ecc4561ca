"""A configuration is read to its last parameter, and a trial is what it says."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ser_data.errors import UserError
from ser_data.features.cache import FeatureCache
from ser_models import frame_data, task_clips
from ser_models.bundle import load_bundle
from ser_models.config import ConfigError
from ser_models.mfcc.family import build, prepare_features, read_plan
from ser_models.mfcc.networks import NETWORKS
from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.training import DivergedError, Trainer
from ser_models.trial import COST

Configuration = Callable[..., dict[str, Any]]

# Another accepted value of every parameter. Those of one value only where the others are set as they are come last.
OTHER_VALUES: dict[str, Any] = {
    "num_coefficients": 13,
    "deltas": 0,
    "rms_normalise": True,
    "max_clip_seconds": 1.0,
    "hidden_units": 12,
    "hidden_layers": 2,
    "recurrent_layers": 2,
    "channels": 12,
    "blocks": 2,
    "kernel_size": 5,
    "pooling": "attention",
    "activation": "elu",
    "dropout": 0.5,
    "optimiser": "rmsprop",
    "learning_rate": 1e-2,
    "weight_decay": 0.5,
    "batch_size": 12,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "class_weights": True,
    "time_masks": 3,
    "time_mask_frames": 30,
    "feature_masks": 3,
    "feature_mask_width": 9,
    "waveform_views": 1,
}


def losses(config: dict[str, Any], task: Task) -> list[float]:
    trial = build(config, task, seed=0, max_epochs=2)
    return [loss for result in trial.trainer.run() for loss in (result.train_loss, result.val_loss)]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_trains_and_reads_all_of_its_configuration(
    network: str, configuration: Configuration, task: Task
) -> None:
    config = configuration(network)
    trial = build(config, task, seed=0, max_epochs=1)
    assert trial.read_parameters == config
    assert trial.num_parameters == sum(parameter.numel() for parameter in trial.trainer.model.parameters())
    assert float(trial.facts[COST]) > 0
    result = next(trial.trainer.run())
    assert np.isfinite([result.train_loss, result.val_loss]).all()
    assert 0 <= result.val_uar <= 1


@pytest.mark.parametrize("network", NETWORKS)
def test_changing_any_parameter_changes_the_training(network: str, configuration: Configuration, task: Task) -> None:
    config = configuration(network)
    special = {"network", "features", "spec_augment"}
    assert config.keys() - special <= OTHER_VALUES.keys()
    before = losses(config, task)
    assert before == losses(config, task)
    ignored = [name for name in config.keys() - special if losses({**config, name: OTHER_VALUES[name]}, task) == before]
    assert ignored == []
    hybrid = configuration(network, features="hybrid", num_coefficients=..., deltas=...)
    assert losses(hybrid, task) != before
    if network != "statistics_mlp":
        masks = dict.fromkeys(("time_masks", "time_mask_frames", "feature_masks", "feature_mask_width"), ...)
        assert losses(configuration(network, spec_augment=False, **masks), task) != before


@pytest.mark.parametrize("network", NETWORKS)
def test_a_missing_parameter_is_an_error_by_name(network: str, configuration: Configuration) -> None:
    for name in configuration(network):
        with pytest.raises(ConfigError, match=f"lacks '{name}'"):
            read_plan(configuration(network, **{name: ...}), num_classes=6, max_epochs=1)


@pytest.mark.parametrize(
    ("network", "extra"),
    [
        ("statistics_mlp", {"pooling": "mean"}),
        ("statistics_mlp", {"spec_augment": False}),
        ("statistics_mlp", {"waveform_views": 1}),
        ("bilstm", {"channels": 8}),
        ("cnn", {"hidden_units": 8}),
        ("cnn", {"hidden_layers": 2}),
        ("crnn_attention", {"pooling": "mean"}),
        ("crnn", {"warmup_epochs": 1}),
    ],
)
def test_a_parameter_that_the_network_does_not_have_is_an_error_by_name(
    network: str, extra: dict[str, Any], configuration: Configuration
) -> None:
    with pytest.raises(ConfigError, match=f"holds '{next(iter(extra))}', which this trial does not read"):
        read_plan(configuration(network, **extra), num_classes=6, max_epochs=1)


def test_masks_without_spec_augment_and_coefficients_of_hybrid_features_are_errors(
    configuration: Configuration,
) -> None:
    with pytest.raises(ConfigError, match="holds 'time_masks', 'time_mask_frames', 'feature_masks', 'feature_mask_w"):
        read_plan(configuration("cnn", spec_augment=False), num_classes=6, max_epochs=1)
    with pytest.raises(ConfigError, match="holds 'num_coefficients', 'deltas', which this trial does not read"):
        read_plan(configuration("cnn", features="hybrid"), num_classes=6, max_epochs=1)


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("network", "transformer", "one of 'statistics_mlp', 'bilstm', 'cnn'"),
        ("features", "mel", "one of 'mfcc', 'hybrid'"),
        ("num_coefficients", 12, "from 13 to 40"),
        ("num_coefficients", 41, "from 13 to 40"),
        ("deltas", 3, "from 0 to 2"),
        ("max_clip_seconds", 0.9, "from 1 to 5"),
        ("max_clip_seconds", 5.1, "from 1 to 5"),
        ("rms_normalise", 1, "True or False"),
        ("channels", 0, "from 4 to 512"),
        ("blocks", 0, "from 1 to 8"),
        ("kernel_size", 4, "one of 3, 5, 7, 9, 11"),
        ("pooling", "last", "one of 'mean', 'max', 'statistics', 'attention'"),
        ("activation", "tanh", "one of 'relu', 'gelu', 'silu', 'elu'"),
        ("dropout", 0.8, "from 0 to 0.7"),
        ("optimiser", "lion", "one of 'adamw', 'adam', 'sgd', 'rmsprop'"),
        ("learning_rate", 0.0, "from 1e-06 to 1"),
        ("weight_decay", -1.0, "from 0 to 1"),
        ("batch_size", 0, "from 1 to 4096"),
        ("schedule", "step", "one of 'constant', 'cosine', 'linear'"),
        ("label_smoothing", 0.6, "from 0 to 0.5"),
        ("class_weights", "yes", "True or False"),
        ("time_masks", 0, "from 1 to 8"),
        ("time_mask_frames", 0, "from 1 to 100"),
        ("feature_masks", 9, "from 1 to 8"),
        ("feature_mask_width", 21, "from 1 to 20"),
        ("waveform_views", 9, "from 0 to 8"),
    ],
)
def test_a_value_out_of_range_is_an_error_that_says_the_range(
    name: str, value: Any, accepted: str, configuration: Configuration
) -> None:
    with pytest.raises(ConfigError, match=f"has {name} = {value!r}. Accepted is .*{accepted}.*Change the range"):
        read_plan(configuration("cnn", **{name: value}), num_classes=6, max_epochs=1)


@pytest.mark.parametrize("network", ["statistics_mlp", "crnn"])
def test_the_same_seed_gives_the_same_trial_and_another_seed_another(
    network: str, configuration: Configuration, task: Task
) -> None:
    first, second, other = (
        next(build(configuration(network), task, seed=seed, max_epochs=1).trainer.run()) for seed in (0, 0, 1)
    )
    assert (first.train_loss, first.val_loss) == (second.train_loss, second.val_loss)
    assert (first.train_loss, first.val_loss) != (other.train_loss, other.val_loss)


@pytest.mark.parametrize("network", ["statistics_mlp", "crnn_attention"])
def test_a_resumed_trial_with_masks_and_dropout_gives_the_numbers_of_an_uninterrupted_one(
    network: str, configuration: Configuration, task: Task, tmp_path: Path
) -> None:
    def built() -> Trainer:
        return build(configuration(network), task, seed=5, max_epochs=4).trainer

    straight, first, second = built(), built(), built()
    expected = [(result.train_loss, result.val_loss, result.val_hits) for result in straight.run()]
    steps = first.run()
    next(steps), next(steps)
    torch.save(first.state(), tmp_path / "state.pt")
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    list(second.run())
    assert [(result.train_loss, result.val_loss, result.val_hits) for result in second.history] == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


def test_a_second_trial_of_a_warm_worker_opens_nothing_again(
    configuration: Configuration, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(configuration("cnn"), task, seed=0, max_epochs=1)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("opened again")

    monkeypatch.setattr(FeatureCache, "get", refuse)
    monkeypatch.setattr(task_clips, "open_corpus", refuse)
    build(configuration("crnn", num_coefficients=13, deltas=0), task, seed=1, max_epochs=1)


def test_prepared_features_are_those_that_a_trial_reads(
    configuration: Configuration, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dataclasses.replace(task, cache_dir=str(tmp_path / "cache"))
    prepare_features(configuration("cnn"), task, jobs=2)
    monkeypatch.setattr(FeatureCache, "_compute", lambda *args: pytest.fail("computed again"))
    frame_data.cached_features.cache_clear()
    build(configuration("cnn"), task, seed=0, max_epochs=1)


class TestProbe:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_it_trains_on_few_clips_and_leaves_the_cache_alone(
        self, network: str, configuration: Configuration, task: Task, tmp_path: Path
    ) -> None:
        task = dataclasses.replace(task, cache_dir=str(tmp_path / "cache"))
        trial = build(configuration(network), task, seed=0, max_epochs=1, probe_clips=3)
        result = next(trial.trainer.run())
        assert trial.trainer.val_totals.sum() == 3
        assert np.isfinite(result.train_loss)
        assert not (tmp_path / "cache").exists()

    def test_its_network_is_that_of_the_real_trial(self, configuration: Configuration, task: Task) -> None:
        config = configuration("crnn", waveform_views=1)
        probe = build(config, task, seed=0, max_epochs=1, probe_clips=2)
        assert probe.num_parameters == build(configuration("crnn"), task, seed=0, max_epochs=1).num_parameters

    def test_more_clips_than_there_are_is_all_of_them(self, configuration: Configuration, task: Task) -> None:
        trial = build(configuration("statistics_mlp"), task, seed=0, max_epochs=1, probe_clips=1000)
        assert len(trial.trainer.data.validation_clips) == len(open_task(task).validation)


class TestExport:
    @pytest.mark.parametrize("network", NETWORKS)
    def test_the_bundle_gives_the_probabilities_of_the_best_epoch(
        self, network: str, configuration: Configuration, task: Task, tmp_path: Path
    ) -> None:
        trial = build(configuration(network, max_clip_seconds=1.2), task, seed=0, max_epochs=3)
        predictions = {}
        for result in trial.trainer.run():
            predictions[result.epoch] = trial.trainer.predict_validation()
        trial.export(tmp_path / "best", {"trial_id": "t3", "val_uar": result.val_uar})

        bundle = load_bundle(tmp_path / "best")
        assert bundle.emotions == task.emotions
        assert bundle.provenance["trial_id"] == "t3"
        clips = open_task(task)
        again = [bundle.probabilities(clips.corpus.waveforms.float32(int(clip))) for clip in clips.validation]
        np.testing.assert_allclose(again, predictions[trial.trainer.best_epoch], atol=1e-5)

    def test_emotions_of_a_subset_keep_their_order(
        self, configuration: Configuration, task: Task, tmp_path: Path
    ) -> None:
        task = dataclasses.replace(task, emotions=("sad", "happy"))
        trial = build(configuration("statistics_mlp"), task, seed=0, max_epochs=1)
        next(trial.trainer.run())
        trial.export(tmp_path / "best", {})
        bundle = load_bundle(tmp_path / "best")
        clips = open_task(task)
        assert bundle.emotions == ("sad", "happy")
        assert bundle.probabilities(clips.corpus.waveforms.float32(int(clips.validation[0]))).shape == (2,)

    def test_before_the_first_epoch_there_is_nothing_to_export(
        self, configuration: Configuration, task: Task, tmp_path: Path
    ) -> None:
        trial = build(configuration("statistics_mlp"), task, seed=0, max_epochs=1)
        with pytest.raises(ValueError, match="no epoch was trained yet"):
            trial.export(tmp_path, {})


class TestLeaks:
    """What is measured on validation speakers was learnt from training labels, and from them alone."""

    def test_permuted_training_labels_give_chance(
        self, configuration: Configuration, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clips, scores = open_task(task), []
        for permutation in range(40):
            labels = clips.labels.copy()
            labels[clips.train] = np.random.default_rng(permutation).permutation(labels[clips.train])
            permuted = dataclasses.replace(clips, labels=labels)
            monkeypatch.setattr(frame_data, "open_task", lambda _, permuted=permuted: permuted)
            trial = build(configuration("statistics_mlp", learning_rate=1e-2), task, seed=permutation, max_epochs=3)
            scores.append(list(trial.trainer.run())[-1].val_uar)
        assert np.mean(scores) == pytest.approx(1 / 6, abs=0.05)

    def test_true_training_labels_give_more(self, configuration: Configuration, task: Task) -> None:
        trial = build(configuration("statistics_mlp", learning_rate=1e-2), task, seed=0, max_epochs=3)
        assert list(trial.trainer.run())[-1].val_uar > 0.5

    def test_the_scaler_knows_training_clips_alone(self, configuration: Configuration, task: Task) -> None:
        plan = read_plan(configuration("cnn"), num_classes=6, max_epochs=1)
        _, scaler = frame_data.cached_data(task, plan.inputs, batch_size=8)
        clips = open_task(task)
        features = frame_data.cached_features(task, plan.inputs.settings, 1)
        frames = np.concatenate([features[clip] for clip in clips.train]).astype(np.float64)[:, plan.inputs.columns]
        np.testing.assert_allclose(scaler.mean, frames.mean(axis=0), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(scaler.std, frames.std(axis=0), rtol=1e-3)


class TestTask:
    def test_it_survives_json(self, task: Task) -> None:
        import json

        assert Task.from_dict(json.loads(json.dumps(task.to_dict()))) == task

    def test_a_stored_task_of_another_version_is_refused(self, task: Task) -> None:
        with pytest.raises(UserError, match=r"A stored task holds the fields .*'colour'.*start the search in a new"):
            Task.from_dict({**task.to_dict(), "colour": "red"})

    @pytest.mark.parametrize("emotions", [(), ("sad",), ("sad", "sad")])
    def test_fewer_than_two_emotions_are_refused(self, emotions: tuple[str, ...], task: Task) -> None:
        with pytest.raises(UserError, match=r"Accepted are two different ones or more\. Name them with --emotions"):
            dataclasses.replace(task, emotions=emotions)

    def test_clips_of_other_emotions_are_left_out(self, task: Task) -> None:
        clips = open_task(dataclasses.replace(task, emotions=("sad", "happy")))
        assert set(clips.labels[clips.train]) == set(clips.labels[clips.validation]) == {0, 1}
        assert set(clips.corpus.clips["emotion"].to_numpy()[clips.train]) == {"happy", "sad"}
        assert not set(clips.speakers[clips.train]) & set(clips.speakers[clips.validation])

    def test_an_emotion_without_training_clips_is_named(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        corpus = task_clips.open_corpus(Path(task.corpus_folder))
        labels = corpus.labels()
        split = open_task(task).split
        parts = np.where((labels == 2) & (split.parts == "train"), "", split.parts)
        monkeypatch.setattr(task_clips, "resolve_split", lambda *_, **__: dataclasses.replace(split, parts=parts))
        with pytest.raises(UserError, match=r"'tfds' of .* has no training clips of fear\. .*Choose other --emotions"):
            open_task(dataclasses.replace(task, seed=77))


def test_a_trial_that_diverges_says_so(configuration: Configuration, task: Task) -> None:
    config = configuration("cnn", optimiser="sgd", learning_rate=1.0, spec_augment=False, **dict.fromkeys(
        ("time_masks", "time_mask_frames", "feature_masks", "feature_mask_width"), ...
    ))  # fmt: skip
    trial = build(config, task, seed=0, max_epochs=3)
    for parameter in trial.trainer.model.parameters():
        parameter.data.mul_(1e30)
    with pytest.raises(DivergedError, match="Epoch 1"):
        list(trial.trainer.run())
