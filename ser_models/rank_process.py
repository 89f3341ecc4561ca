"""``python -m ser_models.rank_process``: one rank beside the one that leads, started by :mod:`ser_models.ranks` alone.

It does what it is told until the pipe ends, and ends at once when its leader does, killed or not.
"""

import contextlib
import ctypes
import gc
import io
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ser_models.ranks import Recipe
    from ser_models.trial import Trial

_PR_SET_PDEATHSIG = 1


class Rank:
    """What one rank holds between two words of its leader.

    Args:
        rank: its own, from 1
        ranks: how many there are
        device: where it trains; of several GPUs the one of its rank
        folder: where the ranks find one another
        pipe: to the leader
    """

    def __init__(self, rank: int, ranks: int, device: str, folder: Path, pipe: Connection) -> None:
        self._rank = rank
        self._ranks = ranks
        self._device = device
        self._folder = folder
        self._pipe = pipe
        self._trial: Trial | None = None
        self._group: Any = None

    def build(self, recipe: "Recipe") -> None:
        """Build the trial, and say so."""
        from ser_models.ranks import BUILT

        if self._device == "cuda":
            import torch

            torch.cuda.set_device(self._rank)  # what is called "cuda" from now on
        self._trial = recipe.build()
        self._pipe.send(BUILT)

    def load(self, state: bytes) -> None:
        """Stand where the leader stands, and say so. *state*: of its trainer, as ``torch.save`` wrote it."""
        import torch

        from ser_models.ranks import LOADED

        assert self._trial is not None
        self._trial.trainer.load_state(torch.load(io.BytesIO(state), weights_only=True, map_location="cpu"))
        self._pipe.send(LOADED)

    def join(self) -> None:
        """Train with the others from now on."""
        from ser_models.data_parallel import Group, Share, join_group

        assert self._trial is not None
        if self._group is None:
            share = Share(self._rank, self._ranks)
            join_group(share, self._device, self._folder)
            self._group = Group(share)
        self._trial.trainer.join(self._group)

    def epoch(self, number: int) -> None:
        """Train an epoch with the others."""
        assert self._trial is not None
        self._trial.trainer.follow(number)

    def forget(self) -> None:
        """The trial is over."""
        self._trial = None
        gc.collect()
        if self._device == "cuda":
            import torch

            torch.cuda.empty_cache()


def main(rank: str, ranks: str, device: str, folder: str, pipe: str, leader: str) -> None:
    """Do what comes through the file descriptor *pipe* from the process *leader*."""
    _die_with(int(leader))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal's processes; the leader decides
    connection = Connection(int(pipe))
    it = Rank(int(rank), int(ranks), device, Path(folder), connection)
    words = {"build": it.build, "load": it.load, "join": it.join, "epoch": it.epoch, "forget": it.forget}
    try:
        while True:
            try:
                word, *more = connection.recv()
            except EOFError:
                break
            words[word](*more)
    except Exception as error:
        where = f"in process {int(rank) + 1} of the {ranks} that trained this trial together"
        error.add_note("".join(traceback.format_exception(error)) + f"({where})")
        with contextlib.suppress(OSError):
            connection.send(_sendable(error))
        sys.stderr.flush()
        os._exit(1)  # at once, so that nobody waits for it in a sum
    os._exit(0)


def _die_with(leader: int) -> None:
    """Let the kernel end this process when *leader* ends; where there is no such kernel, the end of the pipe does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != leader:  # it ended before
        os._exit(0)


def _sendable(error: Exception) -> Exception:
    """*error*, or where it cannot be sent one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        told = RuntimeError(f"{type(error).__name__}: {error}")
        for note in error.__notes__:
            told.add_note(note)
        return told
    return error


if __name__ == "__main__":
    main(*sys.argv[1:])
