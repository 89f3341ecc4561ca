"""An encoder is found and loaded whole, or refused with what is wrong and what to do."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import torch
from transformers import (
    AutoModel,
    Data2VecAudioForSequenceClassification,
    HubertForCTC,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2ForSequenceClassification,
    WavLMForXVector,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
    WhisperModel,
)

from ser_data.errors import UserError
from ser_models.encoders.loading import load_encoder, restore_encoder, weights_hash
from ser_models.encoders.source import ENCODER_TYPES, TINY_LAYERS, find_encoder
from ser_models.pretrained import hub
from ser_models.pretrained.source import PretrainedSource, source_from_spec
from tests.models.encoder_clips import NUM_LAYERS, clip_samples, config_of, extractor_of, randomise

Damage = Callable[[dict[str, torch.Tensor]], None]


def saved(kind: Any, architecture: str, folder: Path, **changes: Any) -> Any:
    """A model of transformers with random weights, saved in *folder* with its feature extractor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config_of(architecture, **changes))
    randomise(model)
    model.save_pretrained(folder)
    extractor_of(architecture).save_pretrained(folder)
    return model


def saved_wav2vec2(folder: Path) -> Path:
    saved(AutoModel.from_config, "wav2vec2", folder)
    return folder


def rewrite_weights(folder: Path, damage: Damage) -> None:
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    damage(tensors)
    safetensors.torch.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def loaded(folder: Path) -> Any:
    load_encoder.cache_clear()
    return load_encoder(find_encoder(str(folder)).spec)


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        loaded(folder)
    return str(caught.value)


def in_process(code: str, **environment: str) -> str:
    """What *code* prints in a Python of its own."""
    made = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return made.stdout.strip()


_IN_ANOTHER_PROCESS = """
import json, torch
torch.manual_seed(5)
from ser_models.encoders.source import find_encoder
from ser_models.encoders.loading import load_encoder, weights_hash
found = {"tiny": {}, "hub": {}}
for kind in ("wav2vec2", "whisper"):
    found["tiny"][kind] = weights_hash(load_encoder(find_encoder("tiny", types=(kind,)).spec))
for revision in (None, "v2"):
    source = find_encoder("speech/base" + (f"@{revision}" if revision else ""))
    weight = float(load_encoder(source.spec).model.encoder.layers[0].attention.q_proj.weight.double().sum())
    found["hub"][str(revision)] = {
        "label": source.label, "num_layers": source.num_layers, "revision": source.revision, "weight": weight
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def other_process(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process of its own, offline, finds of the tiny encoders and of one that lies in the hub's cache."""
    cache = tmp_path_factory.mktemp("hub")
    repository, snapshot = cache / "models--speech--base", "0123456789abcdef0123456789abcdef01234567"
    model = saved(Wav2Vec2ForCTC, "wav2vec2", repository / "snapshots" / snapshot)
    (repository / "refs").mkdir()
    for revision in ("main", "v2"):
        (repository / "refs" / revision).write_text(snapshot)
    weight = model.wav2vec2.encoder.layers[0].attention.q_proj.weight
    found = json.loads(
        in_process(_IN_ANOTHER_PROCESS, HF_HUB_CACHE=str(cache), HF_HUB_OFFLINE="1", PYTHONHASHSEED="123")
    )
    return {**found, "saved weight": float(weight.detach().double().sum())}


