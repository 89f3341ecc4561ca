"""The linear probe is scikit-learn's pipeline on the pooled layers, and its report is what a board needs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ser_data.corpus import open_corpus
from ser_models.encoders.data import cached_rows, encoder_on_device
from ser_models.encoders.prefix import POOLED
from ser_models.encoders.probe import linear_probe
from ser_models.encoders.source import find_encoder
from ser_models.task import Task
from ser_models.task_clips import open_task


@pytest.fixture
def task(prepared_tone_corpus: Path, tmp_path: Path) -> Task:
    emotions = open_corpus(prepared_tone_corpus).emotions
    spec = find_encoder("tiny", types=("whisper",)).spec
    return Task(str(prepared_tone_corpus), "tfds", emotions, 0, str(tmp_path), 1.0, "cpu", encoder=spec)


def test_the_probe_scores_what_a_scikit_learn_pipeline_scores(task: Task) -> None:
    clips, encoder = open_task(task), encoder_on_device(task)
    pooled = cached_rows(task, (POOLED,), 5.0)[POOLED]
    means = (encoder.num_layers + 1) * encoder.hidden_size
    train, validation = (pooled.vectors(part, 0, means).double().numpy() for part in (clips.train, clips.validation))
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=1e-3, max_iter=1000, class_weight="balanced"))
    oracle.fit(train, clips.labels[clips.train])
    labels, predictions = clips.labels[clips.validation], oracle.predict(validation)
    report = linear_probe(task, max_clip_seconds=5.0).report
    assert report["val_uar"] == pytest.approx(balanced_accuracy_score(labels, predictions))
    assert report["val_accuracy"] == pytest.approx(np.mean(labels == predictions))
    assert report["val_macro_f1"] == pytest.approx(f1_score(labels, predictions, average="macro"))
    classes = list(range(len(task.emotions)))
    assert report["val_loss"] == pytest.approx(log_loss(labels, oracle.predict_proba(validation), labels=classes))


def test_the_report_counts_right_clips_by_speaker_and_emotion(task: Task) -> None:
    clips = open_task(task)
    report = linear_probe(task, max_clip_seconds=5.0).report
    hits = np.array(report["val_hits"])
    assert hits.shape == (len(np.unique(clips.speakers[clips.validation])), len(task.emotions))
    assert hits.sum() / len(clips.validation) == pytest.approx(report["val_accuracy"])


def test_two_emotions_have_a_roc_auc_too(task: Task) -> None:
    two = replace(task, emotions=("happy", "sad"))
    report = linear_probe(two, max_clip_seconds=5.0).report
    assert 0 <= report["val_roc_auc"] <= 1
    assert "val_roc_auc" not in linear_probe(task, max_clip_seconds=5.0).report
