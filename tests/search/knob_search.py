"""Running searches over the knob family: in this process on a Ray that all tests share, or as a command of its own.

``python -m tests.search.knob_search OPTIONS`` is ``python search/run.py OPTIONS`` with the spaces of ``knob_spaces/``
in place of the project's.
"""

import contextlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console

import search.families
import search.space
import search.spaces
from search.arguments import parse_arguments
from search.cluster.joining import Cluster
from search.families import Family
from search.record import read_events
from search.sitting import sit as sit_down
from search.study import StudyTrial, trials_of

ROOT = Path(__file__).parent.parent.parent
SPACES = Path(__file__).parent / "knob_spaces"
KNOB = Family("knob", "tests.search.knob_family", cpus_per_trial=1, gpus_per_trial=0.0, classical=False)

LAYERED = Family(
    "layered", "tests.search.layered_family", cpus_per_trial=1, gpus_per_trial=0.0, prepare=True, classical=False
)


@contextlib.contextmanager
def knob_spaces() -> Iterator[None]:
    """The knob families and their spaces in place of the project's."""
    with (
        mock.patch.dict(search.families.FAMILIES, {"knob": KNOB, "layered": LAYERED}),
        mock.patch.object(search.space, "SPACES_FOLDER", SPACES),
        mock.patch.object(search.spaces, "__path__", [str(SPACES)]),
    ):
        yield


@dataclass(frozen=True)
class Sitting:
    """What a search left behind.

    Attributes:
        folder: the search's
        code: exit code
        text: what it printed
    """

    folder: Path
    code: int
    text: str

    @property
    def trials(self) -> dict[int, StudyTrial]:
        return trials_of(read_events(self.folder / "events.jsonl"))

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "config.json").read_text()))


def kinds(folder: Path) -> list[str]:
    """Of all events of a search's record but what a sitting says of its resources."""
    return [event["kind"] for event in read_events(folder / "events.jsonl") if event["kind"] != "resources"]


def sit(cluster: Cluster, folder: Path, options: Sequence[str]) -> Sitting:
    """One sitting in this process, on the tests' own cluster.

    Args:
        cluster: what the tests' Ray is
        folder: the search's, given by --out or --resume among *options*
        options: of ``search/run.py``
    """

    @contextlib.contextmanager
    def joined(address: str) -> Iterator[Cluster]:
        yield cluster

    text = io.StringIO()
    console = Console(file=text, width=140)
    with mock.patch("search.cluster.joining.joined_cluster", joined):
        code = sit_down(parse_arguments(options), f"python search/run.py {' '.join(options)}", console)
    return Sitting(folder, code, text.getvalue())


if __name__ == "__main__":
    from search.run import main
    from ser_data.command import run_command

    with knob_spaces():
        run_command(main)
