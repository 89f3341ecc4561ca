"""Trials of image backbones: built from a configuration, trained on cached prefixes, exported as they were trained."""

import dataclasses
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from ser_data.rows_file import SUFFIX
from ser_models.backbones import data as backbone_data
from ser_models.backbones.family import build, cached_bytes, prepare
from ser_models.backbones.images import CHANNELS, ImageRecipe
from ser_models.backbones.loading import load_backbone
from ser_models.backbones.model import BackboneClassifier
from ser_models.backbones.plan import BATCH_NORMS, read_plan
from ser_models.backbones.prefix import POOLED, PrefixPass
from ser_models.backbones.probe import linear_probe
from ser_models.backbones.source import BACKBONE_TYPES, find_backbone
from ser_models.bundle import BundleError, load_bundle, save_bundle
from ser_models.config import ConfigError
from ser_models.prefix_cache import Ragged
from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.training import Trainer
from ser_models.trial import COST, Trial

NUM_STAGES = 3  # of tiny
DEPTHS = range(NUM_STAGES + 2)
_ALWAYS: dict[str, Any] = {
    "num_mels": 32,
    "max_clip_seconds": 1.2,
    "channels": 1,
    "image_size": "native",
    "head_layers": 1,
    "head_units": 16,
    "dropout": 0.1,
    "epochs": 3,
    "batch_size": 16,
    "accumulation": 1,
    "head_lr": 3e-3,
    "weight_decay": 0.01,
    "schedule": "cosine",
    "warmup_share": 0.1,
    "label_smoothing": 0.1,
    "class_weights": True,
    "mixup_alpha": 0.0,
    "clip_norm": 5.0,
}
_TRAINED: dict[str, Any] = {"backbone_lr": 1e-2, "batch_norm": "trained", "mask_at": "none"}
_MASKS: dict[str, Any] = {"time_masks": 1, "time_mask_frames": 8, "feature_masks": 1, "feature_mask_width": 6}


def configuration(depth: int, **changes: Any) -> dict[str, Any]:
    """A whole configuration; a change to ... removes the parameter."""
    values = {**_ALWAYS, "unfreeze_depth": depth}
    if depth:
        values |= _TRAINED
    if depth > 1:
        values["layer_decay"] = 0.8
    if changes.get("mask_at") == "input":
        values |= _MASKS
    return {name: value for name, value in {**values, **changes}.items() if value is not ...}


@pytest.fixture
def backbone_task(task: Task) -> Task:
    return of_type(task, "resnet")


def of_type(task: Task, model_type: str) -> Task:
    """The task with a tiny backbone of this type, all in float32."""
    spec = find_backbone("tiny", types=(model_type,)).spec
    return dataclasses.replace(task, encoder=spec, precision="fp32", cache_precision="fp32")


def built(config: dict[str, Any], task: Task, **changes: Any) -> Trial:
    return build(config, task, **{"seed": 0, "max_epochs": 1, **changes})


def recipe_of(config: dict[str, Any]) -> ImageRecipe:
    return read_plan(config, num_stages=NUM_STAGES, max_epochs=1).recipe


