"""What the spaces over encoders promise, read off the models that they build."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from search.space import encoder_spaces, load_space
from ser_data.corpus import open_corpus
from ser_models.encoders import family
from ser_models.encoders.source import find_encoder
from ser_models.task import Task


class Drawn:
    """Answers a space's questions at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        return self._random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._random.randint(low, high)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._random.uniform(low, high)


@pytest.fixture
def task(prepared_tone_corpus: Path, tmp_path: Path) -> Task:
    emotions = open_corpus(prepared_tone_corpus).emotions
    return Task(str(prepared_tone_corpus), "tfds", emotions, 0, str(tmp_path), 1.0, "cpu")


def configurations(name: str, number: int) -> list[dict[str, Any]]:
    space = load_space(name).bound_to(2)
    return [space.configure(Drawn(seed)) for seed in range(number)]


def test_trials_of_wav2vec2_full_differ_in_trained_parameters_and_in_mask_rate(task: Task) -> None:
    encoder = find_encoder("tiny", types=("wav2vec2",))
    task = Task(**{**task.__dict__, "encoder": encoder.spec})
    torch.set_num_threads(1)
    trained_by_depth: dict[int, set[int]] = {}
    rates = set()
    for config in configurations("wav2vec2_full", 30):
        if config.get("adapt") == "lora":
            continue
        model: Any = family.build(config, task, seed=0, max_epochs=1, probe_clips=6).trainer.model
        backbone = sum(parameter.numel() for layer in model.backbone_layers() for parameter in layer)
        trained_by_depth.setdefault(config["unfreeze_depth"], set()).add(backbone)
        masks = model._plan.masks
        rates.add(None if masks is None else (masks.time_prob, masks.feature_prob))
    assert set(trained_by_depth) == {0, 1, 2}
    assert trained_by_depth[0] == {0}
    (one,), (two,) = trained_by_depth[1], trained_by_depth[2]
    assert two == 2 * one > 0
    assert None in rates
    assert len(rates) > 5


@pytest.mark.parametrize("name", encoder_spaces())
def test_durations_end_at_five_seconds(name: str) -> None:
    assert all(config["max_clip_seconds"] <= 5 for config in configurations(name, 20))


@pytest.mark.parametrize("name", [name for name in encoder_spaces() if name.endswith("_fast")])
def test_a_fast_space_keeps_the_prefix_cacheable_and_the_schedule_short(name: str) -> None:
    for config in configurations(name, 20):
        assert config["mask_at"] == "boundary"
        assert config["unfreeze_depth"] <= 4
        with_layers = config["epochs"] - (config["unfreeze_at_epoch"] - 1) if config["unfreeze_depth"] else 0
        assert with_layers <= 8


@pytest.mark.parametrize("name", [name for name in encoder_spaces() if name.endswith("_full")])
def test_a_full_space_masks_the_input_and_reaches_every_depth(name: str) -> None:
    space = load_space(name).bound_to(24)
    assert space.values_of("unfreeze_depth") == tuple(range(25))
    assert all(config["mask_at"] == "input" for config in configurations(name, 5))


@pytest.mark.parametrize("name", encoder_spaces())
def test_the_default_encoder_is_pinned_to_a_revision_and_named_in_the_docstring(name: str) -> None:
    import importlib

    module = importlib.import_module(f"search.spaces.{name}")
    repository, _, revision = module.ENCODER.partition("@")
    assert len(revision) == 40
    assert repository in module.__doc__
