"""The mel family: configurations are read to their last parameter, and the autoencoder keeps its two phases apart."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ser_data.errors import UserError
from ser_data.features.resident_frames import ResidentFrames
from ser_models import frame_data
from ser_models.bundle import load_bundle
from ser_models.config import ConfigError
from ser_models.mel.architecture import NETWORKS
from ser_models.mel.autoencoder import MelAutoencoder
from ser_models.mel.family import build, read_plan
from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.training import EpochResult, Trainer

_ALL: dict[str, Any] = {
    "num_mels": 32, "window_seconds": 0.064, "hop_seconds": 0.03, "rms_normalise": False, "max_clip_seconds": 1.4,
    "activation": "relu", "dropout": 0.1, "width": 4, "optimiser": "adamw", "learning_rate": 3e-3, "weight_decay": 0.01,
    "batch_size": 16, "schedule": "cosine", "label_smoothing": 0.1, "class_weights": False,
}  # fmt: skip
_CONVOLUTIONS: dict[str, Any] = {
    "channels": 1, "scaling": "corpus", "blocks": 2, "kernel_size": 3, "batch_norm": True, "pooling": "mean",
    "mixup_alpha": 0.0, "waveform_views": 0, "spec_augment": True, "time_masks": 1, "time_mask_frames": 8,
    "feature_masks": 1, "feature_mask_width": 3,
}  # fmt: skip
_OF_NETWORKS: dict[str, dict[str, Any]] = {
    "cnn": _CONVOLUTIONS,
    "parallel_cnn": _CONVOLUTIONS,
    "crnn": {**_CONVOLUTIONS, "hidden_units": 8, "recurrent_layers": 1},
    "autoencoder": {"bottleneck": 8, "reconstruction_epochs": 1, "then": "fine-tune", "head_lr": 3e-3},
}
# Another accepted value of every parameter.
OTHER_VALUES: dict[str, Any] = {
    "num_mels": 40, "window_seconds": 0.05, "hop_seconds": 0.025, "rms_normalise": True, "max_clip_seconds": 1.0,
    "activation": "elu", "dropout": 0.5, "width": 8, "optimiser": "rmsprop", "learning_rate": 1e-2, "weight_decay": 0.5,
    "batch_size": 12, "schedule": "constant", "label_smoothing": 0.0, "class_weights": True, "channels": 3,
    "scaling": "clip", "blocks": 1, "kernel_size": 5, "batch_norm": False, "pooling": "attention", "mixup_alpha": 0.4,
    "waveform_views": 1, "time_masks": 3, "time_mask_frames": 20, "feature_masks": 3, "feature_mask_width": 9,
    "hidden_units": 12, "recurrent_layers": 2, "bottleneck": 12, "reconstruction_epochs": 2, "then": "frozen",
    "head_lr": 1e-2,
}  # fmt: skip


def configuration(network: str, /, **changes: Any) -> dict[str, Any]:
    """A whole small configuration; a change to ... removes the parameter."""
    values = {**_ALL, "network": network, **_OF_NETWORKS[network], **changes}
    return {name: value for name, value in values.items() if value is not ...}


def results(config: dict[str, Any], task: Task, *, epochs: int = 2, seed: int = 0) -> list[EpochResult]:
    return list(build(config, task, seed=seed, max_epochs=epochs).trainer.run())


def losses(config: dict[str, Any], task: Task) -> list[float]:
    return [loss for result in results(config, task) for loss in (result.train_loss, result.val_loss)]


@pytest.mark.parametrize("network", NETWORKS)
def test_every_network_trains_and_reads_all_of_its_configuration(network: str, task: Task) -> None:
    trial = build(configuration(network), task, seed=0, max_epochs=2)
    assert trial.read_parameters == configuration(network)
    assert all(np.isfinite([result.train_loss, result.val_loss]).all() for result in trial.trainer.run())


@pytest.mark.parametrize("network", NETWORKS)
def test_changing_any_parameter_changes_the_training(network: str, task: Task) -> None:
    config = configuration(network)
    before = losses(config, task)
    assert before == losses(config, task)
    names = config.keys() - {"network", "spec_augment"}
    assert names <= OTHER_VALUES.keys()
    ignored = [name for name in names if losses({**config, name: OTHER_VALUES[name]}, task) == before]
    assert ignored == []
    if network != "autoencoder":
        masks = dict.fromkeys(("time_masks", "time_mask_frames", "feature_masks", "feature_mask_width"), ...)
        assert losses(configuration(network, spec_augment=False, **masks), task) != before


@pytest.mark.parametrize("network", NETWORKS)
def test_a_missing_parameter_is_an_error_by_name(network: str) -> None:
    for name in configuration(network):
        with pytest.raises(ConfigError, match=f"lacks '{name}'"):
            read_plan(configuration(network, **{name: ...}), num_classes=6, max_epochs=2)


@pytest.mark.parametrize(
    ("network", "extra"),
    [
        ("cnn", {"hidden_units": 8}),
        ("cnn", {"bottleneck": 8}),
        ("autoencoder", {"mixup_alpha": 0.2}),
        ("autoencoder", {"channels": 3}),
    ],
)
def test_a_parameter_that_the_network_does_not_have_is_an_error_by_name(network: str, extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"holds '{next(iter(extra))}', which this trial does not read"):
        read_plan(configuration(network, **extra), num_classes=6, max_epochs=2)


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ("cnn", {"channels": 2}, r"channels = 2\. Accepted is one of 1, 3"),
        ("cnn", {"scaling": "none"}, r"scaling = 'none'\. Accepted is one of 'clip', 'corpus'"),
        ("cnn", {"kernel_size": 4}, r"kernel_size = 4\. Accepted is one of 3, 5, 7"),
        ("cnn", {"mixup_alpha": -1.0}, r"mixup_alpha = -1\.0\. Accepted is a number from 0 to 2"),
        ("cnn", {"max_clip_seconds": 5.1}, r"max_clip_seconds = 5\.1\. Accepted is a number from 1 to 5"),
        ("cnn", {"blocks": 5}, r"num_mels = 32 and blocks = 5: 5 blocks need 64 bands.*Give more bands or fewer"),
        ("cnn", {"hop_seconds": 0.07}, r"hop_seconds = 0\.07 and window_seconds = 0\.064: .*Accepted is a hop up to"),
        ("autoencoder", {"hop_seconds": 0.1, "window_seconds": 0.1, "max_clip_seconds": 1.0}, r"32 bands and 10 fram.* "
         r"The autoencoder halves both sides four times: accepted are 16 and more each\. Give a larger max_clip_sec"),
        ("autoencoder", {"then": "thaw"}, r"then = 'thaw'\. Accepted is one of 'frozen', 'fine-tune'"),
    ],
)  # fmt: skip
def test_a_setting_that_cannot_work_is_an_error_that_says_the_way_out(
    network: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_plan(configuration(network, **changes), num_classes=6, max_epochs=2)


def test_bands_without_a_frequency_are_an_error_by_name(task: Task) -> None:
    config = configuration("cnn", num_mels=200, window_seconds=0.02, hop_seconds=0.02)
    with pytest.raises(UserError, match=r"num_mels=200 leaves \d+ bands without a frequency at window_seconds=0\.02"):
        build(config, task, seed=0, max_epochs=1, probe_clips=4)


@pytest.mark.parametrize(
    "config",
    [
        configuration("crnn", mixup_alpha=0.3, waveform_views=1),
        configuration("autoencoder", reconstruction_epochs=2),
        configuration("autoencoder", reconstruction_epochs=2, then="frozen"),
        configuration("autoencoder", reconstruction_epochs=1, then="frozen"),
    ],
    ids=["crnn with mixup", "fine-tune, cut between the phases", "frozen, cut between the phases", "frozen, cut in it"],
)
def test_a_resumed_trial_gives_the_numbers_of_an_uninterrupted_one(
    config: dict[str, Any], task: Task, tmp_path: Path
) -> None:
    def built() -> Trainer:
        return build(config, task, seed=5, max_epochs=4).trainer

    straight, first, second = built(), built(), built()
    expected = [(result.train_loss, result.val_loss, result.val_hits, result.extras) for result in straight.run()]
    steps = first.run()
    next(steps), next(steps)
    torch.save(first.state(), tmp_path / "state.pt")
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    list(second.run())
    assert [(r.train_loss, r.val_loss, r.val_hits, r.extras) for r in second.history] == expected
    for name, value in straight.model.state_dict().items():
        assert torch.equal(value, second.model.state_dict()[name]), name


@pytest.mark.parametrize("network", NETWORKS)
def test_the_bundle_gives_the_probabilities_of_the_best_epoch(network: str, task: Task, tmp_path: Path) -> None:
    for scaling in ("corpus", "clip") if network == "cnn" else (...,):
        changes = {"scaling": scaling} if network == "cnn" else {}
        trial = build(configuration(network, **changes), task, seed=0, max_epochs=3)
        predictions = {result.epoch: trial.trainer.predict_validation() for result in trial.trainer.run()}
        trial.export(tmp_path / "best", {"trial_id": "t3"})
        bundle = load_bundle(tmp_path / "best")
        assert (bundle.family, bundle.emotions) == ("mel", task.emotions)
        clips = open_task(task)
        again = [bundle.probabilities(clips.corpus.waveforms.float32(int(clip))) for clip in clips.validation]
        np.testing.assert_allclose(again, predictions[trial.trainer.best_epoch], atol=1e-5)


@pytest.mark.parametrize("views", [0, 1])
def test_frames_on_a_gpu_and_augmented_views_do_not_meet_in_a_batch(
    views: int, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = read_plan(configuration("cnn", waveform_views=views), num_classes=6, max_epochs=1).inputs
    used: list[ResidentFrames] = []

    def resident(task: Task, settings: Any, jobs: int) -> ResidentFrames:
        used.append(ResidentFrames.of(frame_data.cached_features(task, settings, jobs), "cpu"))
        return used[-1]

    monkeypatch.setattr(frame_data, "_resident", resident)
    data, _ = frame_data.cached_data(dataclasses.replace(task, device="cuda"), inputs, batch_size=8)
    batches = list(data.train.epoch(torch.Generator().manual_seed(0)))
    assert sum(len(batch.labels) for batch in batches) == len(open_task(task).train)
    assert len(used) == (0 if views else 1)


def test_two_emotions_are_judged_by_roc_auc_too(task: Task) -> None:
    two = dataclasses.replace(task, emotions=("happy", "sad"))
    trial = build(configuration("cnn"), two, seed=0, max_epochs=2)
    for result in trial.trainer.run():
        probabilities = trial.trainer.predict_validation()[:, 1]
        expected = roc_auc_score(trial.trainer.data.validation_labels, probabilities)
        assert result.extras == {"val_roc_auc": pytest.approx(expected)}
    assert results(configuration("cnn"), task)[0].extras == {}


class TestLeaks:
    @pytest.mark.parametrize("network", ["cnn", "autoencoder"])
    def test_permuted_training_labels_give_chance(
        self, network: str, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clips, scores = open_task(task), []
        for permutation in range(20):
            labels = clips.labels.copy()
            labels[clips.train] = np.random.default_rng(permutation).permutation(labels[clips.train])
            permuted = dataclasses.replace(clips, labels=labels)
            monkeypatch.setattr(frame_data, "open_task", lambda _, permuted=permuted: permuted)
            scores.append(results(configuration(network), task, seed=permutation)[-1].val_uar)
        assert np.mean(scores) == pytest.approx(1 / 6, abs=0.07)

    @pytest.mark.parametrize("network", ["cnn", "autoencoder"])
    def test_true_training_labels_give_more(self, network: str, task: Task) -> None:
        config = configuration(network, learning_rate=1e-2)
        assert max(result.val_uar for result in results(config, task, epochs=8)) > 0.45


class TestAutoencoder:
    def test_no_label_reaches_it_while_it_reconstructs(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        clips = open_task(task)
        encoders, heads = [], []
        for permutation in (None, 1):
            labels = clips.labels.copy()
            if permutation is not None:
                labels[clips.train] = np.random.default_rng(permutation).permutation(labels[clips.train])
            changed = dataclasses.replace(clips, labels=labels)
            monkeypatch.setattr(frame_data, "open_task", lambda _, changed=changed: changed)
            trial = build(configuration("autoencoder", reconstruction_epochs=2), task, seed=0, max_epochs=2)
            list(trial.trainer.run())
            state = trial.trainer.model.state_dict()
            encoders.append({name: value for name, value in state.items() if not name.startswith("head.")})
            heads.append(state["head.layers.2.weight"])
        assert encoders[0].keys() == encoders[1].keys()
        assert all(torch.equal(encoders[0][name], encoders[1][name]) for name in encoders[0])
        assert not torch.equal(*heads)

    def test_its_error_is_reported_as_long_as_it_reconstructs_and_falls(self, task: Task) -> None:
        config = configuration("autoencoder", reconstruction_epochs=6, learning_rate=3e-3, schedule="constant")
        found = results(config, task, epochs=8)
        errors = [result.extras.get("val_reconstruction") for result in found]
        assert all(result.extras.keys() == {"train_reconstruction", "val_reconstruction"} for result in found[:6])
        assert errors[6:] == [None, None]
        assert errors[5] < 0.7 * errors[0]

    @pytest.mark.parametrize("then", ["frozen", "fine-tune"])
    def test_frozen_its_encoder_stays_and_fine_tuned_it_does_not(self, then: str, task: Task) -> None:
        trainer = build(configuration("autoencoder", then=then), task, seed=0, max_epochs=3).trainer
        epochs = trainer.run()
        next(epochs)
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        list(epochs)
        moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
        assert any(name.startswith("head.") for name in moved)
        assert any(name.startswith("down.") for name in moved) == (then == "fine-tune")
        assert not any(name.startswith(("up.", "from_bottleneck.")) for name in moved)

    def test_frozen_bottlenecks_are_computed_once(self, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        trainer = build(configuration("autoencoder", then="frozen"), task, seed=0, max_epochs=5).trainer
        encoded: list[int] = []
        encode = MelAutoencoder.encode
        monkeypatch.setattr(
            MelAutoencoder, "encode", lambda self, pictures: (encoded.append(len(pictures)), encode(self, pictures))[1]
        )
        epochs = trainer.run()
        next(epochs)
        encoded.clear()
        list(epochs)
        clips = open_task(task)
        assert sum(encoded) == len(clips.train) + len(clips.validation)

    def test_pictures_of_reconstructions_lie_in_its_bundle(self, task: Task, tmp_path: Path) -> None:
        for then in ("frozen", "fine-tune"):
            trial = build(configuration("autoencoder", then=then), task, seed=0, max_epochs=3)
            list(trial.trainer.run())
            trial.export(tmp_path / then, {})
            content = (tmp_path / then / "reconstructions.png").read_bytes()
            assert content.startswith(b"\x89PNG")
            assert len(content) > 5_000

    def test_what_lies_behind_a_clip_counts_for_nothing(self) -> None:
        network = MelAutoencoder(16, 3, num_frames=32, width=4, bottleneck=4, activation="relu", dropout=0.0)
        pictures, made = torch.rand(2, 1, 16, 32), torch.rand(2, 1, 16, 32)
        lengths = torch.tensor([32, 10])
        expected = [(made[0] - pictures[0]).square().mean(), (made[1] - pictures[1])[..., :10].square().mean()]
        torch.testing.assert_close(network._error(made, pictures, lengths), torch.stack(expected))

    def test_a_clip_is_cut_or_continued_with_its_lowest_value(self) -> None:
        network = MelAutoencoder(16, 3, num_frames=32, width=4, bottleneck=4, activation="relu", dropout=0.0)
        for frames in (20, 32, 50):
            picture = network.pictures(torch.ones(1, frames, 16))
            assert picture.shape == (1, 1, 16, 32)
            assert picture[..., :frames].eq(1).all()
            assert picture[..., frames:].eq(0).all()
