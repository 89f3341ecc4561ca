"""One Ray for all tests of the search, and the searches that several of them look at."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from search.cluster import Cluster, joined_cluster

from tests.search.knob_search import ROOT, Sitting, knob_spaces, sit

Search = Callable[..., Sitting]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A local Ray with two cores."""
    paths = [str(ROOT), str(ROOT / "datasets"), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))  # workers find the knob family by it
        with joined_cluster("local", num_cpus=2) as cluster:
            yield cluster


@pytest.fixture(scope="session")
def knob_search(cluster: Cluster, prepared_tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Search:
    """``knob_search(folder, *options)``: a sitting over the knob family on generated tones; a new search by default."""

    def run(folder: Path, *options: str) -> Sitting:
        start = [] if "--resume" in options else ["--out", str(folder), "--data", str(prepared_tone_corpus)]
        start += ["--cache-dir", str(folder.parent / f"{folder.name}-cache")]
        start += [] if "--resume" in options else ["--sampler", "random", "--scheduler", "none", "--split", "speaker_kfold:4:1"]
        with knob_spaces():
            return sit(cluster, folder, [*start, "--wandb", "disabled", *options])

    return run
