"""``python -m tests.search.packed_search OPTIONS``: a search over the knob spaces on a Ray that claims 4 cores, 2 GPUs.

Trials of the space ``plain`` take a GPU, as made-up numbers of its memory have it, those of ``second`` a core alone. No
GPU is ever touched.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import ray

import search.cluster.joining
import search.families
from search.cluster.gpu_sharing import Need
from search.cluster.joining import Cluster
from tests.search.knob_search import KNOB, knob_spaces

joined_cluster = search.cluster.joining.joined_cluster


@contextlib.contextmanager
def claiming_gpus(address: str) -> Iterator[Cluster]:
    """As ``joined_cluster``."""
    with mock.patch("ray.init", functools.partial(ray.init, num_gpus=2)), joined_cluster(address, num_cpus=4) as joined:
        yield joined


if __name__ == "__main__":
    from search.run import main
    from ser_data.command import run_command

    gpu_knob = replace(KNOB, name="gpu_knob", gpus_per_trial=0.5, shares_gpu=lambda config: True)
    with (
        knob_spaces(),
        mock.patch.dict(search.families.FAMILIES, {"gpu_knob": gpu_knob}),
        mock.patch("search.cluster.joining.joined_cluster", claiming_gpus),
        mock.patch("search.cluster.gpu_sharing.measured_needs", lambda *_: [Need("", "made up", 16_000, 9_000, 400)]),
    ):
        import search.spaces.plain as plain  # of the knob spaces

        plain.FAMILY = "gpu_knob"
        run_command(main)
