"""Trials and a ``config.json`` made up for tests of what is shown of them."""

from collections.abc import Sequence
from typing import Any

from search.parameters import Value
from search.study import Outcome, StudyTrial

VAL_TOTALS = [[2, 2], [2, 2], [2, 2]]  # clips by validation speaker and emotion


def config_json(**data: Any) -> dict[str, Any]:
    """What ``config.json`` holds after a search over two emotions and three validation speakers."""
    return {
        "format": 1,
        "search_id": "beef0123",
        "command": "python search/run.py --space toy",
        "arguments": {"space": "toy", "seed": 3, "sampler": "tpe", "scheduler": "asha"},
        "plan": {"family": "mfcc", "num_trials": 8, "max_epochs": 3, "grace": 1},
        "versions": {"python": "3.11.0", "ray": "2.60.0"},
        "commit": "0123456789ab",
        "data": {
            "corpus": "crema_d",
            "manifest_hash": "fedcba9876543210" * 4,
            "generated": False,
            "split": "tfds",
            "leaky": False,
            "notes": [],
            "actors": {"train": 4, "validation": 3, "test": 0},
            "val_totals": VAL_TOTALS,
            **data,
        },
    }


def epoch(number: int, hits: Sequence[Sequence[int]], **values: Any) -> dict[str, Any]:
    """The report of one epoch with *hits* right clips by validation speaker and emotion."""
    score = sum(map(sum, hits)) / sum(map(sum, VAL_TOTALS))
    return {
        "epoch": number,
        "train_loss": 1 / number,
        "val_loss": 2 / number,
        "val_uar": score,
        "val_accuracy": score - 0.01,
        "val_macro_f1": score - 0.02,
        "seconds": 1.25,
        "clips_per_second": 50.0,
        "val_hits": [list(row) for row in hits],
        "num_parameters": 1234,
        **values,
    }


def trial(
    number: int,
    epochs: Sequence[dict[str, Any]],
    outcome: Outcome | None = "completed",
    *,
    reason: str = "",
    **config: Value,
) -> StudyTrial:
    """A trial of the study."""
    return StudyTrial(number, dict(config), dict(config), "tpe", list(epochs), outcome, reason)


POOR = [[1, 0], [1, 1], [0, 1]]  # .333
FAIR = [[1, 1], [1, 1], [1, 1]]  # .500
GOOD = [[2, 1], [2, 2], [1, 2]]  # .833
