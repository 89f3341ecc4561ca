"""What a finished search shows in W&B beside its trials: the board, what the finalists are worth, the best bundle.

All of it is read from the search's folder, so that it can be sent at any time after.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from search.finalists.board import CSV_FILE as FINALISTS_FILE
from search.finalists.judging import emotions_of, last_predictions
from search.leaderboard import CSV_FILE
from search.result_keys import BEST_SCORE, SCORE
from search.run_folder import BEST_FOLDER
from ser_data.sources import AUDIO_SUFFIXES
from ser_models import metrics

RESULTS_TYPE = "results"  # job type of the run that has them, and the end of its id
_PROVENANCE_FILE = "bundle.json"


def results_digest(folder: Path) -> str:
    """A short name for what there is to send: eight digits that change with it."""
    state = 0
    for path in _sources(folder):
        state = zlib.crc32(path.name.encode(), state)
        state = zlib.crc32(path.read_bytes(), state)
    return f"{state:08x}"


def _sources(folder: Path) -> Iterator[Path]:
    tables = [folder / CSV_FILE, folder / FINALISTS_FILE]
    yield from (path for path in tables if path.is_file())
    predictions = last_predictions(folder)
    if predictions is not None:
        yield predictions
    yield from _bundle_files(folder)


def _bundle_files(folder: Path) -> list[Path]:
    """Of the winner's bundle; whatever else may lie there, audio stays here."""
    found = (folder / BEST_FOLDER).glob("*")
    return sorted(path for path in found if path.is_file() and path.suffix.lower() not in AUDIO_SUFFIXES)


def log_results(run: Any, folder: Path, config: Mapping[str, Any]) -> None:
    """Log everything to *run*, W&B's, as far as it is there.

    Args:
        run: open
        folder: the search's
        config: its ``config.json``
    """
    import wandb

    logged: dict[str, Any] = {}
    if (folder / CSV_FILE).is_file():
        board = pd.read_csv(folder / CSV_FILE)
        logged["leaderboard"] = _table(board)
        if len(board):
            run.summary.update({BEST_SCORE: float(board[SCORE].max()), "trials": len(board)})
    if (folder / FINALISTS_FILE).is_file():
        logged["finalists"] = _table(pd.read_csv(folder / FINALISTS_FILE))
    predictions = last_predictions(folder)
    if predictions is not None:
        judged = pd.read_csv(predictions, dtype={"row": str, "speaker": str})
        emotions = emotions_of(judged)
        logged["recall_by_class"] = _table(recall_by_class(judged, emotions))
        logged["scores_by_speaker"] = _table(scores_by_speaker(judged, emotions))
        for name, rows in judged.groupby("row", sort=False):
            logged[f"confusion/{name}"] = wandb.plot.confusion_matrix(
                y_true=_classes(rows["emotion"], emotions), preds=_classes(rows["predicted"], emotions),
                class_names=emotions, title=f"{name} on test",
            )  # fmt: skip
    if logged:
        run.log(logged)
    files = _bundle_files(folder)
    if files:
        provenance = _provenance(folder / BEST_FOLDER / _PROVENANCE_FILE)
        artifact = wandb.Artifact(f"best-{config['search_id']}", type="model", metadata=provenance)
        for path in files:
            artifact.add_file(str(path), policy="immutable")  # no second copy in the client's cache folder
        run.log_artifact(artifact)


def _provenance(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text())["provenance"])
    except (OSError, ValueError, KeyError):
        return {}


def _classes(names: "pd.Series[str]", emotions: list[str]) -> list[int]:
    return [emotions.index(name) for name in names]


def recall_by_class(judged: pd.DataFrame, emotions: list[str]) -> pd.DataFrame:
    """Recall of each class by each row of the finalists' board.

    Args:
        judged: ``test_predictions.csv``
        emotions: the classes

    Returns:
        ``row``, ``emotion``, ``clips``, ``recall`` in [0, 1]
    """
    found = []
    for name, rows in judged.groupby("row", sort=False):
        for emotion in emotions:
            own = rows[rows["emotion"] == emotion]
            if len(own):
                found.append((name, emotion, len(own), float((own["predicted"] == emotion).mean())))
    return pd.DataFrame(found, columns=["row", "emotion", "clips", "recall"])


def scores_by_speaker(judged: pd.DataFrame, emotions: list[str]) -> pd.DataFrame:
    """UAR and accuracy of each row of the finalists' board on each test speaker.

    Args:
        judged: ``test_predictions.csv``
        emotions: the classes

    Returns:
        ``row``, ``speaker``, ``clips``, ``uar`` and ``accuracy`` in [0, 1]
    """
    found = []
    for (name, speaker), rows in judged.groupby(["row", "speaker"], sort=False):
        labels, predicted = (np.array(_classes(rows[column], emotions)) for column in ("emotion", "predicted"))
        matrix = metrics.confusion(labels, predicted, len(emotions))
        found.append((name, speaker, len(rows), metrics.uar(matrix), metrics.accuracy(matrix)))
    return pd.DataFrame(found, columns=["row", "speaker", "clips", "uar", "accuracy"])


def _table(frame: pd.DataFrame) -> Any:
    import wandb

    plain = frame.astype(object).where(frame.notna(), None)
    rows: list[Any] = plain.to_numpy().tolist()
    return wandb.Table(columns=[str(name) for name in frame.columns], data=rows, allow_mixed_types=True)
