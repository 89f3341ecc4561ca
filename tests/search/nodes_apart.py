"""A real Ray of nodes with homes of their own, which do not find the driver's folders under their paths.

``python -m tests.search.nodes_apart look HOMES CORPUS ENCODER`` prints, as JSON, what each node makes of a plan;
``python -m tests.search.nodes_apart search HOMES OPTIONS`` is ``search/run.py`` on two such nodes of one core each;
``knobs`` for ``search``: over the tests' own spaces.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from rich.console import Console

from search.cluster import supply
from search.cluster.supply import Supply, supplied
from search.trial_plan import TrialPlan, plan_here
from ser_data.consignment import digest_of
from ser_data.corpus import WAVEFORMS_FILE, open_corpus
from ser_models.pretrained.choice import find_pretrained
from ser_models.pretrained.source import source_from_spec
from tests.search.knob_search import knob_spaces


@contextmanager
def out_of_sight(*arguments: Any) -> Iterator[Supply | None]:
    """:func:`search.cluster.supply.supplied`, with folders that no node finds."""
    with supplied(*arguments) as found:
        assert found is not None
        hidden = {spec: replace(good, folder="/nowhere/network") for spec, good in found.networks.items()}
        yield replace(found, corpus=replace(found.corpus, folder="/nowhere/corpus"), networks=hidden)


def look(plan: TrialPlan) -> dict[str, Any]:
    """What a worker finds of a plan."""
    here = plan_here(plan)
    corpus, encoder = Path(here.task["corpus_folder"]), source_from_spec(here.task["encoder"])
    open_corpus(corpus)  # checks the manifest
    return {
        "home": os.environ["HOME"],
        "cache": here.task["cache_dir"],
        "corpus": str(corpus),
        "waveforms": digest_of((corpus / WAVEFORMS_FILE).read_bytes()),
        "encoder": encoder.name,
        "label": encoder.label,
        "weights": digest_of((Path(encoder.name) / "model.safetensors").read_bytes()),
        "fetched": [arrival.fetched for arrival in supply._here.values()],
    }


def start_cluster(homes: Path, first: str) -> Any:
    """A cluster of one node so far."""
    from ray.cluster_utils import Cluster

    return Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node(homes, first)})


def node(homes: Path, name: str) -> dict[str, Any]:
    """A node of one core, which tasks can ask for by *name*."""
    (homes / name).mkdir(parents=True, exist_ok=True)
    return {"num_cpus": 1, "resources": {name: 1}, "env_vars": {"HOME": str(homes / name)}}


def look_at_nodes(homes: Path, corpus: Path, encoder: str) -> None:
    import ray

    cluster = start_cluster(homes, "first")
    ray.init(cluster.address, logging_level="ERROR")
    spec = find_pretrained(encoder, types=("wav2vec2", "whisper")).spec
    arguments = SimpleNamespace(cache_dir=Path("~/cache"))
    search: Any = SimpleNamespace(arguments=arguments, encoders=[{"spec": spec}])
    joined: Any = SimpleNamespace(joined=True)
    console = Console(width=200)
    task = {"corpus_folder": str(corpus), "encoder": spec, "cache_dir": "/nowhere"}
    with out_of_sight(joined, [search], open_corpus(corpus), None, console) as found:
        assert found is not None
        found.introduce(console)
        plan = TrialPlan(str(homes), "", task, 0, 1, 1, supply=found)

        def ask(name: str) -> Any:
            return ray.remote(look).options(num_cpus=0.5, resources={name: 0.1}).remote(plan)

        answers = ray.get([ask("first"), ask("first")])  # two processes at once
        cluster.add_node(**node(homes, "late"))
        answers.append(ray.get(ask("late")))
    print(json.dumps(answers))


if __name__ == "__main__":
    what, homes = sys.argv[1], Path(sys.argv[2])
    if what == "look":
        look_at_nodes(homes, Path(sys.argv[3]), sys.argv[4])
    else:
        from search.run import main
        from ser_data.command import run_command

        cluster = start_cluster(homes, "first")
        cluster.add_node(**node(homes, "second"))
        sys.argv[1:] = [*sys.argv[3:], "--address", cluster.address]
        with mock.patch("search.session.supplied", out_of_sight), knob_spaces() if what == "knobs" else nullcontext():
            run_command(main)
