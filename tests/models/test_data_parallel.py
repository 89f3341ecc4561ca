"""A trial in several processes takes the steps of one in a single process, and none outlives the others."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from search.trial import epochs_of_trial
from search.trial_plan import TrialPlan, checkpoint_file, error_file
from search.tune_adapters import _reason
from ser_models import ranks
from ser_models.data_parallel import Group, Share
from ser_models.encoders.source import find_encoder
from ser_models.micro_batches import OutOfMemoryError
from ser_models.ranks import RankDiedError, Recipe, trained_by
from ser_models.task import Task
from ser_models.trial import Trial
from tests.models.encoder_clips import config_of, extractor_of
from tests.models.learning_clips import learning_data
from tests.models.shared_family import FAULTS
from tests.models.test_encoder_family import LORA, configuration

EPOCHS = 2


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pretrained encoder of three layers in which nothing is dropped."""
    folder = tmp_path_factory.mktemp("encoder") / "small"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config_of("wav2vec2")).save_pretrained(folder)
    extractor_of("wav2vec2").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", autouse=True)
def ended_ranks() -> Iterator[None]:
    yield
    ranks.end_kept_ranks()


def quiet_configuration(depth: int, **changes: Any) -> dict[str, Any]:
    """Nothing drawn at random but the weights and the order; batches of 13 in micro-batches."""
    none: dict[str, Any] = {"dropout": 0.0, "accumulation": 2, "batch_size": 13, "epochs": EPOCHS}
    if depth:
        masks = ("mask_time_prob", "mask_time_length", "mask_feature_prob", "mask_feature_length")
        none |= {"spec_augment": False, **dict.fromkeys(masks, ...)}
    return configuration(depth, **{**none, **changes})


@pytest.fixture
def recipe(task: Task, encoder_folder: Path) -> Any:
    """``recipe(depth, **changes of the configuration)``."""
    spec = find_encoder(str(encoder_folder), types=("wav2vec2",)).spec
    own = dataclasses.replace(task, encoder=spec, precision="fp32", cache_precision="fp32")

    def make(depth: int, **changes: Any) -> Recipe:
        config = quiet_configuration(depth, **changes)
        return Recipe("ser_models.encoders.family", config, own, seed=3, max_epochs=EPOCHS, threads=1)

    return make


def trained(recipe: Recipe, processes: int, state: dict[str, Any] | None = None, epochs: int = EPOCHS) -> Trial:
    with trained_by(processes, recipe) as lead:
        trial = recipe.build()
        if state is not None:
            trial.trainer.load_state(state)
        lead(trial.trainer)
        for result in trial.trainer.run():
            if result.epoch == epochs:
                break
    return trial


def assert_same_training(found: Trial, expected: Trial) -> None:
    for one, other in zip(found.trainer.history, expected.trainer.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, abs=1e-5)
        assert one.val_loss == pytest.approx(other.val_loss, abs=1e-5)
        assert one.val_hits == other.val_hits
    weights = expected.trainer.model.state_dict()
    for name, tensor in found.trainer.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[name], atol=1e-5, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("depth", "changes"),
    [(0, {}), (2, {}), (3, {"unfreeze_at_epoch": 2}), (2, LORA | {"lora_dropout": 0.0})],
    ids=["frozen", "two layers", "all layers, thawing", "adapters"],
)
def test_two_processes_take_the_steps_of_one(recipe: Any, depth: int, changes: dict[str, Any]) -> None:
    ours = recipe(depth, **changes)
    assert_same_training(trained(ours, 2), trained(ours, 1))


def test_a_batch_of_fewer_clips_than_processes_is_the_same_step(recipe: Any) -> None:
    ours = recipe(1, batch_size=1, epochs=1)
    assert_same_training(trained(ours, 2), trained(ours, 1))


@pytest.mark.parametrize(("first", "then"), [(2, 1), (1, 2)])
def test_a_checkpoint_goes_on_with_another_number_of_processes(recipe: Any, first: int, then: int) -> None:
    ours = recipe(2)
    begun = trained(ours, first, epochs=1)
    assert begun.trainer.epoch == 1
    state = begun.trainer.state()
    assert_same_training(trained(ours, then, state=state), trained(ours, 1))


class Deaf(Group):
    """A rank that hears nothing of the others."""

    def _add_up(self, values: torch.Tensor) -> None:
        pass


