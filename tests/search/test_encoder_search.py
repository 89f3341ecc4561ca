"""Whole searches over several pretrained networks: each is prepared, probed, tried and told apart."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from search.encoder_axis import EncoderAxis
from search.families import get_family
from search.record import read_events
from search.result_keys import MEASURED
from search.space import load_space
from search.trial import check_configurations, task_and_settings
from search.trial_plan import TrialPlan
from ser_data.corpus import open_corpus
from ser_data.errors import UserError
from ser_models.pretrained.choice import find_pretrained
from ser_models.pretrained.source import source_from_spec
from ser_models.task import Task
from tests.search.command import Command
from tests.search.conftest import Search
from tests.search.knob_search import Sitting

DEPTHS = {"shallow": 1, "deep": 3}  # layers of the encoders without weights


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--encoder`` for two wav2vec 2.0 of different depth, without weights."""
    folder = tmp_path_factory.mktemp("shapes")
    for name, num_layers in DEPTHS.items():
        (folder / name).mkdir()
        config = {"model_type": "wav2vec2", "num_hidden_layers": num_layers}
        (folder / name / "config.json").write_text(json.dumps(config))
        (folder / name / "preprocessor_config.json").write_text("{}")
    return ",".join(str(folder / name) for name in DEPTHS)


LABELS = tuple(f"{name} (random weights)" for name in DEPTHS)


def prepared(folder: Path) -> list[dict[str, Any]]:
    """What the layered family was given to prepare, call by call."""
    path = folder.parent / f"{folder.name}-cache" / "prepared.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The record without its times, and without where its sittings begin and end and what they run on."""
    of_sittings = ("sitting", "resources", "ended")
    events = [event for event in read_events(folder / "events.jsonl") if event["kind"] not in of_sittings]
    for event in events:
        event.pop("at", None)
        for measured in MEASURED:
            event.get("report", {}).pop(measured, None)
    return events


def by_trial(folder: Path) -> dict[int, list[dict[str, Any]]]:
    """The events of each trial, in their order."""
    trials: dict[int, list[dict[str, Any]]] = {}
    for event in events_of(folder):
        trials.setdefault(event.get("number", -1), []).append(event)
    return trials


