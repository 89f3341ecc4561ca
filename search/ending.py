"""Ending a sitting: which checkpoints stay, the winner's bundle, the board, and what is said last."""

import os
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from search import run_folder
from search.baselines import baselines_of
from search.encoders import ENCODER, encoder_of
from search.finalists.board import MARKDOWN_FILE as FINALISTS_FILE
from search.finalists.board import finalist_table
from search.gains import gains
from search.leaderboard import MARKDOWN_FILE, caption, equal_scores, leaderboard, write_epochs, write_leaderboard
from search.opening import INTERRUPTED, Search
from search.record import read_events
from search.storage.run_storage import RunStorage
from search.study import Study, StudyTrial, best_of, trials_of
from search.terminal import board_table
from search.trial import EXPORT_FOLDER, export_trial
from search.trial_plan import TrialPlan, checkpoint_file, trial_folder
from search.tuning import Resources
from ser_data.errors import UserError

EXIT_OK, EXIT_NOTHING, EXIT_INTERRUPTED = 0, 1, 130


def remove_checkpoints(folder: Path, study: Study, storage: RunStorage | None = None) -> None:
    """Finished trials' checkpoints go, save the best one's: a running trial may lead and still fail.

    Those in *storage* go when it knows what came of their trials.
    """
    finished = [trial for trial in study.trials.values() if trial.outcome in ("completed", "stopped")]
    leader = max(finished, key=lambda trial: trial.best_score, default=None)
    for trial in study.trials.values():
        if trial.outcome is not None and trial is not leader:
            checkpoint_file(folder, trial.number).unlink(missing_ok=True)
            if storage is not None:
                storage.remove(checkpoint_file(folder, trial.number))
            kept = trial_folder(folder, trial.number)
            if kept.is_dir() and not any(kept.iterdir()):
                kept.rmdir()


def export_best(search: Search, best: StudyTrial, plan: TrialPlan, resources: Resources) -> None:
    """Write the best trial's bundle, on a worker that has the features mapped already."""
    origin = {"trial_id": best.trial_id, "judged_on_test": False}
    export_bundle(search, best, plan, resources, origin, folder=search.folder)


def export_bundle(
    search: Search, best: StudyTrial, plan: TrialPlan, resources: Resources, origin: Mapping[str, Any], *, folder: Path
) -> None:
    """Write the bundle of *best* to ``best/`` in *folder*.

    Args:
        search: whose space the trial is of
        best: its number says which checkpoint is taken
        plan: as the trial had it
        resources: of one trial
        origin: what else the bundle's provenance says, or says otherwise
        folder: the whole search's
    """
    import ray

    encoder = encoder_of(search.config["plan"], best.config.get(ENCODER))
    provenance = {
        "search_id": search.config["search_id"],
        "space": search.space.name,
        "family": search.family.name,
        "seed": search.arguments.seed,
        "commit": search.config["commit"],
        "versions": search.config["versions"],
        **{key: search.config["data"][key] for key in ("corpus", "generated", "manifest_hash", "split", "leaky")},
        **({"encoder": encoder["label"]} if encoder else {}),
        **origin,
    }
    folder = folder.resolve()
    unfinished = folder / f".{run_folder.BEST_FOLDER}.tmp"
    shutil.rmtree(unfinished, ignore_errors=True)
    export = ray.remote(export_trial).options(**resources.task_options())
    try:
        ray.get(export.remote(best.number, best.config, plan, unfinished, provenance))
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from error  # Ray's own has the worker's traceback for a message
        raise
    plan.on_driver.fetch_folder(EXPORT_FOLDER, unfinished)
    shutil.rmtree(folder / run_folder.BEST_FOLDER, ignore_errors=True)
    unfinished.replace(folder / run_folder.BEST_FOLDER)


