"""One Ray for all tests of the search, and the searches that several of them look at."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from search.cluster.joining import Cluster, joined_cluster
from search.pages import page
from tests.s3_server import ACCESS
from tests.search.command import Command
from tests.search.knob_search import ROOT, Sitting, knob_spaces, sit
from tests.search.wandb_server import KEY, WandbServer

Search = Callable[..., Sitting]
WHOLE_PLOTLY = page._plotly


@pytest.fixture(scope="session", autouse=True)
def small_pages() -> Iterator[Callable[[], str]]:
    """Pages without plotly: every search leaves one, and 5 MB each would fill a disk. Gives what they lack."""
    with mock.patch("search.pages.page._plotly", lambda: ""):
        yield WHOLE_PLOTLY


@pytest.fixture(scope="module")
def whole_pages(small_pages: Callable[[], str]) -> Iterator[None]:
    """Pages as users have them."""
    with mock.patch("search.pages.page._plotly", small_pages):
        yield


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A local Ray with two cores; starting one takes longer than any search of these tests."""
    paths = [str(ROOT), str(ROOT / "datasets"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # workers find the knob family by it
        for name, value in ACCESS.items():  # and a test's S3 server by these
            patch.setenv(name, value)
        with joined_cluster("local", num_cpus=2) as cluster:
            yield cluster


def _sitting(cluster: Cluster, corpus: Path, folder: Path, options: tuple[str, ...]) -> Sitting:
    if "--resume" in options:
        place = options.index("--resume") + 1
        options = (*options[:place], str(folder), *options[place:])
    else:
        start = ("--out", str(folder), "--data", str(corpus), "--split", "speaker_kfold:4:1")
        options = (*start, "--cache-dir", str(folder.parent / f"{folder.name}-cache"), *options)
    return sit(cluster, folder, ["--wandb", "disabled", *options])


@pytest.fixture(scope="session")
def real_search(cluster: Cluster, prepared_tone_corpus: Path) -> Search:
    """``real_search(folder, *options)``: a sitting over one of the project's spaces on generated tones.

    It begins a new search in *folder*, unless ``--resume`` is among the options; then *folder* is added to it.
    """
    return lambda folder, *options: _sitting(cluster, prepared_tone_corpus, folder, options)


@pytest.fixture(scope="session")
def knob_search(cluster: Cluster, prepared_tone_corpus: Path) -> Search:
    """The same over the knob family, without early stopping, and with the sampler that learns from nothing."""

    def run(folder: Path, *options: str) -> Sitting:
        if "--resume" not in options:
            options = ("--sampler", "random", "--scheduler", "none", *options)
        with knob_spaces():
            return _sitting(cluster, prepared_tone_corpus, folder, options)

    return run


@pytest.fixture(scope="session")
def finished_search(knob_search: Search, tmp_path_factory: pytest.TempPathFactory) -> Sitting:
    """A search of four trials that ran to its end. Read only; copy the folder before changing anything."""
    return knob_search(tmp_path_factory.mktemp("finished") / "run", "--space", "plain", "--max-concurrent", "1")


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    """A stand-in for W&B's server, and an environment in which the real client finds it and a key."""
    import wandb

    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.setenv(name, "")  # the client sets some: put back at the end
        monkeypatch.delenv(name)
    wandb.teardown()  # it reads the environment once
    with WandbServer() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        yield server
        server.fault = None
        wandb.teardown()


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    """Starts commands, and ends those that a failed test left running."""
    started: list[Command] = []

    def start(*options: str, **settings: Any) -> Command:
        started.append(Command(*options, **settings))
        return started[-1]

    yield start
    for each in started:
        each.clean_up()