@pytest.fixture(scope="module")
def options(shapes: str) -> list[str]:
    return [
        "--space", "layered", "--encoder", shapes, "--pretrained", "none", "--trials", "6", "--max-concurrent", "1",
        "--fix", "fault=none",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def layered(knob_search: Search, options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search over the knob family with both shapes that ran to its end. Read only."""
    return knob_search(tmp_path_factory.mktemp("several") / "run", *options)


def test_each_encoder_is_prepared_once_with_what_its_own_depths_need(layered: Sitting) -> None:
    assert layered.code == 0
    calls = prepared(layered.folder)
    found = [Path(source_from_spec(call["encoder"]).name).name for call in calls]
    assert found == list(DEPTHS)
    for call, num_layers in zip(calls, DEPTHS.values(), strict=True):
        assert {config["depth"] for config in call["configs"]} == set(range(num_layers + 1))
        assert all("encoder" not in config for config in call["configs"])


def test_encoders_whose_prefixes_the_cache_cannot_hold_together_are_refused_with_their_sizes(
    knob_search: Search, options: list[str], tmp_path: Path
) -> None:
    sizes = r"0\.12 GB together \(shallow \(random weights\) 40\.0 MB, deep \(random weights\) 80\.0 MB\)"
    with pytest.raises(UserError, match=rf"{sizes}, more than the 0\.10 GB of --cache-gb\. Give --cache-gb 0\.2 or"):
        knob_search(tmp_path / "run", *options, "--cache-gb", "0.1")
    assert not (tmp_path / "run-cache" / "prepared.jsonl").exists()


def test_every_trial_has_an_encoder_and_a_depth_of_it(layered: Sitting) -> None:
    configs = [trial.config for trial in layered.trials.values()]
    assert [config["encoder"] for config in configs[:2]] == list(LABELS)  # known to be good, with each
    for config in configs:
        assert int(config["depth"]) <= DEPTHS[str(config["encoder"]).split()[0]]
    assert layered.trials[0].params == {
        "encoder": LABELS[0], "x": 0.25, "depth_0_to_1": 1, "seconds": 4.0, "epochs": 3,
        **{name: value for name, value in configs[0].items() if name == "rate"},
    }  # fmt: skip


def test_the_board_tells_the_encoder_of_every_row_and_has_a_probe_for_each(layered: Sitting) -> None:
    board = pd.read_csv(layered.folder / "leaderboard.csv").set_index("trial_id")
    trials = {trial.trial_id: trial.config["encoder"] for trial in layered.trials.values()}
    probes = {f"probe {label}": label for label in LABELS}
    assert dict(board["encoder"]) == dict(board["config.encoder"]) == {**trials, **probes}
    markdown = (layered.folder / "leaderboard.md").read_text()
    assert f"encoders {LABELS[0]}, {LABELS[1]}, in fp32" in markdown.splitlines()[0]
    for text in (layered.text, markdown):
        for label in LABELS:
            assert f"over the linear probe of {label} (.500)" in text
            assert f"Encoder {label}: it was never pretrained, so no score of it" in text
        assert f"Best of each encoder, of those tried: {LABELS[0]} " in text
    assert f"linear probe of {LABELS[1]}: 0.500 in 2 s" in layered.text


def test_the_config_and_the_bundle_say_which(layered: Sitting) -> None:
    plan = layered.config["plan"]
    assert [(encoder["label"], encoder["num_layers"]) for encoder in plan["encoders"]] == list(
        zip(LABELS, DEPTHS.values(), strict=True)
    )
    best = max(layered.trials.values(), key=lambda trial: trial.best_score)
    provenance = (layered.folder / "best" / "provenance.txt").read_text().splitlines()
    assert f"encoder={best.config['encoder']}" in provenance


@pytest.mark.parametrize("num_events", [4, 7])  # between the two probes, and in the first trial
def test_a_search_whose_driver_is_gone_ends_as_if_nothing_had_been(
    layered: Sitting, knob_search: Search, tmp_path: Path, num_events: int
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text((layered.folder / "config.json").read_text())
    lines = (layered.folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(lines[:num_events]))
    assert knob_search(folder, "--resume", "--max-concurrent", "1").code == 0
    assert events_of(folder) == events_of(layered.folder)
    assert (folder / "leaderboard.csv").read_text().count("probe ") == len(DEPTHS)


def test_the_same_folder_takes_the_encoders_in_another_order_and_no_other_ones(
    layered: Sitting, knob_search: Search, options: list[str], shapes: str
) -> None:
    turned = [",".join(reversed(shapes.split(","))) if option == shapes else option for option in options]
    again = knob_search(layered.folder, *turned)
    assert again.code == 0
    assert "is finished (6 trials)" in again.text


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--encoder`` for a ResNet of two stages and an EfficientNet of three, with weights."""
    from transformers import ResNetConfig, ResNetModel

    from ser_models.backbones.loading import load_backbone
    from ser_models.backbones.source import find_backbone

    folder = tmp_path_factory.mktemp("backbones")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
        ResNetModel(resnet).save_pretrained(folder / "tiny-resnet")
    load_backbone(find_backbone("tiny", types=("efficientnet",)).spec).model.save_pretrained(folder / "tiny-efficient")
    return f"{folder / 'tiny-resnet'},{folder / 'tiny-efficient'}"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> str:
    """``--encoder`` for a wav2vec 2.0 of one layer and a HuBERT of three, with weights."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    shape: dict[str, Any] = {
        "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (16,) * 7,
        "num_conv_pos_embedding_groups": 4, "vocab_size": 32,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("speech")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "tiny-wav2vec2": Wav2Vec2Model(Wav2Vec2Config(num_hidden_layers=1, **shape)),
            "tiny-hubert": HubertModel(HubertConfig(num_hidden_layers=3, **shape)),
        }
    for name, model in made.items():
        model.save_pretrained(folder / name)
        Wav2Vec2FeatureExtractor().save_pretrained(folder / name)
    return ",".join(str(folder / name) for name in made)


def assert_whole(sitting: Sitting, labels: Sequence[str], deepest: Sequence[int]) -> None:
    """Every encoder was tried at depths of its own, and has its own probe and best trial on the board."""
    assert sitting.code == 0, sitting.text
    board = pd.read_csv(sitting.folder / "leaderboard.csv").set_index("trial_id")
    assert set(board["status"]) <= {"completed", "stopped"}
    for label, depth in zip(labels, deepest, strict=True):
        own = board[board["encoder"] == label]
        assert f"probe {label}" in own.index and len(own) > 1
        assert own["config.unfreeze_depth"].max() <= depth


def plan_over(space: EncoderAxis, task: Task, specs: Mapping[str, str], folder: Path) -> TrialPlan:
    module = get_family(space.family).module
    corners = space.smallest_and_largest()
    return TrialPlan(str(folder), module, task.to_dict(), 0, 1, threads=1, corners=corners, encoders=specs)


@pytest.mark.parametrize(
    ("name", "types"),
    [("mel_resnet50_frozen", ("resnet", "efficientnet")), ("wav2vec2_fast", ("wav2vec2", "hubert"))],
)
def test_a_trial_is_built_on_its_own_encoder_and_its_family_reads_no_more_than_alone(
    name: str, types: tuple[str, ...], prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    emotions = open_corpus(prepared_tone_corpus).emotions
    task = Task(str(prepared_tone_corpus), "tfds", emotions, 0, str(tmp_path), 1.0, "cpu")
    sources = {kind: find_pretrained("tiny", types=(kind,)) for kind in types}
    space = EncoderAxis.over(load_space(name), {kind: source.num_layers for kind, source in sources.items()})
    plan = plan_over(space, task, {kind: source.spec for kind, source in sources.items()}, tmp_path / "run")
    assert check_configurations(plan.corners, plan) is None
    for corner in plan.corners:
        own, settings = task_and_settings(corner, plan)
        assert source_from_spec(own.encoder).model_type == corner["encoder"]
        assert settings == {key: value for key, value in corner.items() if key != "encoder"}


@pytest.mark.slow
def test_a_search_over_two_image_backbones_of_different_depth_ends_with_the_winners_bundle(
    real_search: Search, backbones: str, tmp_path: Path
) -> None:
    sitting = real_search(
        tmp_path / "run", "--space", "mel_resnet50_finetune", "--encoder", backbones, "--fix", "channels=1",
        "--trials", "4", "--sampler", "random", "--max-concurrent", "1",
    )  # fmt: skip
    assert_whole(sitting, ("tiny-resnet", "tiny-efficient"), (3, 4))
    text = (sitting.folder / "best" / "bundle.json").read_text()
    best = max(sitting.trials.values(), key=lambda trial: trial.best_score)
    assert json.loads(text)["provenance"]["encoder"] == best.config["encoder"]
    kinds = {"tiny-resnet": "resnet", "tiny-efficient": "efficientnet"}
    assert f'"model_type": "{kinds[str(best.config["encoder"])]}"' in text


@pytest.mark.slow
def test_a_search_over_two_speech_encoders_that_is_killed_goes_on_to_the_same_board(
    command: Callable[..., Command], real_search: Search, prepared_tone_corpus: Path, speech: str, tmp_path: Path
) -> None:
    options = [
        "--space", "wav2vec2_fast", "--encoder", speech, "--fix", "max_clip_seconds=5.0", "--trials", "4",
        "--sampler", "random", "--scheduler", "none", "--max-concurrent", "1", "--cache-dir", str(tmp_path / "cache"),
    ]  # fmt: skip
    whole = real_search(tmp_path / "whole", *options)
    assert_whole(whole, ("tiny-wav2vec2", "tiny-hubert"), (1, 3))
    board = pd.read_csv(whole.folder / "leaderboard.csv")
    frozen = board[board["config.unfreeze_depth"] == 0]
    for path in map(Path, speech.split(",")):
        own = frozen[frozen["encoder"] == path.name]
        size = sum(tensor.numel() for tensor in load_file(path / "model.safetensors").values())
        assert set(own["parameters"] - own["trained_parameters"]) == {size}

    folder = tmp_path / "killed"
    begun = command(
        *options, "--out", str(folder), "--data", str(prepared_tone_corpus), "--split", "speaker_kfold:4:1",
        module="search.run",
    )  # fmt: skip
    begun.wait_for_epochs(folder, more=45)  # the first trial has 40
    begun.kill()
    assert not any(event["kind"] == "ended" for event in read_events(folder / "events.jsonl"))
    resumed = real_search(folder, "--resume", "--max-concurrent", "1", "--cache-dir", str(tmp_path / "cache"))
    assert_whole(resumed, ("tiny-wav2vec2", "tiny-hubert"), (1, 3))
    assert by_trial(folder) == by_trial(whole.folder)