def numbers(trainer: Trainer) -> list[Any]:
    return [(result.train_loss, result.val_loss, result.val_hits) for result in trainer.history]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of clips of each batch that runs through the frozen stages."""
    sizes: list[int] = []
    compute = PrefixPass.compute

    def counted(self: PrefixPass, clips: np.ndarray, names: Sequence[str]) -> Any:
        sizes.append(len(clips))
        return compute(self, clips, names)

    monkeypatch.setattr(PrefixPass, "compute", counted)
    return sizes


class TestBuild:
    @pytest.mark.parametrize("depth", DEPTHS)
    @pytest.mark.parametrize("model_type", BACKBONE_TYPES)
    def test_every_depth_trains_and_reads_all_of_its_configuration(
        self, model_type: str, depth: int, task: Task
    ) -> None:
        config = configuration(depth)
        trial = built(config, of_type(task, model_type))
        assert trial.read_parameters == config
        result = next(trial.trainer.run())
        assert np.isfinite([result.train_loss, result.val_loss]).all()
        boundary = "pooled maps" if depth == 0 else "image" if depth > NUM_STAGES else f"map {NUM_STAGES - depth}"
        assert trial.facts["boundary"] == boundary

    @pytest.mark.parametrize("batch_norm", BATCH_NORMS)
    @pytest.mark.parametrize("channels", CHANNELS)
    @pytest.mark.parametrize("image_size", ["native", 40])
    def test_every_kind_of_image_and_norm_trains(
        self, image_size: str | int, channels: int, batch_norm: str, backbone_task: Task
    ) -> None:
        config = configuration(
            2, image_size=image_size, channels=channels, batch_norm=batch_norm, mask_at="input", schedule="linear"
        )
        trial = built(config, backbone_task, probe_clips=6)
        assert trial.read_parameters == config
        result = next(trial.trainer.run())
        assert np.isfinite([result.train_loss, result.val_loss]).all()

    def test_facts_name_what_is_trained(self, backbone_task: Task) -> None:
        backbone = load_backbone(backbone_task.encoder)
        frozen, top, all_of_it = (built(configuration(depth), backbone_task) for depth in (0, 1, 4))
        trained = [int(trial.facts["trained_parameters"]) for trial in (frozen, top, all_of_it)]
        assert trained[1] - trained[0] == sum(tensor.numel() for tensor in backbone.stages[-1].parameters())
        assert trained[2] - trained[0] == sum(tensor.numel() for tensor in backbone.parameters())
        assert frozen.num_parameters == top.num_parameters == trained[2]  # what predicts is the whole of it
        assert frozen.facts[COST] == top.facts[COST] > 0

    @pytest.mark.parametrize("config", [configuration(0), configuration(2), configuration(4, mask_at="input")])
    def test_a_missing_parameter_is_an_error_by_name(self, config: dict[str, Any]) -> None:
        for name in config:
            with pytest.raises(ConfigError, match=f"lacks '{name}'"):
                read_plan({key: value for key, value in config.items() if key != name}, num_stages=3, max_epochs=1)

    @pytest.mark.parametrize(
        ("depth", "extra"),
        [
            (0, {"backbone_lr": 1e-4}),
            (0, {"batch_norm": "frozen"}),
            (0, {"mask_at": "none"}),
            (0, {"layer_decay": 0.9}),
            (1, {"layer_decay": 0.9}),
            (1, {"time_masks": 2}),
            (2, {"colour": "red"}),
        ],
    )
    def test_a_parameter_that_nothing_reads_is_an_error_by_name(self, depth: int, extra: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=f"holds '{next(iter(extra))}', which this trial does not read"):
            read_plan(configuration(depth, **extra), num_stages=3, max_epochs=1)

    def test_a_depth_below_the_stem_is_an_error(self, backbone_task: Task) -> None:
        with pytest.raises(ConfigError, match=f"unfreeze_depth = 5. Accepted is .*from 0 to {NUM_STAGES + 1}"):
            built(configuration(5), backbone_task)

    @pytest.mark.parametrize("size", [8, 2000, "large", 32.5, True])
    def test_an_image_size_that_is_none_is_an_error(self, size: Any) -> None:
        with pytest.raises(ConfigError, match=rf"image_size = {re.escape(repr(size))}. Accepted is 'native'"):
            read_plan(configuration(0, image_size=size), num_stages=3, max_epochs=1)

    @pytest.mark.parametrize("call", [build, prepare])
    def test_an_image_smaller_than_the_networks_stride_is_an_error_by_name(
        self, call: Any, backbone_task: Task
    ) -> None:
        config = configuration(0, max_clip_seconds=0.3)
        message = r"Images of 32 × 13 pixels .num_mels × frames.*total stride of the backbone tiny.*, 16 pixels.*Take"
        with pytest.raises(ConfigError, match=message):
            if call is build:
                built(config, backbone_task, probe_clips=3)
            else:
                prepare([config], backbone_task, progress=lambda *_: None)

    def test_an_image_of_the_strides_size_is_accepted(self, backbone_task: Task) -> None:
        trial = built(configuration(1, image_size=16), backbone_task, probe_clips=6)
        assert np.isfinite(next(trial.trainer.run()).train_loss)


class TestPrepare:
    CONFIGS = tuple(configuration(depth) for depth in DEPTHS)

    def test_it_fills_the_cache_in_one_pass_so_that_trials_compute_nothing(
        self, backbone_task: Task, tmp_path: Path, computed: list[int]
    ) -> None:
        task = dataclasses.replace(backbone_task, cache_dir=str(tmp_path / "cache"))
        told: list[tuple[str, int, int]] = []
        (baseline,) = prepare(self.CONFIGS, task, progress=lambda *progress: told.append(progress))
        num_clips = len(open_task(task).corpus.waveforms)
        assert sum(computed) == num_clips
        assert ("frozen stages", num_clips, num_clips) in told
        assert baseline.name == "linear probe"
        computed.clear()
        for config in self.CONFIGS:
            built(config, task)
        prepare(self.CONFIGS, task, progress=lambda *_: None)
        assert computed == []
        files = list((Path(task.cache_dir) / "prefixes").glob(f"*{SUFFIX}"))
        heads = sum(file.stat().st_size for file in files) - cached_bytes(self.CONFIGS, task)
        assert 0 < heads < 10_000 * len(files)

    def test_each_kind_of_image_has_a_pass_and_a_name_for_it(
        self, backbone_task: Task, tmp_path: Path, computed: list[int]
    ) -> None:
        task = dataclasses.replace(backbone_task, cache_dir=str(tmp_path / "cache"))
        told: list[tuple[str, int, int]] = []
        configs = [configuration(0, channels=channels) for channels in CHANNELS]
        prepare(configs, task, progress=lambda *progress: told.append(progress))
        num_clips = len(open_task(task).corpus.waveforms)
        assert sum(computed) == 2 * num_clips
        assert ("frozen stages (images 2 of 2)", num_clips, num_clips) in told
        first, second = (
            backbone_data.cached_prefixes(task, recipe_of(config), (POOLED,))[POOLED].values for config in configs
        )
        assert not torch.allclose(first, second, atol=1e-3)

    def test_the_backbone_is_on_the_tasks_device_when_it_runs(
        self, backbone_task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places: list[str] = []
        backbone = load_backbone(backbone_task.encoder)
        moved = backbone.to

        def recorded(place: Any) -> Any:
            places.append(str(place))
            return moved("cpu")

        monkeypatch.setattr(backbone, "to", recorded)
        backbone_data._weights_hash.cache_clear()
        monkeypatch.setattr(backbone_data, "resolve_precision", lambda *_: "fp32")
        monkeypatch.setattr(backbone_data, "cached_features", lambda *_: None)
        backbone_data.prefix_source(dataclasses.replace(backbone_task, device="cuda"), recipe_of(configuration(0)))
        assert places[-1] == "cuda"  # though its weights are hashed on the CPU

    def test_the_probe_scores_what_a_scikit_learn_pipeline_scores(self, backbone_task: Task) -> None:
        clips, recipe = open_task(backbone_task), recipe_of(configuration(0))
        pooled = backbone_data.cached_prefixes(backbone_task, recipe, (POOLED,))[POOLED].values.double().numpy()
        oracle = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000, class_weight="balanced"))
        oracle.fit(pooled[clips.train], clips.labels[clips.train])
        expected = balanced_accuracy_score(clips.labels[clips.validation], oracle.predict(pooled[clips.validation]))
        assert linear_probe(backbone_task, recipe).report["val_uar"] == pytest.approx(expected)


class TestTraining:
    @pytest.mark.parametrize("depth", DEPTHS)
    def test_frozen_stages_stay_as_they_were_and_trained_ones_move(self, depth: int, backbone_task: Task) -> None:
        trial = built(configuration(depth), backbone_task)
        model = trial.trainer.model
        assert isinstance(model, BackboneClassifier)
        before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
        started = {name: tensor.clone() for name, tensor in model.named_parameters()}
        list(trial.trainer.run())
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
        assert {name for name, tensor in model.named_parameters() if torch.equal(tensor, started[name])} == set()
        parts = {".".join(name.split(".")[:2]) for name in started if not name.startswith("head.")}
        stages = {f"stages.{number}" for number in range(min(depth, NUM_STAGES))}
        assert parts == stages | ({"stem.embedder"} if depth > NUM_STAGES else set())

    @pytest.mark.parametrize("batch_norm", BATCH_NORMS)
    def test_batch_norms_of_trained_stages_stand_still_or_move_as_asked(
        self, batch_norm: str, backbone_task: Task
    ) -> None:
        trial = built(configuration(2, batch_norm=batch_norm), backbone_task)
        model = trial.trainer.model
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        started = [{name: tensor.clone() for name, tensor in norm.state_dict().items()} for norm in norms]
        list(trial.trainer.run())
        model.train()
        assert norms
        for norm, before in zip(norms, started, strict=True):
            moved = {name for name, tensor in norm.state_dict().items() if not torch.equal(tensor, before[name])}
            expected = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
            assert moved == (expected if batch_norm == "trained" else set())
            assert norm.training == (batch_norm == "trained")
        assert model.head.classifier.training

    def test_an_efficientnets_statistics_follow_more_than_the_last_batch(self, task: Task) -> None:
        model = built(configuration(4), of_type(task, "efficientnet")).trainer.model
        assert {module.momentum for module in model.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}

    def test_the_backbone_is_in_eval_mode_while_the_rest_trains(self, backbone_task: Task) -> None:
        model = built(configuration(1, mask_at="input"), backbone_task).trainer.model.train()
        assert isinstance(model, BackboneClassifier)
        assert not any(module.training for module in model.backbone.modules())
        assert all(module.training for module in model.stages.modules())

    def test_head_and_stages_have_rates_of_their_own(self, backbone_task: Task) -> None:
        trial = built(configuration(4, schedule="constant", warmup_share=0.0), backbone_task)
        rates = next(trial.trainer.run()).learning_rates
        expected = {"head": 3e-3, **{f"layer.{number}": 1e-2 * 0.8 ** (3 - number) for number in range(4)}}
        assert rates == pytest.approx(expected)

    @pytest.mark.parametrize("depth", [0, 1, 4])
    def test_a_trainings_state_holds_no_frozen_weights(self, depth: int, backbone_task: Task) -> None:
        trial = built(configuration(depth), backbone_task)
        next(trial.trainer.run())
        kinds = {name.split(".")[0] for name in trial.trainer.state()["model"]}
        assert kinds == {0: {"head"}, 1: {"head", "stages"}, 4: {"head", "stages", "stem"}}[depth]

    @pytest.mark.parametrize("config", [configuration(0), configuration(2), configuration(4, mask_at="input")])
    def test_one_seed_gives_one_training_and_another_seed_another(
        self, config: dict[str, Any], backbone_task: Task
    ) -> None:
        trials = [built(config, backbone_task, seed=seed) for seed in (0, 0, 1)]
        first, second, other = ([*trial.trainer.run(), numbers(trial.trainer)][-1] for trial in trials)
        assert first == second
        assert first != other

    @pytest.mark.parametrize("config", [configuration(0), configuration(2), configuration(4, mask_at="input")])
    def test_a_resumed_training_gives_the_numbers_of_an_uninterrupted_one(
        self, config: dict[str, Any], backbone_task: Task, tmp_path: Path
    ) -> None:
        straight, first, second = (built(config, backbone_task, max_epochs=2).trainer for _ in range(3))
        list(straight.run())
        next(first.run())
        torch.save(first.state(), tmp_path / "state.pt")
        second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        list(second.run())
        assert numbers(second) == numbers(straight)
        for name, tensor in straight.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[name], tensor), name

    @pytest.mark.parametrize("depth", [0, 1, 4])
    def test_mixup_averages_what_a_trial_reads(self, depth: int, backbone_task: Task) -> None:
        plain, mixed = (built(configuration(depth, mixup_alpha=alpha), backbone_task).trainer for alpha in (0.0, 0.4))
        first, other = next(plain.run()), next(mixed.run())
        assert np.isfinite(other.train_loss)
        assert other.train_loss != first.train_loss

    def test_maps_stored_in_bfloat16_train_too(self, backbone_task: Task) -> None:
        trial = built(configuration(1), dataclasses.replace(backbone_task, cache_precision="bf16"))
        (batch, *_) = trial.trainer.data.train.epoch(torch.Generator().manual_seed(0))
        assert batch.arguments[0].dtype == torch.bfloat16
        assert np.isfinite(next(trial.trainer.run()).train_loss)


class TestNorm:
    @pytest.mark.parametrize("depth", [0, 1])
    def test_the_head_is_normed_by_training_clips_alone(self, depth: int, backbone_task: Task) -> None:
        head = built(configuration(depth), backbone_task).trainer.model.head
        pooled = backbone_data.cached_prefixes(backbone_task, recipe_of(configuration(1)), (POOLED,))[POOLED].values
        vectors = pooled[open_task(backbone_task).train].double()
        deviation = vectors.std(dim=0, correction=0)
        moving = deviation > 0.1 * deviation.mean()
        assert 8 < moving.sum() < len(moving)
        torch.testing.assert_close(head.shift, vectors.mean(dim=0).float())
        torch.testing.assert_close(head.scale[moving], (1 / deviation[moving]).float())

    def test_a_column_that_hardly_moves_is_not_blown_up_where_stages_are_trained(self) -> None:
        values = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 0.0, 1e-3])
        pooled, clips = Ragged(np.arange(51), values), np.arange(50)
        assert backbone_data.vector_norm(pooled, clips, least_share=0.1).scale.max() < 25
        standardised = backbone_data.vector_norm(pooled, clips, least_share=0.0).scale
        torch.testing.assert_close(standardised[3], 1 / values[:, 3].std(correction=0))


class TestLeaks:
    """What is measured on validation speakers was learnt from training labels, and from them alone."""

    CONFIG = configuration(0, head_lr=1e-2, dropout=0.0, channels=3)

    def test_permuted_training_labels_give_chance(self, backbone_task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
        clips, scores = open_task(backbone_task), []
        for permutation in range(40):
            labels = clips.labels.copy()
            labels[clips.train] = np.random.default_rng(permutation).permutation(labels[clips.train])
            permuted = dataclasses.replace(clips, labels=labels)
            monkeypatch.setattr(backbone_data, "open_task", lambda _, permuted=permuted: permuted)
            trial = built(self.CONFIG, backbone_task, seed=permutation, max_epochs=5)
            scores.append(list(trial.trainer.run())[-1].val_uar)
        assert np.mean(scores) == pytest.approx(1 / 6, abs=0.05)

    def test_true_training_labels_give_more(self, backbone_task: Task) -> None:
        trial = built(self.CONFIG, backbone_task, max_epochs=5)
        assert list(trial.trainer.run())[-1].val_uar > 0.4

    def test_two_emotions_are_a_task_of_two(self, backbone_task: Task) -> None:
        task = dataclasses.replace(backbone_task, emotions=("happy", "sad"))
        trial = built(configuration(1), task)
        next(trial.trainer.run())
        assert trial.trainer.predict_validation().shape == (4, 2)


class TestProbeOfASpace:
    def test_it_trains_on_few_clips_and_leaves_the_cache_alone(self, backbone_task: Task, tmp_path: Path) -> None:
        task = dataclasses.replace(backbone_task, cache_dir=str(tmp_path / "cache"))
        for config in (configuration(0), configuration(2), configuration(4, mask_at="input")):
            trial = built(config, task, probe_clips=3)
            result = next(trial.trainer.run())
            assert trial.trainer.val_totals.sum() == 3
            assert np.isfinite(result.train_loss)
        assert not (tmp_path / "cache").exists()


class TestBundle:
    @pytest.mark.parametrize(
        "config",
        [
            *(configuration(depth) for depth in DEPTHS),
            configuration(0, channels=3, image_size=48, head_layers=0, head_units=...),
            configuration(1, batch_norm="frozen", channels=3),
            configuration(2, mask_at="input", max_clip_seconds=1.0),
        ],
        ids=lambda config: "-".join(
            str(config.get(n)) for n in ("unfreeze_depth", "channels", "image_size", "mask_at")
        ),
    )
    def test_a_moved_bundle_predicts_as_the_best_epoch_did(
        self, config: dict[str, Any], backbone_task: Task, tmp_path: Path
    ) -> None:
        self.assert_it_does(config, backbone_task, tmp_path)

    @pytest.mark.parametrize("depth", [0, 1, 4])
    def test_that_of_an_efficientnet_too(self, depth: int, task: Task, tmp_path: Path) -> None:
        self.assert_it_does(configuration(depth), of_type(task, "efficientnet"), tmp_path)

    def assert_it_does(self, config: dict[str, Any], task: Task, folder: Path) -> None:
        trial = built({**config, "batch_size": 34}, task, max_epochs=2)
        predictions = {}
        for result in trial.trainer.run():
            predictions[result.epoch] = trial.trainer.predict_validation()
        trial.export(folder / "best", {"trial_id": "t1"})
        shutil.move(folder / "best", folder / "moved")
        load_backbone.cache_clear()
        bundle, clips = load_bundle(folder / "moved"), open_task(task)
        found = np.stack([bundle.probabilities(clips.corpus.waveforms.float32(int(clip))) for clip in clips.validation])
        expected = predictions[trial.trainer.best_epoch]
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.ptp(expected, axis=0).max() > 1e-3  # clips that all look alike would show nothing
        assert (bundle.family, bundle.emotions) == ("mel_backbones", task.emotions)
        assert bundle.provenance["trial_id"] == "t1"

    def test_one_that_lacks_a_frozen_weight_is_refused_by_name(self, backbone_task: Task, tmp_path: Path) -> None:
        trial = built(configuration(1), backbone_task)
        next(trial.trainer.run())
        trial.export(tmp_path, {})
        bundle = load_bundle(tmp_path)
        tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
        lost = "backbone.model.embedder.embedder.convolution.weight"
        del tensors[lost]
        save_bundle(
            tmp_path / "torn",
            family="mel_backbones",
            emotions=bundle.emotions,
            description=bundle.description,
            tensors=tensors,
            provenance={},
        )
        with pytest.raises(BundleError, match=f"lacks weights of the backbone: {lost.removeprefix('backbone.')}"):
            load_bundle(tmp_path / "torn")
