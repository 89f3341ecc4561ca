"""Runs' folders made up for tests of what is shown of them: written as a search writes them, without one."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from search.record import Record
from ser_data.corpus import open_corpus
from ser_models.trial import COST
from tests.search.boards import FAIR, GOOD, POOR, config_json, epoch

#: Trials as (configuration, right clips by epoch, last event and its reason).
Trials = Sequence[tuple[Mapping[str, Any], Sequence[Sequence[Sequence[int]]], str, str]]
TRIALS: Trials = (
    ({"network": "cnn", "rate": 0.01}, (POOR, FAIR, GOOD), "done", ""),
    ({"network": "crnn", "rate": 0.1, "units": 64}, (POOR,), "stopped", "rung 1: 0.333 < 0.500"),
    ({"network": "<b>mlp</b>", "rate": 0.001}, (), "failed", "ValueError: <script>alert(1)</script> & more"),
    ({"network": "cnn", "rate": 0.3}, (FAIR, FAIR), "", ""),
)


def write_run(folder: Path, trials: Trials = TRIALS, *, config: dict[str, Any] | None = None, ended: str = "trials",
              costs_gmacs: Sequence[float] | None = None) -> Path:  # fmt: skip
    """A search's folder with *trials*; *ended* is what ended it, empty where it goes on.

    *costs_gmacs* is what the network of each trial costs to use; without it nobody counted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or config_json()))
    # the disk's time is nobody's business here
    with mock.patch("os.fsync"), Record(folder / "events.jsonl") as record:
        clock = 1000.0

        def append(event: dict[str, Any]) -> None:
            nonlocal clock
            clock += 1.0
            record.append({**event, "at": clock})

        append({"kind": "sitting"})
        append({"kind": "resources", "cpus": 1, "gpus": 0.5})
        for number, (settings, hits, kind, reason) in enumerate(trials):
            told = {"number": number, "params": dict(settings), "config": dict(settings), "origin": "tpe"}
            append({"kind": "suggested", **told})
            for which, one in enumerate(hits, start=1):
                costs = {} if costs_gmacs is None else {COST: costs_gmacs[number], "num_parameters": 1000 - number}
                append({"kind": "epoch", "number": number, "report": {**epoch(which, one), **costs}})
            if kind:
                append({"kind": kind, "number": number, "reason": reason})
        if ended:
            append({"kind": "ended", "reason": ended})
    return folder


def judged_config(corpus: Path) -> dict[str, Any]:
    """``config.json`` of a search on the prepared *corpus*, whose finalists were judged."""
    opened = open_corpus(corpus)
    config = config_json(prepared=str(corpus), manifest_hash=opened.manifest_hash, emotions=list(opened.emotions))
    config["judged"] = {"round": 1, "finalists": ["t0000"], "seeds": 2, "splits": ["tfds"], "at": "2026-01-01"}
    return config


def add_finalists(run: Path, corpus: Path) -> None:
    """The finalists' board of *run* and what they said of every clip of *corpus*: one that is mostly right, an SVM."""
    board = pd.DataFrame(
        {"rank": [1, 2, 3], "name": ["t0000", "ensemble", "SVM"], "role": ["finalist", "ensemble", "classical"],
         "trainings": [2, 2, 1], "val_uar": [0.8, np.nan, 0.5], "test_uar": [0.7, 0.72, 0.4],
         "test_uar_low": [0.6, 0.62, 0.3], "test_uar_high": [0.8, 0.82, 0.5], "test_uar_sd": [0.01, np.nan, np.nan],
         "test_accuracy": [0.69, 0.71, 0.41], "test_macro_f1": [0.68, 0.7, 0.39]}
    )  # fmt: skip
    board.to_csv(run / "finalists.csv", index=False)
    (run / "finalists.md").write_text("# Finalists\n\n- The winner t0000 (.700) gains +.300.\n\n| rank |\n")
    opened = open_corpus(corpus)
    labels = opened.labels()
    num_classes = len(opened.emotions)
    generator = np.random.default_rng(0)
    tables = []
    for name, sure in (("t0000", 3.0), ("SVM", 0.5)):
        logits = generator.normal(size=(len(labels), num_classes))
        logits[np.arange(len(labels)), labels] += sure
        shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        names = np.array(opened.emotions)
        tables.append(
            pd.DataFrame(
                {"row": name, "clip": opened.clips["clip"], "speaker": opened.clips["actor"], "emotion": names[labels],
                 "predicted": names[shares.argmax(axis=1)],
                 **{emotion: shares[:, place].round(4) for place, emotion in enumerate(opened.emotions)}}
            )
        )  # fmt: skip
    folder = run / "finalists" / "round-1"
    folder.mkdir(parents=True)
    pd.concat(tables).to_csv(folder / "test_predictions.csv", index=False)
    (folder / "judged.json").write_text("{}")
