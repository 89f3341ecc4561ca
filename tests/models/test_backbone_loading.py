"""An image backbone is found and loaded whole, or refused with what is wrong and what to do."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
from transformers import AutoModel, EfficientNetForImageClassification, ResNetForImageClassification, ResNetModel

from ser_data.errors import UserError
from ser_models.backbones.loading import load_backbone, restore_backbone, weights_hash
from ser_models.backbones.source import BACKBONE_TYPES, TINY_STAGES, find_backbone
from ser_models.encoders.source import ENCODER_TYPES
from ser_models.pretrained import hub
from ser_models.pretrained.choice import find_pretrained
from ser_models.pretrained.source import PretrainedSource, source_from_spec
from tests.models.backbone_clips import ARCHITECTURES, NUM_STAGES, config_of
from tests.models.encoder_clips import config_of as encoder_config_of
from tests.models.encoder_clips import extractor_of, randomise

KINDS = {
    "basic": ResNetForImageClassification,
    "bottleneck": ResNetForImageClassification,
    "efficientnet": EfficientNetForImageClassification,
}


def saved(architecture: str, folder: Path, kind: Any = None, **changes: Any) -> Any:
    """A classifier of transformers with random weights, as checkpoints on the hub are, saved in *folder*."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = (kind or KINDS[architecture])(config_of(architecture, **changes))
    randomise(model)
    model.save_pretrained(folder)
    return model


