#!/usr/bin/env python3
"""Search for the best speech-emotion model: ``python search/run.py --space NAME``; ``--help`` lists the options."""

import importlib.util
import sys
from pathlib import Path

# this file's folder comes first on the path; the packages lie beside it and under datasets/
_ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(_ROOT), str(_ROOT / "datasets")]


def main(argv: list[str]) -> int:
    """Run one sitting of a search and return its exit code."""
    from search.arguments import parse_arguments

    arguments = parse_arguments(argv)
    from rich.console import Console

    from search.session import command_line
    from search.sitting import sit

    # piped output has no width of its own; 80 columns would cut the board
    console = Console(width=None if sys.stdout.isatty() else 140)
    return sit(arguments, command_line(), console)


def _missing_package() -> str | None:
    """The first package that this Python lacks; found without importing any."""
    needed = ("ray", "optuna", "torch", "pandas", "rich", "filelock")
    return next((name for name in needed if importlib.util.find_spec(name) is None), None)


if __name__ == "__main__":
    if (missing := _missing_package()) is not None:
        print(
            f"error: the package {missing} is missing: this Python is not the project's. Run `make .venv` once in "
            f"{_ROOT}, then `.venv/bin/python search/run.py`, or `. .venv/bin/activate` first.",
            file=sys.stderr,
        )
        sys.exit(2)
    from ser_data.command import run_command

    run_command(main)
