"""Trials of encoders: built from a configuration, trained on cached prefixes, and exported as they were trained."""

import dataclasses
import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from ser_data.rows_file import SUFFIX
from ser_models.bundle import load_bundle
from ser_models.config import ConfigError
from ser_models.encoders import data as encoder_data
from ser_models.encoders.family import build, cached_bytes, prepare
from ser_models.encoders.loading import load_encoder
from ser_models.encoders.model import EncoderClassifier
from ser_models.encoders.plan import INPUT, LAYER_MIXES, POOLINGS, read_plan
from ser_models.encoders.prefix import POOLED, PrefixPass
from ser_models.encoders.source import ENCODER_TYPES, find_encoder
from ser_models.task import Task
from ser_models.task_clips import open_task
from ser_models.training import Trainer
from ser_models.trial import COST, Trial

NUM_LAYERS = 2  # of tiny
_ALWAYS: dict[str, Any] = {
    "mask_at": "boundary",
    "max_clip_seconds": 4.0,
    "head_layers": 1,
    "head_units": 16,
    "layer_mix": "weighted",
    "pooling": "mean",
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
    "clip_norm": 5.0,
}
_TRAINED: dict[str, Any] = {
    "adapt": "unfreeze",
    "backbone_lr": 1e-3,
    "unfreeze_at_epoch": 1,
    "gradient_checkpointing": False,
}
_MASKS: dict[str, Any] = {
    "spec_augment": True,
    "mask_time_prob": 0.2,
    "mask_time_length": 4,
    "mask_feature_prob": 0.1,
    "mask_feature_length": 4,
}
LORA = {"adapt": "lora", "lora_rank": 2, "lora_alpha": 8.0, "lora_dropout": 0.1}
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="peft is not installed: adapters of low rank need it"
)


def configuration(depth: int, **changes: Any) -> dict[str, Any]:
    """A whole configuration; a change to ... removes the parameter."""
    values = {**_ALWAYS, "unfreeze_depth": depth}
    if depth:
        values |= _TRAINED
    if depth > 1:
        values["layer_decay"] = 0.8
    if depth or changes.get("mask_at") == INPUT:
        values |= _MASKS
    return {name: value for name, value in {**values, **changes}.items() if value is not ...}


@pytest.fixture
def encoder_task(task: Task) -> Task:
    return of_type(task, "wav2vec2")


def of_type(task: Task, model_type: str) -> Task:
    """The task with a tiny encoder of this type, all in float32."""
    spec = find_encoder("tiny", types=(model_type,)).spec
    return dataclasses.replace(task, encoder=spec, precision="fp32", cache_precision="fp32")


def built(config: dict[str, Any], task: Task, **changes: Any) -> Trial:
    return build(config, task, **{"seed": 0, "max_epochs": 1, **changes})


