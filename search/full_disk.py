"""A disk that the driver finds full while it writes anything but the record, which says so itself."""

import errno
import os
import shlex
from pathlib import Path

from ser_data.errors import UserError


def raise_if_full(error: OSError, run_folder: Path) -> None:
    """Say what to do, where *error* comes of a full disk; return where it does not.

    Args:
        error: that ended a sitting
        run_folder: of the search that can go on

    Raises:
        UserError: in place of *error*
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise UserError(
            f"{error.filename or run_folder} cannot be written ({error.strerror}). No trial is lost: free some disk "
            f"space, then go on with --resume {shlex.quote(os.fspath(run_folder))}"
        ) from error
