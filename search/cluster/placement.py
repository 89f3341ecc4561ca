"""What a trial of a search takes of the cluster: by its arguments, its family, and what its GPUs' memory holds."""

import dataclasses
from typing import TYPE_CHECKING, Any

from rich.console import Console

from search.cluster.gpu_sharing import Sharing, as_plain, decide_sharing, kinds_of_gpus
from search.cluster.node_watch import usable_nodes
from search.opening import Search
from search.study import Study
from search.trial_plan import TrialPlan
from search.tuning import Resources, choose_resources

if TYPE_CHECKING:
    from search.cluster.joining import Cluster


def resources_of(search: Search, cluster: "Cluster", gpu_share: float | None = None) -> Resources:
    """What a trial of *search* takes: *gpu_share* of a GPU, the family's default where that is None."""
    return choose_resources(
        search.arguments, search.family, cores=cluster.cpus, gpus=cluster.gpus, nodes=usable_nodes(),
        gpu_share=gpu_share,
    )  # fmt: skip


def share_gpus(
    search: Search,
    study: Study,
    plan: TrialPlan,
    resources: Resources,
    cluster: "Cluster",
    stopper: Any,
    console: Console,
) -> tuple[Resources, TrialPlan]:
    """Resources and plan of trials as the GPUs' memory has it, where the arguments leave that open; written down."""
    sharing = None
    may_share = search.family.shares_gpu
    if resources.gpus and search.arguments.gpus_per_trial is None and may_share is not None:
        configs = search.space.largest()
        if all(map(may_share, configs)):
            sharing = decide_sharing(
                configs,
                plan,
                kinds=kinds_of_gpus(usable_nodes()) or [""],  # a launcher's workers are known by name when they come
                most=cluster.cpus // (resources.cpus * cluster.gpus),
                earlier=study.measured,
                stopped=stopper.stop_all,
                say=lambda line: console.print(f"{search.space.name}: {line}", soft_wrap=True, highlight=False),
            )
    if sharing is None:  # as the arguments say, or the family's default
        sharing = Sharing(None, min(resources.gpus, 1.0) if resources.gpus else 1.0)
    resources = resources_of(search, cluster, sharing.gpus)
    study.take_resources(resources.cpus, resources.gpus, as_plain(sharing.needs))
    return resources, dataclasses.replace(plan, gpu_memory=sharing.memory)