def numbers(trainer: Trainer) -> list[Any]:
    return [(result.train_loss, result.val_loss, result.val_hits) for result in trainer.history]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of clips of each batch that runs through the frozen layers."""
    sizes: list[int] = []
    compute = PrefixPass.compute

    def counted(self: PrefixPass, clips: np.ndarray, names: Sequence[str]) -> Any:
        sizes.append(len(clips))
        return compute(self, clips, names)

    monkeypatch.setattr(PrefixPass, "compute", counted)
    return sizes


class TestBuild:
    @pytest.mark.parametrize("depth", range(NUM_LAYERS + 1))
    @pytest.mark.parametrize("pooling", POOLINGS)
    @pytest.mark.parametrize("layer_mix", LAYER_MIXES)
    def test_every_mix_pooling_and_depth_trains_and_reads_all_of_its_configuration(
        self, layer_mix: str, pooling: str, depth: int, encoder_task: Task
    ) -> None:
        config = configuration(depth, layer_mix=layer_mix, pooling=pooling, batch_size=34)
        trial = built(config, encoder_task)
        assert trial.read_parameters == config
        result = next(trial.trainer.run())
        assert np.isfinite([result.train_loss, result.val_loss]).all()

    @pytest.mark.parametrize("mask_at", ["boundary", INPUT])
    @pytest.mark.parametrize("model_type", ENCODER_TYPES)
    def test_every_type_trains_with_masks_in_both_places(self, model_type: str, mask_at: str, task: Task) -> None:
        trial = built(configuration(1, mask_at=mask_at), of_type(task, model_type), probe_clips=4)
        result = next(trial.trainer.run())
        assert np.isfinite([result.train_loss, result.val_loss]).all()
        assert trial.facts["boundary"] == ("input" if mask_at == INPUT else "layer 1")

    def test_facts_name_what_is_trained(self, encoder_task: Task) -> None:
        encoder = load_encoder(encoder_task.encoder)
        frozen, top = (built(configuration(depth), encoder_task) for depth in (0, 1))
        of_layer = sum(parameter.numel() for parameter in encoder.layers[1].parameters())
        trained = [int(trial.facts["trained_parameters"]) for trial in (frozen, top)]
        assert trained[1] - trained[0] == of_layer
        assert frozen.num_parameters == top.num_parameters  # what predicts is the whole of it
        assert frozen.facts["precision"] == "fp32"
        assert frozen.facts[COST] == top.facts[COST] > 0  # and so costs the same

    def test_reading_less_of_long_clips_costs_less(self, encoder_task: Task) -> None:
        costs = [built(configuration(0, max_clip_seconds=seconds), encoder_task).facts[COST] for seconds in (1.5, 3.0)]
        assert costs[0] == pytest.approx(float(costs[1]) / 2, rel=0.1)

    def test_a_depth_above_the_encoders_layers_is_an_error_that_names_them(self, encoder_task: Task) -> None:
        with pytest.raises(ConfigError, match=f"unfreeze_depth = 3. Accepted is .*from 0 to {NUM_LAYERS}"):
            built(configuration(3), encoder_task)

    @pytest.mark.parametrize("config", [configuration(0), configuration(2), configuration(0, mask_at=INPUT)])
    def test_a_missing_parameter_is_an_error_by_name(self, config: dict[str, Any]) -> None:
        for name in config:
            with pytest.raises(ConfigError, match=f"lacks '{name}'"):
                read_plan({key: value for key, value in config.items() if key != name}, num_layers=2, max_epochs=1)

    @pytest.mark.parametrize(
        ("depth", "extra"),
        [
            (0, {"adapt": "unfreeze"}),
            (0, {"backbone_lr": 1e-4}),
            (0, {"layer_decay": 0.9}),
            (0, {"spec_augment": False}),
            (0, {"unfreeze_at_epoch": 2}),
            (0, {"gradient_checkpointing": True}),
            (1, {"layer_decay": 0.9}),
            (1, {"lora_rank": 4}),
            (2, {"colour": "red"}),
        ],
    )
    def test_a_parameter_that_nothing_reads_is_an_error_by_name(self, depth: int, extra: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=f"holds '{next(iter(extra))}', which this trial does not read"):
            read_plan(configuration(depth, **extra), num_layers=2, max_epochs=1)

    def test_masks_that_are_off_take_no_parameters(self) -> None:
        with pytest.raises(ConfigError, match="holds 'mask_time_prob', 'mask_time_length'"):
            read_plan(configuration(1, spec_augment=False), num_layers=2, max_epochs=1)


class TestPrepare:
    CONFIGS = (
        configuration(0),
        configuration(1),
        configuration(2, pooling="attention"),
        configuration(1, mask_at=INPUT),
        configuration(1, max_clip_seconds=3.0),
    )

    def test_it_fills_the_cache_so_that_trials_compute_nothing(
        self, encoder_task: Task, tmp_path: Path, computed: list[int]
    ) -> None:
        task = dataclasses.replace(encoder_task, cache_dir=str(tmp_path / "cache"))
        told: list[tuple[str, int, int]] = []
        (baseline,) = prepare(self.CONFIGS, task, progress=lambda *progress: told.append(progress))
        num_clips = len(open_task(task).corpus.waveforms)
        assert sum(computed) == num_clips  # one pass: no clip is longer than 3 s
        assert ("frozen layers", num_clips, num_clips) in told
        assert baseline.name == "linear probe"
        assert 0 <= baseline.report["val_uar"] <= 1
        computed.clear()
        for config in self.CONFIGS:
            built(config, task)
        prepare(self.CONFIGS, task, progress=lambda *_: None)
        assert computed == []

    def test_a_shorter_duration_computes_only_the_clips_that_it_cuts(
        self, encoder_task: Task, tmp_path: Path, computed: list[int]
    ) -> None:
        task = dataclasses.replace(encoder_task, cache_dir=str(tmp_path / "cache"))
        num_samples = open_task(task).corpus.waveforms.num_samples
        cut = num_samples > 1.3 * 16_000
        assert 0 < cut.sum() < len(cut)
        built(configuration(1), task)
        assert sum(computed) == len(cut)
        computed.clear()
        built(configuration(1, max_clip_seconds=1.3), task)
        assert sum(computed) == cut.sum()
        computed.clear()
        built(configuration(1, max_clip_seconds=3.0), task)
        assert computed == []
        configs = [configuration(1, max_clip_seconds=seconds) for seconds in (1.3, 3.0)]
        files = (Path(task.cache_dir) / "prefixes").glob(f"*{SUFFIX}")
        assert cached_bytes(configs, task) == sum(file.stat().st_size for file in files)

    def test_cut_clips_are_those_of_a_cut_corpus_and_the_others_whole(self, encoder_task: Task) -> None:
        names = (POOLED, "layer-1")
        whole = encoder_data.cached_rows(encoder_task, names, 4.0)
        cut = encoder_data.cached_rows(encoder_task, names, 1.3)
        waveforms, encoder = open_task(encoder_task).corpus.waveforms, load_encoder(encoder_task.encoder)
        clips = np.arange(len(waveforms))
        expected = encoder.hidden_frames(
            encoder.maskable_frames(np.minimum(waveforms.num_samples, round(1.3 * 16_000)))
        )
        assert (cut["layer-1"].lengths(clips) == expected).all()
        is_cut = waveforms.num_samples > 1.3 * 16_000
        same = torch.tensor([torch.equal(cut["layer-1"].item(i), whole["layer-1"].item(i)) for i in clips])
        assert (same.numpy() == ~is_cut).all()
        means = torch.stack([cut["layer-1"].item(i).mean(dim=0) for i in clips])
        pooled = cut[POOLED].vectors(clips, encoder.hidden_size, 2 * encoder.hidden_size)
        torch.testing.assert_close(pooled, means, rtol=1e-4, atol=1e-5)

    def test_the_encoder_is_on_the_tasks_device_when_it_runs(
        self, encoder_task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places: list[str] = []
        encoder = load_encoder(encoder_task.encoder)
        moved = encoder.to

        def recorded(place: Any) -> Any:
            places.append(str(place))
            return moved("cpu")

        monkeypatch.setattr(encoder, "to", recorded)
        encoder_data._weights_hash.cache_clear()
        monkeypatch.setattr(encoder_data, "resolve_precision", lambda *_: "fp32")
        encoder_data.prefix_source(dataclasses.replace(encoder_task, device="cuda"))
        assert places[-1] == "cuda"  # though its weights are hashed on the CPU


class TestTraining:
    @pytest.mark.parametrize("depth", range(NUM_LAYERS + 1))
    def test_frozen_layers_stay_as_they_were_and_trained_ones_move(self, depth: int, encoder_task: Task) -> None:
        trial = built(configuration(depth), encoder_task)
        model = trial.trainer.model
        assert isinstance(model, EncoderClassifier)
        encoder = model.encoder
        before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
        started = {name: tensor.clone() for name, tensor in model.named_parameters()}
        list(trial.trainer.run())
        assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())
        still = {name for name, tensor in model.named_parameters() if torch.equal(tensor, started[name])}
        assert still == set()
        assert {name.split(".")[1] for name in started if name.startswith("layers.")} == {
            str(number) for number in range(depth)
        }

    def test_frozen_layers_are_in_eval_mode_while_the_others_train(self, encoder_task: Task) -> None:
        trial = built(configuration(1, mask_at=INPUT), encoder_task)
        model = trial.trainer.model.train()
        assert isinstance(model, EncoderClassifier)
        assert not any(module.training for module in model.encoder.modules())
        assert all(module.training for module in model.layers.modules())

    @pytest.mark.parametrize("depth", [0, 1])
    def test_a_trainings_state_holds_no_frozen_weights(self, depth: int, encoder_task: Task) -> None:
        trial = built(configuration(depth), encoder_task)
        next(trial.trainer.run())
        state = trial.trainer.state()
        kinds = {name.split(".")[0] for name in state["model"]}
        assert kinds == ({"head", "layers"} if depth else {"head"})
        trained = {name for name, _ in trial.trainer.model.named_parameters()}
        assert set(state["model"]) - trained == {"head.shift", "head.scale"}

    def test_layers_wait_for_the_epoch_in_which_they_thaw(self, encoder_task: Task) -> None:
        trial = built(configuration(2, unfreeze_at_epoch=2), encoder_task, max_epochs=2)
        model = trial.trainer.model
        started = {name: tensor.clone() for name, tensor in model.named_parameters() if name.startswith("layers.")}
        steps = trial.trainer.run()
        next(steps)
        assert all(torch.equal(tensor, started[name]) for name, tensor in model.named_parameters() if name in started)
        next(steps)
        assert not any(
            torch.equal(tensor, started[name]) for name, tensor in model.named_parameters() if name in started
        )

    @pytest.mark.parametrize("pooling", ["mean", "statistics"])
    @pytest.mark.parametrize("layer_mix", ["last", "weighted", "concat"])
    @pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm", "whisper"])
    def test_until_they_thaw_layers_are_not_run_and_logits_are_as_if_they_were(
        self, model_type: str, layer_mix: str, pooling: str, task: Task, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = configuration(2, unfreeze_at_epoch=2, layer_mix=layer_mix, pooling=pooling)
        trainer = built(config, of_type(task, model_type), max_epochs=2).trainer
        model, thawed_data = trainer.model, trainer.data
        run = model._run_trained
        monkeypatch.setattr(model, "_run_trained", lambda *_: pytest.fail("ran a layer before it thawed"))
        epochs = trainer.run()
        next(epochs)
        pooled = trainer.predict_validation()
        monkeypatch.setattr(model, "_run_trained", run)
        model.thawed, trainer.data = True, thawed_data
        np.testing.assert_allclose(pooled, trainer.predict_validation(), atol=1e-5)
        next(epochs)
        assert trainer.data is thawed_data

    @pytest.mark.parametrize("changes", [{"pooling": "attention"}, {"mask_at": INPUT}])
    def test_where_frames_are_needed_before_the_thaw_they_are_read(
        self, changes: dict[str, Any], encoder_task: Task
    ) -> None:
        trainer = built(configuration(2, unfreeze_at_epoch=2, **changes), encoder_task).trainer
        data = trainer.data
        next(trainer.run())
        assert trainer.data is data

    @pytest.mark.parametrize("config", [configuration(0), configuration(2), configuration(1, mask_at=INPUT)])
    def test_one_seed_gives_one_training_and_another_seed_another(
        self, config: dict[str, Any], encoder_task: Task
    ) -> None:
        trials = [built(config, encoder_task, seed=seed) for seed in (0, 0, 1)]
        first, second, other = ([*trial.trainer.run(), numbers(trial.trainer)][-1] for trial in trials)
        assert first == second
        assert first != other

    @pytest.mark.parametrize(
        "config",
        [
            configuration(0, pooling="attention"),
            configuration(2, unfreeze_at_epoch=2, batch_size=24),
            configuration(1, mask_at=INPUT, batch_size=24),
        ],
    )
    def test_a_resumed_training_gives_the_numbers_of_an_uninterrupted_one(
        self, config: dict[str, Any], encoder_task: Task, tmp_path: Path
    ) -> None:
        straight, first, second = (built(config, encoder_task, max_epochs=3).trainer for _ in range(3))
        list(straight.run())
        next(first.run())
        torch.save(first.state(), tmp_path / "state.pt")
        second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        list(second.run())
        assert numbers(second) == numbers(straight)
        for name, tensor in straight.model.state_dict().items():
            assert torch.equal(second.model.state_dict()[name], tensor), name

    @pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm", "whisper"])
    def test_gradient_checkpointing_gives_the_same_gradients(self, model_type: str, task: Task) -> None:
        found = []
        for checkpointed in (False, True):
            config = configuration(2, gradient_checkpointing=checkpointed)
            trainer = built(config, of_type(task, model_type)).trainer
            batch = next(trainer.data.train.epoch(torch.Generator().manual_seed(0)))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)  # the same dropout and masks
                functional.cross_entropy(trainer.model.train()(*batch.arguments), batch.labels).backward()
            found.append({name: tensor.grad for name, tensor in trainer.model.named_parameters()})
        assert all(torch.equal(found[1][name], gradient) for name, gradient in found[0].items())
        assert all(gradient.norm() > 0 for name, gradient in found[0].items() if "weight" in name)


class TestNorm:
    @pytest.mark.parametrize(
        ("layer_mix", "pooling"), [("weighted", "mean"), ("last", "mean"), ("concat", "statistics")]
    )
    def test_the_head_is_normed_by_training_clips_alone(self, layer_mix: str, pooling: str, encoder_task: Task) -> None:
        trial = built(configuration(1, layer_mix=layer_mix, pooling=pooling), encoder_task)
        pooled = encoder_data.cached_rows(encoder_task, (POOLED,), 4.0)[POOLED]
        vectors = pooled.vectors(open_task(encoder_task).train).double()
        vectors = vectors.view(len(vectors), 2, NUM_LAYERS + 1, -1)  # means and deviations, states
        vectors = vectors[:, :, -1:] if layer_mix == "last" else vectors
        vectors = vectors[:, :1] if pooling == "mean" else vectors
        vectors = vectors.transpose(1, 2).flatten(2)
        head = trial.trainer.model.head
        torch.testing.assert_close(head.shift, vectors.mean(dim=0).float())
        torch.testing.assert_close(head.scale, (1 / vectors.std(dim=0, correction=0)).float())


class TestProbe:
    def test_it_trains_on_few_clips_and_leaves_the_cache_alone(self, encoder_task: Task, tmp_path: Path) -> None:
        task = dataclasses.replace(encoder_task, cache_dir=str(tmp_path / "cache"))
        for config in (configuration(0), configuration(1, mask_at=INPUT)):
            trial = built(config, task, probe_clips=3)
            result = next(trial.trainer.run())
            assert trial.trainer.val_totals.sum() == 3
            assert np.isfinite(result.train_loss)
        assert not (tmp_path / "cache").exists()


def assert_bundle_predicts_as_trained(trial: Trial, task: Task, folder: Path) -> None:
    """A few epochs; the logits of the best one are the bundle's, up to a constant that softmax takes away."""
    predictions = {}
    for result in trial.trainer.run():
        predictions[result.epoch] = trial.trainer.predict_validation()
    trial.export(folder / "best", {"trial_id": "t1"})
    shutil.move(folder / "best", folder / "moved")
    load_encoder.cache_clear()
    bundle, clips = load_bundle(folder / "moved"), open_task(task)
    logits = np.stack([bundle.logits(clips.corpus.waveforms.float32(int(clip))) for clip in clips.validation])
    expected = np.log(predictions[trial.trainer.best_epoch])
    found = torch.from_numpy(logits).log_softmax(dim=1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 1e-2  # clips that all look alike would show nothing
    assert bundle.emotions == task.emotions
    assert bundle.provenance["trial_id"] == "t1"


class TestBundle:
    @pytest.mark.parametrize(
        "config",
        [
            configuration(0),
            configuration(0, layer_mix="last"),
            configuration(0, layer_mix="concat", pooling="statistics"),
            configuration(0, layer_mix="last", pooling="attention"),
            configuration(1, pooling="statistics", max_clip_seconds=1.2),
            configuration(2),
            configuration(1, pooling="attention"),
            configuration(1, mask_at=INPUT),
            configuration(0, mask_at=INPUT, layer_mix="concat"),
        ],
        ids=lambda config: "-".join(str(config[n]) for n in ("unfreeze_depth", "layer_mix", "pooling", "mask_at")),
    )
    def test_a_moved_bundle_predicts_as_the_best_epoch_did(
        self, config: dict[str, Any], encoder_task: Task, tmp_path: Path
    ) -> None:
        trial = built({**config, "batch_size": 34}, encoder_task, max_epochs=2)
        assert_bundle_predicts_as_trained(trial, encoder_task, tmp_path)

    @pytest.mark.parametrize("depth", [0, 1, 2])
    @pytest.mark.parametrize("model_type", ["wavlm", "whisper"])
    def test_bundles_of_other_encoders_predict_as_trained(
        self, model_type: str, depth: int, task: Task, tmp_path: Path
    ) -> None:
        task = of_type(task, model_type)
        trial = built(configuration(depth, batch_size=34), task, max_epochs=2)
        assert_bundle_predicts_as_trained(trial, task, tmp_path)

    def test_a_bundle_describes_its_plan_and_its_encoder(self, encoder_task: Task, tmp_path: Path) -> None:
        trial = built(configuration(1), encoder_task)
        next(trial.trainer.run())
        trial.export(tmp_path / "best", {})
        bundle = load_bundle(tmp_path / "best")
        assert bundle.family == "encoders"
        assert bundle.description["plan"]["lora"] is None
        assert bundle.description["encoder"]["model_type"] == "wav2vec2"


@needs_peft
class TestLora:
    @pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm", "whisper"])
    def test_adapters_train_and_nothing_else_of_the_encoder(self, model_type: str, task: Task) -> None:
        trial = built(configuration(1, **LORA), of_type(task, model_type))
        model = trial.trainer.model
        started = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        list(trial.trainer.run())
        moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, started[name])}
        of_encoder = {name for name in moved if not name.startswith("head.")}
        assert of_encoder
        assert all("lora_" in name for name in of_encoder)
        assert {name for name, tensor in model.named_parameters() if tensor.requires_grad} == moved

    @pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm", "whisper"])
    def test_its_bundle_predicts_as_trained(self, model_type: str, task: Task, tmp_path: Path) -> None:
        task = of_type(task, model_type)
        trial = built(configuration(2, batch_size=34, **LORA), task, max_epochs=2)
        assert_bundle_predicts_as_trained(trial, task, tmp_path)

    def test_a_resumed_training_gives_the_numbers_of_an_uninterrupted_one(
        self, encoder_task: Task, tmp_path: Path
    ) -> None:
        straight, first, second = (
            built(configuration(1, batch_size=24, **LORA), encoder_task, max_epochs=2).trainer for _ in range(3)
        )
        list(straight.run())
        next(first.run())
        torch.save(first.state(), tmp_path / "state.pt")
        second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
        list(second.run())
        assert numbers(second) == numbers(straight)
