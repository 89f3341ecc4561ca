"""How every command of the project ends: one message instead of a traceback, and the documented exit codes."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ser_data.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def exit_code(main: Callable[[list[str]], int], arguments: Sequence[str]) -> int:
    """Run *main* and turn what a user can cause into a line on stderr.

    Args:
        main: takes the arguments without the program's name and returns the exit code
        arguments: usually ``sys.argv[1:]``

    Returns:
        what *main* returned; 2 after a `UserError` (printed as ``error: …``), 130 after Ctrl-C;
        any other exception passes through, because it is a fault of ours and needs its traceback
    """
    try:
        code = main(list(arguments))
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has left; without this Python complains once more while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def run_command(main: Callable[[list[str]], int]) -> NoReturn:
    """Run *main* with the command line's arguments and leave the process with its exit code."""
    sys.exit(exit_code(main, sys.argv[1:]))
