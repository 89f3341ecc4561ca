"""Nodes that a cluster does not have yet: what its launcher (``ray up``) may start when trials wait.

A cluster in a cloud begins with a head that trials never run on, so what Ray counts then is nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

#: Where ``ray up`` leaves the cluster's file on the head; named by ``ray start --autoscaling-config``.
LAUNCHER_FILE = Path("~/ray_bootstrap_config.yaml")

Resources = Mapping[str, float]


def planned_nodes(file: Path = LAUNCHER_FILE) -> list[Resources]:
    """Resources of each worker that may run at a time, by name; none where no launcher does.

    Only the head has *file*, which outlives the cluster that it was for: it counts while an autoscaler follows it. Of
    machines of one's own (provider ``local``) it names no resources; they are all there anyway.
    """
    path = file.expanduser()
    if not path.is_file() or not _is_followed(path):
        return []
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    types = [kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]]
    most = int(config.get("max_workers", 0))
    nodes = [kind.get("resources", {}) for kind in types for _ in range(min(kind.get("max_workers", most), most))]
    return sorted(nodes, key=lambda node: (-node.get("GPU", 0), -node.get("CPU", 0)))[:most]


def total(nodes: Sequence[Resources], name: str) -> int:
    """How much of a resource *nodes* have together."""
    return int(sum(node.get(name, 0) for node in nodes))


def _is_followed(path: Path) -> bool:
    """Whether an autoscaler runs on this machine that was started with *path*."""
    option = "--autoscaling-config="
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it ended meanwhile
            continue
        if any(Path(word.removeprefix(option)).expanduser() == path for word in words if word.startswith(option)):
            return True
    return False
