"""``search/run.py`` over the knob spaces as a process of its own, to be interrupted and killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from tests.search.knob_search import ROOT


class Command:
    """``search/run.py`` over the knob spaces as a process of its own, with a Ray of its own.

    Args:
        options: of the command; W&B is off unless they say otherwise
        module: another one, with the same options
        environment: variables that it gets beside this process's own
    """

    def __init__(
        self,
        *options: str,
        module: str = "tests.search.knob_search",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        python_path = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
        environment = {**os.environ, "PYTHONPATH": python_path, **(environment or {})}
        off = () if "--wandb" in options else ("--wandb", "disabled")
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--address", "local", *off, *options],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def wait_for_epochs(self, folder: Path, more: int) -> None:
        """Return once *more* epochs than now are in the record of *folder*."""
        record = folder / "events.jsonl"
        before = self._num_epochs(record)
        while self._num_epochs(record) < before + more:
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def wait_for(self, path: Path) -> None:
        """Return once *path* is there."""
        while not path.exists():
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    @staticmethod
    def _num_epochs(record: Path) -> int:
        return record.read_bytes().count(b'"kind":"epoch"') if record.exists() else 0

    def type_ctrl_c(self) -> None:
        """As a terminal does: to every process of the group, Ray's too."""
        os.killpg(self.process.pid, signal.SIGINT)

    def kill(self) -> None:
        """End the driver alone, at once; Ray's processes notice by themselves."""
        self.process.kill()
        self.process.wait()

    def clean_up(self) -> None:
        """End what is left of the process group: Ray's agents outlive a killed driver by a minute."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def end(self) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=120)
        return self.process.returncode, out, err