def test_each_process_draws_dropout_of_its_own_and_the_first_as_if_it_were_alone(recipe: Any) -> None:
    seeds = []
    for group in (Group(), Deaf(Share(0, 2)), Deaf(Share(1, 2))):
        trainer = recipe(0).build().trainer
        trainer.join(group)
        trainer.model.register_forward_hook(lambda *_: seeds.append(torch.initial_seed()))
        trainer.data = dataclasses.replace(trainer.data, validation=EmptySource())
        trainer.follow(1)
    assert len(set(seeds)) == 2
    assert seeds[0] == seeds[len(seeds) // 3] != seeds[-1]


class EmptySource:
    """Batches of no clips."""

    def __len__(self) -> int:
        return 0

    def epoch(self, generator: torch.Generator | None) -> Iterator[Any]:
        return iter(())

    def shares(self, generator: torch.Generator | None, share: Share) -> Iterator[Any]:
        return iter(())


def test_batches_that_cannot_be_shared_are_refused(faulty: Any) -> None:
    trainer = faulty("none").build().trainer
    trainer.data = dataclasses.replace(trainer.data, train=learning_data().train)
    with pytest.raises(ValueError, match="cannot be shared by several processes"):
        trainer.join(Group(Share(0, 2)))
    trainer.join(Group())


@pytest.fixture
def faulty(task: Task) -> Any:
    """``faulty(fault, at)``: the recipe of a trial whose rank *at* misbehaves in its second epoch."""

    def make(fault: str, at: int = 1) -> Recipe:
        assert fault in FAULTS
        return Recipe("tests.models.shared_family", {"fault": fault, "at": at}, task, seed=0, max_epochs=3, threads=1)

    return make


def test_memory_that_runs_out_once_on_one_process_is_its_own_affair(faulty: Any) -> None:
    found = trained(faulty("out of memory once"), 2, epochs=3)
    assert_same_training(found, trained(faulty("none"), 1, epochs=3))


@pytest.mark.parametrize(
    ("fault", "at", "error", "message"),
    [
        ("out of memory", 1, OutOfMemoryError, "The memory of cpu does not hold a batch of 8 clips taken 2 at a time"),
        ("dies", 1, RankDiedError, "number 2 of the 2 processes that trained this trial together is gone"),
        ("raises", 0, ValueError, "a fault in the second epoch"),
    ],
)
def test_a_process_that_fails_ends_the_others_and_says_why(
    faulty: Any, fault: str, at: int, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message), trained_by(2, faulty(fault, at)) as lead:
        trial = faulty(fault, at).build()
        lead(trial.trainer)
        helpers = process_ids()
        list(trial.trainer.run())
    assert len(trial.trainer.history) == 1
    assert helpers and not any(map(is_running, helpers))


def process_ids() -> list[int]:
    assert ranks._kept is not None
    return ranks._kept.process_ids


def is_running(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return "zombie" not in Path(f"/proc/{pid}/status").read_text()
    return False


def test_a_trial_fails_by_what_went_wrong_in_another_process(task: Task, tmp_path: Path) -> None:
    config = {"fault": "raises", "at": 1}
    plan = TrialPlan(
        str(tmp_path), "tests.models.shared_family", task.to_dict(), seed=0, max_epochs=3, threads=1, ranks=2
    )
    reports = epochs_of_trial(0, config, plan)
    assert next(reports)["epoch"] == 1
    with pytest.raises(ValueError, match="a fault in the second epoch"):
        next(reports)
    assert _reason(error_file(tmp_path, 0)) == (
        "ValueError: a fault in the second epoch (in process 2 of the 2 that trained this trial together)"
    )
    assert "_misbehave" in error_file(tmp_path, 0).read_text()  # where it failed there
    assert checkpoint_file(tmp_path, 0).exists()


def test_a_trial_that_was_stopped_leaves_its_processes_for_the_next(faulty: Any) -> None:
    thread = threading.Thread(target=trained, args=(faulty("none"), 2), kwargs={"epochs": 1})  # as Tune has it
    thread.start()
    thread.join()
    helpers = process_ids()
    trained(faulty("none"), 2)
    assert process_ids() == helpers and all(map(is_running, helpers))


def test_a_trial_that_was_stopped_before_its_first_epoch_leaves_nothing_to_the_next(faulty: Any) -> None:
    def stopped() -> Generator[None, None, None]:
        with trained_by(2, faulty("none")):
            yield

    trial = stopped()
    next(trial)
    trial.close()
    state = trained(faulty("none"), 1, epochs=1).trainer.state()
    assert_same_training(trained(faulty("none"), 2, state=state), trained(faulty("none"), 1))


def test_processes_end_with_one_that_is_killed(emotional_corpus: Path, task: Task, tmp_path: Path) -> None:
    program = f"""
import threading
from ser_models import ranks
from ser_models.ranks import Recipe, trained_by
from ser_models.task import Task
def work():
    recipe = Recipe("tests.models.shared_family", {{"fault": "none", "at": 0}}, Task.from_dict({task.to_dict()}),
                    seed=0, max_epochs=10**6, threads=1)
    with trained_by(2, recipe) as lead:
        trial = recipe.build()
        lead(trial.trainer)
        for result in trial.trainer.run():
            if result.epoch == 2:
                print(*ranks._kept.process_ids, flush=True)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    leader = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    (helper,) = map(int, leader.stdout.readline().split())
    assert is_running(helper)
    leader.kill()
    leader.wait()
    until = time.monotonic() + 20
    while is_running(helper) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_running(helper)
