"""Whose fault it is that a trial's worker failed: the trial's own, or its node's."""

import enum
import time
from typing import Any

from search.cluster.node_watch import NodeWatch

MOST_LOST_IN_A_ROW = 10  # nodes without an epoch in between: then a trial is to blame
_SETTLE_SECONDS = 3.0  # from a worker's end until Ray knows that its node is going too, when a machine shuts down


class Fate(enum.Enum):
    """What became of a worker."""

    OWN_FAULT = enum.auto()  # its trial raised, or it died alone (out of memory, killed from outside)
    LOST_NODE = enum.auto()  # its node died, was taken back, or cannot be reached any more
    UNFIT_NODE = enum.auto()  # it was on a node that cannot work on the search


def fate_of(error: Exception, watch: NodeWatch) -> Fate:
    """What became of the worker whose task ended with *error*.

    A worker that died on a node that lives is looked at again for three seconds: a machine that shuts down ends its
    processes one after the other.
    """
    from ray.exceptions import ActorUnavailableError, RayActorError

    actor = getattr(error, "actor_id", None) or getattr(error, "_actor_id", None)
    node = node_of_actor(str(actor)) if actor else None
    died = isinstance(error, RayActorError)
    # a node that is killed shows as an actor out of reach, until Ray has missed its heartbeats
    if isinstance(error, ActorUnavailableError) or getattr(error, "preempted", False):
        return Fate.LOST_NODE
    if node is None:
        return Fate.OWN_FAULT
    if not watch.may_be_used(node):
        return Fate.UNFIT_NODE
    in_its_start = getattr(error, "actor_init_failed", False)
    return Fate.LOST_NODE if died and not in_its_start and _is_lost(node) else Fate.OWN_FAULT


def node_of_actor(actor: str) -> str | None:
    """Id of the node that an actor is or was on; None where it never got to one."""
    from ray._private.state import actors

    known: dict[str, Any] = actors(actor)
    return known.get("Address", {}).get("NodeID") or None


def _is_lost(node: str) -> bool:
    import ray

    if node == ray.get_runtime_context().get_node_id():
        return False  # the driver's own
    deadline = time.monotonic() + _SETTLE_SECONDS
    while _is_alive(node):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _is_alive(node: str) -> bool:
    import ray

    return any(known["NodeID"] == node and known["Alive"] for known in ray.nodes())
