"""Every space is built for real: at each corner, one step of training, and no parameter that nobody reads."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search.families import get_family
from search.space import Space, known_spaces, load_space
from ser_data.corpus import open_corpus
from ser_models.config import ConfigError
from ser_models.pretrained.choice import find_pretrained
from ser_models.task import Task


@pytest.fixture
def task(prepared_tone_corpus: Path, tmp_path: Path) -> Task:
    emotions = open_corpus(prepared_tone_corpus).emotions
    return Task(str(prepared_tone_corpus), "tfds", emotions, 0, str(tmp_path), 1.0, "cpu")


def with_smallest_encoder(name: str, task: Task) -> tuple[Space, Task]:
    """A space and its task, over random weights of a few layers where it searches over pretrained networks."""
    space = load_space(name)
    if space.encoder is None:
        return space, task
    source = find_pretrained("tiny", types=space.encoder_types)
    return space.bound_to(source.num_layers), replace(task, encoder=source.spec)


@pytest.mark.parametrize("name", known_spaces())
def test_every_corner_of_a_space_is_built_trained_and_read_to_its_last_parameter(name: str, task: Task) -> None:
    space, task = with_smallest_encoder(name, task)
    build = importlib.import_module(get_family(space.family).module).build
    torch.set_num_threads(1)
    for config in space.corners():
        trial = build(config, task, seed=0, max_epochs=1, probe_clips=6)
        result = next(trial.trainer.run())
        assert result.train_loss > 0
        assert set(trial.read_parameters) == set(config), config


@pytest.mark.parametrize("name", known_spaces())
def test_a_parameter_that_the_family_does_not_read_is_refused_by_name(name: str, task: Task) -> None:
    space, task = with_smallest_encoder(name, task)
    build = importlib.import_module(get_family(space.family).module).build
    config = {**space.smallest_and_largest()[1], "warmth": 0.5}
    with pytest.raises(ConfigError, match="warmth"):
        build(config, task, seed=0, max_epochs=1, probe_clips=6)
