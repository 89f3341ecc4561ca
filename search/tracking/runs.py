"""What a trial is in W&B: the id, name, configuration and tags of its run, what each epoch logs, and how it ends."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from search.encoders import ENCODER, encoder_of
from search.leaderboard import status_of
from search.result_keys import BEST_SCORE, EPOCH, HITS, SCORE
from search.rungs import rungs_reached
from search.space import REDUCTION_FACTOR
from search.study import StudyTrial

ENDED = frozenset({"completed", "stopped", "failed"})  # of these a run has one as a tag once it is whole
_INTERRUPTED = 255  # exit code of a run whose trial was cut off with its sitting, and may go on


def run_id(config: Mapping[str, Any], trial: StudyTrial) -> str:
    """The same in every sitting: ``<search id>-<trial id>``."""
    return f"{config['search_id']}-{trial.trial_id}"


def run_settings(trial: StudyTrial, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What ``wandb.init`` is told of a trial.

    Args:
        trial: one of the study's
        config: the search's ``config.json``
        folder: the search's
    """
    data, plan, arguments = config["data"], config["plan"], config["arguments"]
    encoder = encoder_of(plan, trial.config.get(ENCODER))
    marks = ["generated-speech"] if data["generated"] else []
    marks += ["random-weights"] if encoder and not encoder["pretrained"] else []
    return {
        "id": run_id(config, trial),
        "name": f"{folder.name}-{trial.trial_id}",
        "group": config["search_id"],
        "job_type": arguments["space"],
        "tags": [plan["family"], data["split"], *marks],
        "config": {
            **trial.params,  # a space may ask for a value under another name than its configuration has
            **trial.config,
            **{key: arguments[key] for key in ("space", "seed", "sampler", "scheduler")},
            "origin": trial.origin,
            "split": data["split"],
            "leaky": data["leaky"],
            "manifest_hash": data["manifest_hash"],
            "commit": config["commit"],
            "versions": config["versions"],
            **({"encoder": encoder["label"]} if encoder else {}),
        },
    }


def logged_epochs(trial: StudyTrial, *, first: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Step and values of each epoch from *first* on: all that was reported but the hits, and the best score so far."""
    best = float("-inf")
    for report in trial.epochs:
        best = max(best, report[SCORE])
        if report[EPOCH] >= first:
            values = {key: value for key, value in report.items() if key not in (EPOCH, HITS)}
            yield report[EPOCH], {**values, BEST_SCORE: best}


def summary_of(trial: StudyTrial, *, ended: bool) -> dict[str, Any]:
    """What became of a trial; of one without an outcome, what will if the search has *ended* for good."""
    status = status_of(trial, ended=ended)
    reason = trial.reason or ("the search ended" if trial.outcome is None and ended else "")
    best = trial.best_epoch
    return {
        "status": status if status in ENDED else "interrupted",
        "reason": reason,
        **({BEST_SCORE: best[SCORE], "best_epoch": best[EPOCH]} if best else {}),
    }


def final_tags(trial: StudyTrial, config: Mapping[str, Any], *, ended: bool) -> list[str]:
    """Tags that a run has when it is whole: what became of its trial, and the highest rung that it reached."""
    plan = config["plan"]
    rungs = rungs_reached(
        config["arguments"]["scheduler"], grace=plan["grace"], reduction_factor=REDUCTION_FACTOR,
        max_epochs=plan["max_epochs"], number=trial.number, epochs=len(trial.epochs),
    )  # fmt: skip
    status = status_of(trial, ended=ended)
    return [*([status] if status in ENDED else []), *([f"rung-{rungs[-1]}"] if rungs else [])]


def exit_code_of(trial: StudyTrial, *, ended: bool) -> int:
    """W&B's word for it: finished (a trial that a rule stopped did what it should), or failed."""
    status = status_of(trial, ended=ended)
    return {"completed": 0, "stopped": 0, "failed": 1}.get(status, _INTERRUPTED)