def conclude(search: Search, ending: str, console: Console, finalists: Any) -> int:
    """Write the final board and say what came of it.

    Args:
        search: whose sitting ended
        ending: what ended it
        console: where to say it
        finalists: what came of them, a :class:`search.finalists.final_round.Outcome`
    """
    events = read_events(search.folder / run_folder.RECORD_FILE)
    trials, baselines = trials_of(events), baselines_of(events)
    interrupted = ending == INTERRUPTED
    board = leaderboard(trials.values(), search.config, baselines=baselines, ended=not interrupted)
    won = [] if interrupted else gains(best_of(trials.values()), baselines, search.config["data"]["val_totals"])
    write_leaderboard(search.folder, board, search.config, ending=None if interrupted else ending, gains=won)
    write_epochs(search.folder, trials.values())
    if len(board):
        console.print(board_table(board))
        for line in (*caption(board, search.config), *won):
            console.print(line, soft_wrap=True)
    for first, second in equal_scores(trials.values()):
        console.print(
            f"warning: {first} and {second} have different configurations and equal losses and scores at every epoch: "
            "a parameter that differs between them may have no effect",
            style="yellow",
            soft_wrap=True,
        )
    failed = [trial for trial in trials.values() if trial.outcome == "failed"]
    if failed:
        say_failed(console, f"{len(failed)} of {len(trials)}", failed[0].trial_id, failed[0].reason)
    if interrupted:
        return say_interrupted(search.folder, console)
    succeeded = any(trial.epochs for trial in trials.values() if trial.outcome != "failed")
    return say_ended(search.folder, search.config, ending, finalists, console, succeeded=succeeded)


def say_failed(console: Console, how_many: str, first: str, reason: str) -> None:
    """That trials failed: *how_many*, e.g. ``"2 of 8"``, and why the *first* of them did."""
    console.print(f"{how_many} trials failed; {first}: {reason}", style="red", soft_wrap=True)


def say_ended(
    folder: Path, config: Mapping[str, Any], ending: str, finalists: Any, console: Console, *, succeeded: bool
) -> int:
    """What came of the *finalists*, that the search in *folder* ended, and how to use its winner; gives the exit code.

    A search whose finalists were interrupted has not ended, and says so.
    """
    if finalists.board is not None:
        console.print(finalist_table(finalists.board))
    for line in finalists.lines:
        console.print(line, soft_wrap=True)
    if finalists.interrupted:
        return say_interrupted(folder, console)
    boards = [folder / MARKDOWN_FILE, *([folder / FINALISTS_FILE] if "judged" in config else [])]
    boards += leave_page(folder, console)
    console.print(f"ended by: {ending}; {' '.join(map(str, boards))}", soft_wrap=True)
    if succeeded:
        console.print(
            f"use the winner:  python search/predict.py {folder / run_folder.BEST_FOLDER} CLIP", soft_wrap=True
        )
        if "judged" not in config and config["data"]["actors"]["test"]:
            again = shlex.quote(os.fspath(folder))
            console.print(
                f"judge the best on test speakers, once:  python search/run.py --resume {again} --finalists 3",
                soft_wrap=True,
            )
    return EXIT_OK if succeeded else EXIT_NOTHING


def leave_page(folder: Path, console: Console) -> list[Path]:
    """Build the page of the run in *folder*, unless nobody is told; gives its path, or says why there is none."""
    if console.quiet:  # the whole of a search over several spaces has one page, with its members
        return []
    from search.pages.page import PAGE_FILE, write_page

    try:
        write_page([folder], folder / PAGE_FILE)
    except Exception as error:  # whatever it is, it costs the page and neither the result nor the exit code
        why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        console.print(f"note: no page was built ({why}); try python search/report.py {folder}", soft_wrap=True)
        return []
    return [folder / PAGE_FILE]


def say_interrupted(folder: Path, console: Console) -> int:
    again = f"python search/run.py --resume {shlex.quote(os.fspath(folder))}"
    leave_page(folder, console)
    console.print(f"interrupted; nothing is lost. Go on with:\n  {again}", soft_wrap=True)
    return EXIT_INTERRUPTED


def say_finished(search: Search, console: Console) -> int:
    board = search.folder / "leaderboard.md"
    num_trials = len(trials_of(read_events(search.folder / run_folder.RECORD_FILE)))
    leave_page(search.folder, console)
    console.print(
        f"{search.folder} is finished ({num_trials} trials): see {board}. A larger --trials or --time-budget "
        "makes it go on.",
        soft_wrap=True,
    )
    return EXIT_OK