def rewrite_weights(folder: Path, damage: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    damage(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite_json(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def loaded(folder: Path) -> Any:
    load_backbone.cache_clear()
    return load_backbone(find_backbone(str(folder)).spec)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        loaded(folder)
    return str(caught.value)


class TestWholeFolders:
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_the_weights_are_those_of_the_classifier_without_its_head(self, architecture: str, tmp_path: Path) -> None:
        model = saved(architecture, tmp_path)
        source = find_backbone(str(tmp_path))
        assert (source.num_layers, source.pretrained) == (NUM_STAGES[architecture], True)
        backbone = loaded(tmp_path)
        expected = model.base_model.state_dict()
        found = backbone.model.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert backbone.num_stages == source.num_layers
        assert not backbone.training
        assert not any(parameter.requires_grad for parameter in backbone.parameters())

    def test_half_precision_is_loaded_as_float32(self, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        rewrite_weights(
            tmp_path, lambda t: t.update({n: v.half() if v.is_floating_point() else v for n, v in t.items()})
        )
        rewrite_json(tmp_path, dtype="float16")
        assert loaded(tmp_path).dtype == torch.float32

    def test_a_checkpoint_without_the_counters_of_its_norms_is_whole(self, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        rewrite_weights(tmp_path, lambda t: [t.pop(name) for name in list(t) if name.endswith("num_batches_tracked")])
        assert loaded(tmp_path).num_stages == 3

    def test_random_weights_in_its_shape_need_no_weights_file_and_are_marked(self, tmp_path: Path) -> None:
        saved("bottleneck", tmp_path / "net")
        (tmp_path / "net" / "model.safetensors").unlink()
        source = find_backbone(str(tmp_path / "net"), pretrained=False)
        assert source.label == "net (random weights)"
        first, again = load_backbone(source.spec), (load_backbone.cache_clear(), load_backbone(source.spec))[1]
        assert weights_hash(first) == weights_hash(again)


class TestRefusedFolders:
    @pytest.mark.parametrize(
        ("removed", "told"), [("config.json", r"lacks config\.json"), ("model.safetensors", r"lacks the weights")]
    )
    def test_without_one_of_its_files(self, removed: str, told: str, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        (tmp_path / removed).unlink()
        with pytest.raises(UserError, match=rf"The folder --encoder .* {told}.*image backbone.*Copy the whole folder"):
            find_backbone(str(tmp_path))

    @pytest.mark.parametrize(("field", "value"), [("depths", []), ("depths", 4), ("depths", None)])
    def test_with_a_config_that_tells_no_stages(self, field: str, value: Any, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        rewrite_json(tmp_path, **{field: value})
        if value == 4:
            assert find_backbone(str(tmp_path)).num_layers == 4  # transformers refuses it when it reads the file
            return
        with pytest.raises(UserError, match=r"for its number of layers.*Restore the file"):
            find_backbone(str(tmp_path))

    def test_for_images_of_another_number_of_channels(self, tmp_path: Path) -> None:
        saved("basic", tmp_path, num_channels=1)
        with pytest.raises(UserError, match=r"takes images of 1 channels .*Accepted are backbones for 3.*Name another"):
            find_backbone(str(tmp_path))

    @pytest.mark.parametrize("model_type", ["bert", "vit", None])
    def test_of_another_kind_of_model(self, model_type: str | None, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type} if model_type else {}))
        with pytest.raises(UserError, match=f"of type '{model_type}'. Accepted are image backbones .*resnet, effic"):
            find_pretrained(str(tmp_path), types=BACKBONE_TYPES)


class TestTheOtherKindOfNetwork:
    def test_a_speech_encoder_is_refused_by_a_space_over_images_with_the_space_for_it(self, tmp_path: Path) -> None:
        AutoModel.from_config(encoder_config_of("wav2vec2")).save_pretrained(tmp_path)
        extractor_of("wav2vec2").save_pretrained(tmp_path)
        told = "'wav2vec2', which is a speech encoder; this space takes an image backbone"
        with pytest.raises(UserError, match=told) as caught:
            find_pretrained(str(tmp_path), types=BACKBONE_TYPES)
        assert "--space wav2vec2_fast or wav2vec2_full" in str(caught.value)

    def test_an_image_backbone_is_refused_by_a_space_over_speech_encoders(self, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        with pytest.raises(
            UserError, match="'resnet', which is an image backbone; this space takes a speech enc"
        ) as caught:
            find_pretrained(str(tmp_path), types=("wav2vec2", "hubert"))
        assert "--space mel_resnet50_frozen or mel_resnet50_finetune" in str(caught.value)

    def test_types_of_no_kind_are_a_mistake_in_the_space(self) -> None:
        with pytest.raises(ValueError, match="no kind of pretrained network"):
            find_pretrained("tiny", types=("resnet", "whisper"))

    @pytest.mark.parametrize("types", [ENCODER_TYPES, BACKBONE_TYPES])
    def test_tiny_is_of_the_spaces_first_type(self, types: tuple[str, ...]) -> None:
        assert find_pretrained("tiny", types=types).model_type == types[0]


class TestDamagedWeights:
    """None of these may end in a backbone that is in part random."""

    def test_missing_tensors_are_listed(self, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        lost = "resnet.encoder.stages.1.layers.0.shortcut.normalization.running_var"
        rewrite_weights(tmp_path, lambda t: t.pop(lost))
        told = refusal(tmp_path)
        assert "lacks weights of the image backbone, which would stay random" in told
        assert lost.removeprefix("resnet.") in told

    def test_a_layer_that_the_config_does_not_know_of_is_listed(self, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        rewrite_json(tmp_path, depths=[1, 1, 1])
        told = refusal(tmp_path)
        assert "has weights of an image backbone that its config.json has no place for" in told
        assert "encoder.stages.1.layers.1." in told

    def test_weights_of_other_sizes_are_listed(self, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        rewrite_json(tmp_path, hidden_sizes=[8, 12, 24])
        told = refusal(tmp_path)
        assert "has weights of other sizes than its config.json says" in told
        assert "encoder.stages.2.layers.0.layer.0.convolution.weight" in told

    @pytest.mark.parametrize(("config", "weights"), [("bottleneck", "basic"), ("basic", "efficientnet")])
    def test_weights_of_another_architecture_are_refused_by_name(
        self, config: str, weights: str, tmp_path: Path
    ) -> None:
        saved(config, tmp_path / "net")
        saved(weights, tmp_path / "other")
        shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "net" / "model.safetensors")
        told = refusal(tmp_path / "net")
        assert told.startswith("The image backbone net ")
        assert "encoder.stages.0.layers.0." in told or "embedder." in told

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_are_refused_by_name(self, value: float, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        name = "encoder.stages.1.layers.0.layer.0.convolution.weight"
        rewrite_weights(tmp_path, lambda t: t[f"resnet.{name}"].view(-1)[0].fill_(value))
        told = refusal(tmp_path)
        assert "not finite" in told and name in told

    @pytest.mark.parametrize("kept", [0, 100])
    def test_a_truncated_file_is_refused(self, kept: int, tmp_path: Path) -> None:
        saved("basic", tmp_path)
        path = tmp_path / "model.safetensors"
        path.write_bytes(path.read_bytes()[:kept])
        assert "cannot be loaded" in refusal(tmp_path)


class TestHub:
    def test_an_id_without_network_and_cache_is_refused_with_three_ways_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

        def unreachable(url: str) -> None:
            raise OSError("no route")

        monkeypatch.setattr(hub, "_ask_hub", unreachable)
        with pytest.raises(UserError) as caught:
            find_backbone("images/resnet@v2")
        told = str(caught.value)
        assert f"The image backbone images/resnet@v2 is not in the cache {tmp_path}" in told
        for way in ("once where there is a network", "hf download images/resnet --revision v2", "--encoder tiny"):
            assert way in told


class TestTiny:
    @pytest.mark.parametrize("model_type", BACKBONE_TYPES)
    def test_it_has_a_few_stages_and_a_mark(self, model_type: str) -> None:
        source = find_backbone("tiny", types=(model_type,))
        assert source == PretrainedSource("tiny", None, model_type, TINY_STAGES, pretrained=False)
        assert source.label == "tiny (random weights)"
        backbone = load_backbone(source.spec)
        assert (backbone.model_type, backbone.num_stages) == (model_type, TINY_STAGES)
        assert source_from_spec(source.spec) == source

    def test_of_resnets_it_is_one_of_basic_layers(self) -> None:
        assert load_backbone(find_backbone("tiny").spec).config.layer_type == "basic"

    def test_drawing_it_leaves_the_global_generator_alone(self) -> None:
        load_backbone.cache_clear()
        state = torch.random.get_rng_state()
        load_backbone(find_backbone("tiny").spec)
        assert torch.equal(torch.random.get_rng_state(), state)


class TestWeightsHash:
    def test_it_changes_with_one_number_of_one_weight_and_with_a_setting(self, tmp_path: Path) -> None:
        saved("basic", tmp_path, kind=ResNetModel)
        before = weights_hash(loaded(tmp_path))
        assert weights_hash(loaded(tmp_path)) == before
        rewrite_json(tmp_path, hidden_act="gelu")
        other_setting = weights_hash(loaded(tmp_path))
        rewrite_weights(tmp_path, lambda t: t["embedder.embedder.convolution.weight"].view(-1)[0].add_(1e-3))
        assert len({before, other_setting, weights_hash(loaded(tmp_path))}) == 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_described_backbone_is_restored_with_its_shape(architecture: str, tmp_path: Path) -> None:
    saved(architecture, tmp_path)
    backbone = loaded(tmp_path)
    restored = restore_backbone(json.loads(json.dumps(backbone.config_dict())))
    restored.load_state_dict(backbone.state_dict())
    assert weights_hash(restored) == weights_hash(backbone)
