"""A search under Ray whose trials are trained by two processes each, on cores in place of GPUs."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import search.session
from search.trial_plan import TrialPlan
from tests.search.conftest import Search

OPTIONS = (
    "--space", "wav2vec2_fast", "--encoder", "tiny", "--scheduler", "none", "--trials", "1",
    "--fix", "unfreeze_depth=1", "--fix", "spec_augment=false", "--fix", "label_smoothing=0.1",
    "--fix", "head_lr=0.001", "--fix", "dropout=0.1",
)  # fmt: skip


@pytest.mark.slow
def test_a_search_whose_trials_are_trained_by_two_processes_differs_by_their_dropout_alone(
    real_search: Search, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trial_plan = search.session.make_trial_plan

    def with_two(*args: Any) -> TrialPlan:
        return dataclasses.replace(make_trial_plan(*args), ranks=2)

    alone = real_search(tmp_path / "alone", *OPTIONS)
    monkeypatch.setattr(search.session, "make_trial_plan", with_two)
    together = real_search(tmp_path / "together", *OPTIONS)
    assert (alone.code, together.code) == (0, 0), together.text
    assert (tmp_path / "together" / "best" / "bundle.json").exists()
    found, expected = (
        [epoch["train_loss"] for epoch in sitting.trials[0].epochs] for sitting in (together, alone)
    )  # fmt: skip
    assert found != expected
    assert found == pytest.approx(expected, abs=0.15)
