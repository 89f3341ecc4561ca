"""Ray's own autoscaler at work on a search: it starts what waits for a node at once, and lets go what idles."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from search.record import read_events
from search.study import trials_of
from tests.search.knob_search import ROOT


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nodes_start_for_all_trials_that_wait_and_those_of_trials_that_ended_go_before_the_last_trial(
    prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    command = [sys.executable, "-m", "tests.clusters.autoscaled_search", str(tmp_path), str(prepared_tone_corpus)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"workers": [3, 1], "running": [2], "code": 0}, done.stdout
    assert "3 cores, 0 GPUs" in done.stdout  # that are not there yet
    trials = trials_of(read_events(tmp_path / "run/events.jsonl"))
    assert [trial.outcome for trial in trials.values()] == ["completed"] * 3
