"""Networks that are trained are judged on test clips as their bundles would judge them, in every family."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser_models.backbones.family import build as build_backbone
from ser_models.bundle import load_bundle
from ser_models.encoders.family import build as build_encoder
from ser_models.mel.family import build as build_mel
from ser_models.task import Task
from ser_models.task_clips import open_task
from tests.models import test_backbone_family as backbones
from tests.models import test_encoder_family as encoders
from tests.models import test_mel_family as mel

EPOCHS = 3
CASES: dict[str, tuple[Any, dict[str, Any], Any]] = {
    "cnn": (build_mel, mel.configuration("cnn"), None),
    "autoencoder, fine-tuned": (build_mel, mel.configuration("autoencoder"), None),
    "autoencoder, frozen": (build_mel, mel.configuration("autoencoder", then="frozen"), None),
    "encoder, frozen": (build_encoder, encoders.configuration(0), encoders.of_type),
    "encoder, thawed late": (build_encoder, encoders.configuration(1, unfreeze_at_epoch=3), encoders.of_type),
    "encoder, all layers": (build_encoder, encoders.configuration(2), encoders.of_type),
    "backbone, frozen": (build_backbone, backbones.configuration(0), backbones.of_type),
    "backbone, fine-tuned": (build_backbone, backbones.configuration(2), backbones.of_type),
}


@pytest.fixture
def judging_task(task: Task) -> Task:
    """One whose split has test clips."""
    return dataclasses.replace(task, split="speaker_kfold:3:1")


@pytest.mark.parametrize("case", CASES)
def test_the_best_epoch_says_of_test_clips_what_its_bundle_says(case: str, judging_task: Task, tmp_path: Path) -> None:
    build, config, of_type = CASES[case]
    task = judging_task
    if of_type is not None:
        task = of_type(task, "wav2vec2" if build is build_encoder else "resnet")
    trained = build(config, task, seed=0, max_epochs=EPOCHS)
    list(trained.trainer.run())
    trained.export(tmp_path / "best", {})
    best = trained.trainer.history[trained.trainer.best_epoch - 1]

    on_validation = build(config, task, seed=0, max_epochs=EPOCHS).trainer
    on_validation.load_state(trained.trainer.state())
    predicted = on_validation.predict_with_best_weights().argmax(axis=1)
    assert np.mean(predicted == on_validation.data.validation_labels) == pytest.approx(best.val_accuracy)

    judged = dataclasses.replace(task, judged="test")
    trainer = build(config, judged, seed=0, max_epochs=EPOCHS).trainer
    trainer.load_state(trained.trainer.state())
    probabilities = trainer.predict_with_best_weights()
    clips, bundle = open_task(judged), load_bundle(tmp_path / "best")
    assert set(clips.speakers[clips.validation]) == set(clips.split.actors("test"))
    expected = [bundle.probabilities(clips.corpus.waveforms.float32(int(clip))) for clip in clips.validation]
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    assert np.ptp(probabilities, axis=0).max() > 1e-3  # clips that all look alike would show nothing


def test_before_the_first_epoch_there_is_nothing_to_judge(task: Task) -> None:
    trainer = build_mel(mel.configuration("cnn"), task, seed=0, max_epochs=1).trainer
    with pytest.raises(ValueError, match="no epoch was trained yet"):
        trainer.predict_with_best_weights()
