"""What a trial that failed left behind, brought to the driver."""

from pathlib import Path

from search.cluster.on_nodes import on_every_node
from search.storage.shared_files import NodeFiles
from search.trial_plan import TrialPlan, error_file, error_name, trial_name
from search.watchdog import HANG_FILE

_ANSWER_SECONDS = 30.0


def last_words(plan: TrialPlan, number: int) -> Path:
    """Where the traceback of trial *number* is on this machine, if it left one; beside it where it hung, if it did.

    A trial that hangs is ended by the interpreter's watchdog, and has no time to send anything: its node is asked.
    """
    files = plan.on_driver
    if plan.files is None:
        return error_file(files.folder, number)
    path = files.fetch_if_easy(error_name(number))
    hang = path.with_name(HANG_FILE)
    hang.unlink(missing_ok=True)
    if not path.exists():
        name = f"{trial_name(number)}/{HANG_FILE}"
        for text in filter(None, on_every_node(_read, plan.files, name, seconds=_ANSWER_SECONDS)):
            hang.parent.mkdir(parents=True, exist_ok=True)
            hang.write_text(text)
            files.publish_if_easy(name)
    return path


def _read(files: NodeFiles, name: str) -> str:
    path = files.here / name
    return path.read_text() if path.exists() else ""
