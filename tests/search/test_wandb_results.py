"""What W&B gets of a finished search beside its trials: tables that agree with an outside oracle, and no audio."""

import json
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score

from search.tracking.results import recall_by_class, results_digest, scores_by_speaker
from search.tracking.writer import WandbWriter
from tests.search.boards import config_json
from tests.search.wandb_server import WandbServer

EMOTIONS = ["anger", "happy", "sad"]


@pytest.fixture
def judged() -> pd.DataFrame:
    """Predictions of two rows of a finalists' board on six clips of two speakers."""
    truth = ["anger", "happy", "sad", "anger", "happy", "sad"]
    answers = {"t0001": ["anger", "happy", "sad", "happy", "happy", "anger"], "SVM": ["sad"] * 6}
    rows = [
        (name, f"c{place}", "10"[place % 2], emotion, predicted, 0.2, 0.3, 0.5)
        for name, several in answers.items()
        for place, (emotion, predicted) in enumerate(zip(truth, several, strict=True))
    ]
    return pd.DataFrame(rows, columns=["row", "clip", "speaker", "emotion", "predicted", *EMOTIONS])


def test_recalls_and_speakers_scores_are_those_of_scikit_learn(judged: pd.DataFrame) -> None:
    recalls = recall_by_class(judged, EMOTIONS)
    for name, rows in judged.groupby("row"):
        wanted = recall_score(rows["emotion"], rows["predicted"], labels=EMOTIONS, average=None, zero_division=0)
        assert recalls[recalls["row"] == name]["recall"].tolist() == pytest.approx(list(wanted))
    scores = scores_by_speaker(judged, EMOTIONS).set_index(["row", "speaker"])
    assert len(scores) == 4
    for (name, speaker), rows in judged.groupby(["row", "speaker"]):
        wanted = balanced_accuracy_score(rows["emotion"], rows["predicted"])
        assert scores.loc[(name, speaker), "uar"] == pytest.approx(wanted)
        assert scores.loc[(name, speaker), "clips"] == 3


@pytest.fixture
def folder(judged: pd.DataFrame, tmp_path: Path) -> Path:
    """That of a search with a judged round, and a bundle beside which somebody left a clip."""
    found = tmp_path / "run"
    the_round = found / "finalists" / "round-1"
    the_round.mkdir(parents=True)
    (the_round / "round.json").write_text(json.dumps({"number": 1, "candidates": [], "seeds": 1, "splits": ["x"]}))
    (the_round / "judged.json").write_text("{}")
    judged.to_csv(the_round / "test_predictions.csv", index=False)
    pd.DataFrame({"rank": [1, 2], "trial_id": ["t0001", "t0000"], "val_uar": [0.75, None]}).to_csv(
        found / "leaderboard.csv", index=False
    )
    pd.DataFrame({"rank": [1], "name": ["t0001"], "test_uar": [0.5]}).to_csv(found / "finalists.csv", index=False)
    (found / "best").mkdir()
    (found / "best" / "bundle.json").write_text(json.dumps({"provenance": {"trial_id": "t0001", "seed": 3}}))
    (found / "best" / "model.safetensors").write_bytes(b"weights")
    (found / "best" / "clip.WAV").write_bytes(b"RIFF")
    return found


def test_board_finalists_and_bundle_are_sent_once_and_no_audio(wandb_server: WandbServer, folder: Path) -> None:
    config = config_json()
    config["members"] = []  # no sweep of its own
    writer = WandbWriter(folder, config, mode="online", project="p", entity=None)
    assert writer.publish()
    run = wandb_server.runs["beef0123-results"]
    assert {"leaderboard", "finalists", "recall_by_class", "scores_by_speaker"} <= set(run.summary)
    assert {name for name in run.summary if name.startswith("confusion/")} == {
        "confusion/t0001_table", "confusion/SVM_table"
    }  # fmt: skip
    assert run.summary["best_val_uar"] == 0.75
    tables = {name: json.loads(content) for name, content in run.files.items() if name.endswith(".table.json")}
    board = next(table for name, table in tables.items() if "leaderboard" in name)
    assert board["data"] == [[1, "t0001", 0.75], [2, "t0000", None]]
    assert set(wandb_server.artifacts["best-beef0123"]) == {"bundle.json", "model.safetensors", "manifest.json"}
    assert wandb_server.artifact_metadata["best-beef0123"] == {"trial_id": "t0001", "seed": 3}
    assert not any(b"RIFF" in content for files in wandb_server.artifacts.values() for content in files.values())
    assert not writer.publish()
    (folder / "best" / "model.safetensors").write_bytes(b"better weights")
    assert writer.publish()
    assert wandb_server.artifacts["best-beef0123"]["model.safetensors"] == b"better weights"


def test_the_digest_changes_with_what_there_is_to_send_alone(folder: Path) -> None:
    before = results_digest(folder)
    (folder / "best" / "clip.WAV").write_bytes(b"another")
    assert results_digest(folder) == before
    with (folder / "leaderboard.csv").open("a") as file:
        file.write("3,t0002,0.1\n")
    assert results_digest(folder) != before
