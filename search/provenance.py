"""Where a result comes from: versions, commit and machine, as stored in ``config.json`` and on every board."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("ray", "torch", "torchaudio", "transformers", "optuna", "librosa", "numpy", "pandas", "wandb")
_ROOT = Path(__file__).resolve().parent.parent


def versions() -> dict[str, str]:
    """Version of Python and of each package that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "missing"
    return found


def commit() -> str:
    """The project's git commit, 12 digits, with ``+`` if files were changed since; ``unknown`` outside a checkout."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


def machine() -> dict[str, str | int]:
    """What the driver ran on; no host name, so that a run folder can be published."""
    return {"system": platform.system(), "processor": _processor(), "cores": os.cpu_count() or 0}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
