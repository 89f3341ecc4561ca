#!/usr/bin/env python3
"""Upload a search to Weights & Biases: ``python search/sync_wandb.py RUN``.

It sends what W&B lacks of the search in RUN, from the search's own record: after an offline search, after one that W&B
failed in, or once more. What W&B has already is not sent again.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# this file's folder comes first on the path; the packages lie beside it and under datasets/
_ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(_ROOT), str(_ROOT / "datasets")]


def main(argv: list[str]) -> int:
    """Upload one search; 1 if W&B does not have it whole."""
    from search import run_folder
    from search.tracking.tracker import choose_mode

    parser = argparse.ArgumentParser(prog="python search/sync_wandb.py", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path, metavar="RUN", help="the search's folder")
    parser.add_argument("--wandb-project", metavar="NAME", help="another project than the search was started with")
    parser.add_argument("--wandb-entity", metavar="NAME", help="another team or user than the search was started with")
    options = parser.parse_args(argv)
    config = run_folder.load(options.run)
    choose_mode("online")
    arguments = run_folder.stored_arguments(config)
    project = options.wandb_project or arguments.wandb_project
    entity = options.wandb_entity or arguments.wandb_entity
    whole = True
    for folder in (*(options.run / member for member in config.get("members", ())), options.run):
        whole &= sync(folder, project=project, entity=entity, say=print)
    return 0 if whole else 1


def sync(folder: Path, *, project: str, entity: str | None, say: Callable[[str], Any]) -> bool:
    """Send what W&B lacks of the search in *folder*.

    Args:
        folder: the search's, or that of one space of a search over several
        project: W&B project
        entity: W&B team or user; None for the key's own
        say: prints one line to the user

    Returns:
        whether W&B has it whole now

    Raises:
        UserError: the search is running, nothing was tried in it, or W&B failed; what was sent until then stays
    """
    from search import run_folder
    from search.opening import INTERRUPTED
    from search.record import lock_record, read_events
    from search.study import trials_of
    from search.tracking.writer import WandbWriter
    from ser_data.errors import UserError

    config = run_folder.load(folder)
    record = folder / run_folder.RECORD_FILE
    if not record.is_file() or "data" not in config:
        raise UserError(f"{folder} holds no trial yet, so there is nothing to upload. Go on with --resume {folder}")
    with lock_record(record):
        events = read_events(record)
        trials = [trial for _, trial in sorted(trials_of(events).items())]
        ended = events[-1]["kind"] == "ended" and events[-1]["reason"] != INTERRUPTED
        writer = WandbWriter(folder, config, mode="online", project=project, entity=entity)
        try:
            due = writer.lacking(trials, ended=ended)
            for trial in due:
                writer.update(trial, ended=ended)
            writer.interrupt({trial.number: trial for trial in trials})
            published = ended and writer.publish()
            writer.set_sweep_state("FINISHED" if ended else "PAUSED")
            left = writer.confirm(due, ended=ended)
        except Exception as error:
            first_line = str(error).partition("\n")[0]
            raise UserError(
                f"W&B could not take all of {folder} ({type(error).__name__}: {first_line}). Nothing is lost: once it "
                "can be reached, the same command goes on where this one stopped."
            ) from error
    results = "results sent" if published else "no new results"
    say(f"{folder}: {len(due) - len(left)} of {len(trials)} runs sent, {results}; {writer.sweep_url}".rstrip("; "))
    if left:
        say(f"{folder}: W&B does not have {', '.join(trial.trial_id for trial in left)} yet. Try again in a minute.")
    return not left


if __name__ == "__main__":
    from ser_data.command import run_command

    run_command(main)