class TestFolder:
    @pytest.mark.parametrize(
        ("removed", "told"),
        [
            ("config.json", "lacks config.json."),
            ("preprocessor_config.json", "lacks preprocessor_config.json."),
            ("model.safetensors", r"lacks the weights \(one of model.safetensors, .*pytorch_model.bin"),
        ],
    )
    def test_without_one_of_its_files_it_is_refused_by_the_files_name(
        self, removed: str, told: str, tmp_path: Path
    ) -> None:
        (saved_wav2vec2(tmp_path) / removed).unlink()
        with pytest.raises(UserError, match=rf"The folder --encoder .* {told}.*Copy the whole folder"):
            find_encoder(str(tmp_path))

    def test_an_empty_folder_is_told_all_that_it_lacks(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match=r"config\.json and preprocessor_config\.json and the weights"):
            find_encoder(str(tmp_path))

    def test_random_weights_in_its_shape_need_no_weights_file(self, tmp_path: Path) -> None:
        (saved_wav2vec2(tmp_path) / "model.safetensors").unlink()
        source = find_encoder(str(tmp_path), pretrained=False)
        assert not source.pretrained
        encoder = load_encoder(source.spec)
        assert (encoder.num_layers, encoder.hidden_size) == (NUM_LAYERS, 24)

    @pytest.mark.parametrize("model_type", ["bert", "resnet", None])
    def test_another_kind_of_model_is_refused_by_its_type(self, model_type: str | None, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type} if model_type else {}))
        with pytest.raises(UserError, match=f"is a model of type '{model_type}'. Accepted are .*wav2vec2, hubert"):
            find_encoder(str(tmp_path))

    @pytest.mark.parametrize(
        ("types", "space"), [(("whisper",), "wav2vec2_fast"), (("wavlm", "hubert"), "wav2vec2_fast")]
    )
    def test_a_type_that_the_space_is_not_made_for_is_refused_with_the_space_for_it(
        self, types: tuple[str, ...], space: str, tmp_path: Path
    ) -> None:
        saved_wav2vec2(tmp_path)
        with pytest.raises(UserError, match=f"of type 'wav2vec2'; this space takes {types[0]}.*--space {space}"):
            find_encoder(str(tmp_path), types=types)

    @pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x80"])
    def test_a_damaged_config_is_refused(self, content: str, tmp_path: Path) -> None:
        saved_wav2vec2(tmp_path)
        (tmp_path / "config.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=r"The config\.json of --encoder .* (cannot be read|is no JSON object)"):
            find_encoder(str(tmp_path))

    @pytest.mark.parametrize("layers", [0, -1, "twelve", None, 2.5])
    def test_a_config_without_a_number_of_layers_is_refused(self, layers: Any, tmp_path: Path) -> None:
        rewrite_json(saved_wav2vec2(tmp_path) / "config.json", num_hidden_layers=layers)
        with pytest.raises(UserError, match=r"has .* for its number of layers.*Restore the file"):
            find_encoder(str(tmp_path))

    @pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c", "~/nowhere"])
    def test_a_name_that_is_no_folder_and_no_hub_id_is_refused(self, name: str) -> None:
        with pytest.raises(UserError, match=r"there is no such folder, and it is no hub id\. Accepted are"):
            find_encoder(name)

    def test_it_is_found_under_its_resolved_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        saved_wav2vec2(tmp_path / "speech")
        monkeypatch.chdir(tmp_path)
        expected = PretrainedSource(str(tmp_path / "speech"), None, "wav2vec2", NUM_LAYERS, pretrained=True)
        assert find_encoder("./speech") == find_encoder("speech") == expected
        assert expected.label == "speech"
        assert expected.is_folder


@pytest.mark.parametrize("pretrained", [True, False])
def test_a_source_survives_its_spec(pretrained: bool, tmp_path: Path) -> None:
    saved_wav2vec2(tmp_path)
    for source in (find_encoder(str(tmp_path), pretrained=pretrained), find_encoder("tiny", types=("whisper",))):
        assert source_from_spec(source.spec) == source
        assert json.loads(source.spec)["model_type"] == source.model_type


def test_the_label_marks_random_weights(tmp_path: Path) -> None:
    saved_wav2vec2(tmp_path / "speech")
    assert find_encoder(str(tmp_path / "speech"), pretrained=False).label == "speech (random weights)"
    assert find_encoder("tiny").label == "tiny (random weights)"


class TestHeadsAndOtherParts:
    """Checkpoints come from pretraining, fine-tuning and whole models; what is no encoder does not matter."""

    @pytest.mark.parametrize(
        ("kind", "architecture", "part"),
        [
            (Wav2Vec2ForPreTraining, "wav2vec2", "wav2vec2"),
            (Wav2Vec2ForPreTraining, "wav2vec2-large", "wav2vec2"),
            (Wav2Vec2ForCTC, "wav2vec2", "wav2vec2"),
            (Wav2Vec2ForSequenceClassification, "wav2vec2", "wav2vec2"),
            (HubertForCTC, "hubert", "hubert"),
            (WavLMForXVector, "wavlm", "wavlm"),
            (Data2VecAudioForSequenceClassification, "data2vec-audio", "data2vec_audio"),
            (WhisperForConditionalGeneration, "whisper", "model.encoder"),
            (WhisperModel, "whisper", "encoder"),
            (WhisperForAudioClassification, "whisper", "encoder"),
        ],
    )
    def test_the_encoders_weights_are_those_of_the_whole_model(
        self, kind: Any, architecture: str, part: str, tmp_path: Path
    ) -> None:
        sizes = {"codevector_dim": 8, "num_codevectors_per_group": 4} if kind is Wav2Vec2ForPreTraining else {}
        if kind is WavLMForXVector:
            sizes = {"tdnn_dim": (8,) * 5, "xvector_output_dim": 8}
        model = saved(kind, architecture, tmp_path, **sizes)
        encoder = loaded(tmp_path)
        expected, found = model.get_submodule(part).state_dict(), encoder.model.state_dict()
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name
        assert not encoder.training
        assert not any(parameter.requires_grad for parameter in encoder.parameters())

    def test_half_precision_is_loaded_as_float32(self, tmp_path: Path) -> None:
        saved_wav2vec2(tmp_path)
        rewrite_weights(tmp_path, lambda t: t.update({name: tensor.half() for name, tensor in t.items()}))
        rewrite_json(tmp_path / "config.json", dtype="float16", torch_dtype="float16")
        stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
        encoder = loaded(tmp_path)
        assert {tensor.dtype for tensor in encoder.state_dict().values()} == {torch.float32}
        name = "encoder.layers.0.attention.q_proj.weight"
        assert torch.equal(encoder.model.state_dict()[name], stored[name].float())

    def test_a_pickled_checkpoint_is_loaded(self, tmp_path: Path) -> None:
        saved_wav2vec2(tmp_path)
        tensors = safetensors.torch.load_file(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        torch.save(tensors, tmp_path / "pytorch_model.bin")
        name = "encoder.layers.0.attention.q_proj.weight"
        assert torch.equal(loaded(tmp_path).model.state_dict()[name], tensors[name])


class TestDamagedWeights:
    """None of these may end in an encoder that is in part random."""

    def test_missing_tensors_are_listed(self, tmp_path: Path) -> None:
        lost = ("encoder.layers.1.attention.q_proj.weight", "feature_projection.projection.bias")
        rewrite_weights(saved_wav2vec2(tmp_path), lambda t: [t.pop(name) for name in lost])
        told = refusal(tmp_path)
        assert "lacks weights of the speech encoder, which would stay random" in told
        assert all(name in told for name in lost)

    def test_many_missing_tensors_are_counted(self, tmp_path: Path) -> None:
        def damage(tensors: dict[str, torch.Tensor]) -> None:
            for name in [name for name in tensors if name.startswith("encoder.layers.2.")]:
                del tensors[name]

        rewrite_weights(saved_wav2vec2(tmp_path), damage)
        assert "encoder.layers.2.attention" in refusal(tmp_path)
        assert "and 8 more" in refusal(tmp_path)  # of 16

    @pytest.mark.parametrize(
        ("kind", "architecture", "lost"),
        [
            (Wav2Vec2ForCTC, "wav2vec2", "wav2vec2.encoder.layer_norm.weight"),
            (Data2VecAudioForSequenceClassification, "data2vec-audio", "data2vec_audio.encoder.layer_norm.weight"),
            (WhisperForConditionalGeneration, "whisper", "model.encoder.layer_norm.weight"),
            (WhisperForAudioClassification, "whisper", "encoder.layer_norm.weight"),
        ],
    )
    def test_a_missing_tensor_is_seen_under_every_prefix(
        self, kind: Any, architecture: str, lost: str, tmp_path: Path
    ) -> None:
        saved(kind, architecture, tmp_path)
        rewrite_weights(tmp_path, lambda t: t.pop(lost))
        assert "encoder.layer_norm.weight" in refusal(tmp_path)

    @pytest.mark.parametrize(
        ("kind", "architecture", "field"),
        [
            (AutoModel.from_config, "wav2vec2", "num_hidden_layers"),
            (Wav2Vec2ForCTC, "wav2vec2", "num_hidden_layers"),
            (Data2VecAudioForSequenceClassification, "data2vec-audio", "num_hidden_layers"),
            (WhisperForConditionalGeneration, "whisper", "encoder_layers"),
            (WhisperForAudioClassification, "whisper", "encoder_layers"),
        ],
    )
    def test_a_layer_that_the_config_does_not_know_of_is_listed(
        self, kind: Any, architecture: str, field: str, tmp_path: Path
    ) -> None:
        saved(kind, architecture, tmp_path)
        rewrite_json(tmp_path / "config.json", **{field: NUM_LAYERS - 1})
        told = refusal(tmp_path)
        assert "has weights of a speech encoder that its config.json has no place for" in told
        assert "encoder.layers.2." in told

    def test_weights_of_other_sizes_are_refused(self, tmp_path: Path) -> None:
        rewrite_json(saved_wav2vec2(tmp_path) / "config.json", intermediate_size=41)
        told = refusal(tmp_path)
        assert "has weights of other sizes than its config.json says" in told
        assert "encoder.layers.0.feed_forward.intermediate_dense.bias" in told

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_weights_that_are_not_finite_are_refused_by_name(self, value: float, tmp_path: Path) -> None:
        name = "encoder.layers.1.feed_forward.output_dense.weight"
        rewrite_weights(saved_wav2vec2(tmp_path), lambda t: t[name][0, 0].fill_(value))
        told = refusal(tmp_path)
        assert "not finite" in told and name in told and "layers.0" not in told

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    @pytest.mark.parametrize("kept", [0, 100, 20_000])
    def test_a_truncated_file_is_refused(self, kept: int, name: str, tmp_path: Path) -> None:
        path = saved_wav2vec2(tmp_path) / "model.safetensors"
        if name != path.name:
            torch.save(safetensors.torch.load_file(path), tmp_path / name)
            path.unlink()
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
        assert "cannot be loaded" in refusal(tmp_path)

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_the_pointer_that_git_left_for_a_large_file_is_refused(self, name: str, tmp_path: Path) -> None:
        (saved_wav2vec2(tmp_path) / "model.safetensors").unlink()
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 380267417\n")
        assert "cannot be loaded" in refusal(tmp_path)

    def test_a_damaged_feature_extractor_is_refused(self, tmp_path: Path) -> None:
        (saved_wav2vec2(tmp_path) / "preprocessor_config.json").write_text("{")
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
            find_encoder("speech/base@v2")
        told = str(caught.value)
        assert f"The speech encoder speech/base@v2 is not in the cache {tmp_path}" in told
        for way in ("once where there is a network", "hf download speech/base --revision v2", "--encoder tiny"):
            assert way in told

    def test_without_a_network_it_says_so_at_once(self, tmp_path: Path) -> None:
        code = (
            "from ser_models.encoders.source import find_encoder\n"
            "from ser_data.errors import UserError\n"
            "try:\n    find_encoder('speech/base')\nexcept UserError as error:\n    print(error)"
        )
        for environment in ({"HF_ENDPOINT": "http://127.0.0.1:9"}, {"HF_HUB_OFFLINE": "1"}):
            told = in_process(code, HF_HUB_CACHE=str(tmp_path), **environment)
            assert f"The speech encoder speech/base is not in the cache {tmp_path}" in told, environment
            assert "Three ways out" in told

    @pytest.mark.parametrize("revision", [None, "v2"])
    def test_an_id_in_the_cache_is_found_and_loaded_offline(
        self, revision: str | None, other_process: dict[str, Any]
    ) -> None:
        expected = {"label": "speech/base", "num_layers": NUM_LAYERS, "revision": revision}
        assert other_process["hub"][str(revision)] == {**expected, "weight": other_process["saved weight"]}

    def test_what_is_no_id_is_refused(self) -> None:
        with pytest.raises(UserError, match="is no hub id"):
            find_encoder("speech/ba se")


class TestTiny:
    @pytest.mark.parametrize("model_type", ENCODER_TYPES)
    def test_it_has_the_shape_of_the_spaces_first_type(self, model_type: str) -> None:
        source = find_encoder("tiny", types=(model_type, "hubert"))
        assert (source.model_type, source.num_layers, source.pretrained) == (model_type, TINY_LAYERS, False)
        encoder = load_encoder(source.spec)
        assert (encoder.model_type, encoder.num_layers) == (model_type, TINY_LAYERS)
        frames = encoder.front(encoder.features(clip_samples(8000, 0))[None])
        assert frames.shape[1:] == (int(encoder.maskable_frames(torch.tensor([8000]).numpy())[0]), encoder.maskable_dim)

    def test_drawing_it_leaves_the_global_generator_alone(self) -> None:
        load_encoder.cache_clear()
        state = torch.random.get_rng_state()
        load_encoder(find_encoder("tiny").spec)
        assert torch.equal(torch.random.get_rng_state(), state)

    @pytest.mark.parametrize("model_type", ["wav2vec2", "whisper"])
    def test_it_and_its_hash_are_the_same_in_every_process(
        self, model_type: str, other_process: dict[str, Any]
    ) -> None:
        here = load_encoder(find_encoder("tiny", types=(model_type,)).spec)
        assert other_process["tiny"][model_type] == weights_hash(here)


class TestWeightsHash:
    def test_it_is_the_same_for_a_copy_in_another_folder(self, tmp_path: Path) -> None:
        saved_wav2vec2(tmp_path / "first")
        shutil.copytree(tmp_path / "first", tmp_path / "second")
        first = weights_hash(loaded(tmp_path / "first"))
        assert weights_hash(loaded(tmp_path / "second")) == first
        assert weights_hash(loaded(tmp_path / "first")) == first

    @pytest.mark.parametrize(
        "part", ["encoder.layers.2.attention.v_proj.bias", "feature_extractor.conv_layers.0.conv.weight"]
    )
    def test_it_changes_with_one_number_of_one_weight(self, part: str, tmp_path: Path) -> None:
        before = weights_hash(loaded(saved_wav2vec2(tmp_path)))
        rewrite_weights(tmp_path, lambda t: t[part].view(-1)[0].add_(1e-3))
        assert weights_hash(loaded(tmp_path)) != before

    def test_it_changes_with_a_setting_of_the_network(self, tmp_path: Path) -> None:
        before = weights_hash(loaded(saved_wav2vec2(tmp_path)))
        rewrite_json(tmp_path / "config.json", layer_norm_eps=1e-3)
        assert weights_hash(loaded(tmp_path)) != before

    def test_it_changes_with_a_setting_of_the_features(self, tmp_path: Path) -> None:
        before = weights_hash(loaded(saved_wav2vec2(tmp_path)))
        rewrite_json(tmp_path / "preprocessor_config.json", do_normalize=False)
        assert weights_hash(loaded(tmp_path)) != before


@pytest.mark.parametrize("model_type", ENCODER_TYPES)
def test_a_described_encoder_is_restored_with_its_shape_and_features(model_type: str) -> None:
    encoder = load_encoder(find_encoder("tiny", types=(model_type,)).spec)
    described = json.loads(json.dumps([encoder.config_dict(), encoder.features_dict()]))
    restored = restore_encoder(*described)
    restored.load_state_dict(encoder.state_dict())
    assert weights_hash(restored) == weights_hash(encoder)
    assert torch.equal(restored.features(clip_samples(8000, 0)), encoder.features(clip_samples(8000, 0)))
