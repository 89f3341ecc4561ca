#!/usr/bin/env python3
"""Runs as one page, leaderboard.html, that opens anywhere: ``python search/report.py RUN…``."""

import argparse
import os
import shlex
import sys
from pathlib import Path

# this file's folder comes first on the path; the packages lie beside it and under datasets/
_ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(_ROOT), str(_ROOT / "datasets")]

from ser_data.command import run_command  # noqa: E402
from ser_data.errors import UserError  # noqa: E402

_EPILOG = """Every search leaves the page of its own run. This builds it anew, or one page of several runs: those that
were judged on the same clips share a board, others have one each. What cannot be read is said, and the rest is shown.
Exit codes: 0 a page, 2 bad input."""


def main(argv: list[str]) -> int:
    """Build the page and say where it is."""
    parser = argparse.ArgumentParser(prog="python search/report.py", description=__doc__, epilog=_EPILOG)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a search's folder; several share a page")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: leaderboard.html in the first "
                        "run's folder, or in the working folder where there are several)")  # fmt: skip
    parser.add_argument("--measure", action="store_true", help="time the exported models that nobody has timed yet, on "
                        "this machine's CPU; takes seconds a model")  # fmt: skip
    arguments = parser.parse_args(argv)
    from search.pages.page import PAGE_FILE, write_page

    runs = list(dict.fromkeys(arguments.runs))
    notes = _measure(runs) if arguments.measure else []
    path = arguments.out or (runs[0] / PAGE_FILE if len(runs) == 1 else Path(PAGE_FILE))
    if path.is_dir():
        raise UserError(f"--out {path} is a folder. Name a file in it, e.g. {path / PAGE_FILE}.")
    notes += write_page(runs, path)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB. Open it with:  xdg-open {shlex.quote(os.fspath(path))}")
    return 0


def _measure(runs: list[Path]) -> list[str]:
    """Time the bundles that have no time yet; gives what could not be timed."""
    from search.inference_speed import measure_speed, read_speed
    from search.run_folder import BEST_FOLDER

    notes = []
    for run in runs:
        for folder in [path for path in (run / BEST_FOLDER, *run.glob(f"*/{BEST_FOLDER}")) if path.is_dir()]:
            if read_speed(folder) is None:
                try:
                    measure_speed(folder)
                except UserError as error:
                    notes.append(f"{folder} was not timed: {error}")
                except OSError as error:
                    notes.append(f"the time of {folder} cannot be kept ({error.strerror})")
    return notes


if __name__ == "__main__":
    run_command(main)
