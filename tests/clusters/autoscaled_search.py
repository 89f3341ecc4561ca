"""``python -m tests.clusters.autoscaled_search FOLDER CORPUS``: a search on a cluster that Ray's own autoscaler grows.

Its nodes are processes of this machine (Ray's provider for tests); everything else is as on a cloud: a head without
cores, a file that names the workers, nodes that start when trials wait and end when they idle. Trials are held at a
gate (the space ``held``). What a test wants to know is printed as a line of JSON.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from tests.search.changing_nodes import Story, sit_down, wait_for
from tests.search.knob_search import knob_spaces

MOST_WORKERS = 3
_HEAD = f"{0:05d}".rjust(56, "f")  # as Ray's provider for tests calls it


def cluster_file(folder: Path, address: str) -> Path:
    """What ``ray up`` would leave on the head: a worker has one core, three may run, and idle for six seconds."""
    provider = {
        "type": "external", "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "gcs_address": address, "head_node_id": _HEAD, "use_node_id_as_ip": True, "launch_multiple": True,
        "disable_node_updaters": True, "disable_launch_config_check": True,
    }  # fmt: skip
    types = {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {
            "resources": {"CPU": 1, "object_store_memory": 10**8}, "node_config": {}, "min_workers": 0,
            "max_workers": MOST_WORKERS,
        },
    }  # fmt: skip
    config = {
        "cluster_name": "autoscaled", "max_workers": MOST_WORKERS, "upscaling_speed": 100, "idle_timeout_minutes": 0.1,
        "provider": provider, "available_node_types": types, "head_node_type": "head", "auth": {}, "docker": {},
        "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [],
        "rsync_filter": [],
    }  # fmt: skip
    config |= {
        f"{part}_commands": []
        for part in ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    }
    path = folder / "cluster.json"
    path.write_text(json.dumps(config))
    return path


@contextlib.contextmanager
def started_head(file: Path, port: int) -> Iterator[None]:
    """A head whose autoscaler follows *file*; all that it started ends with the context, and nothing else does."""
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as session:
        environment = {
            **os.environ, "RAY_AUTH_MODE": "disabled", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_CLOUD_INSTANCE_ID": _HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD,
        }  # fmt: skip
        command = [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=0", f"--port={port}",
            f"--temp-dir={session}", "--include-dashboard=false", f"--autoscaling-config={file}",
        ]  # fmt: skip
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if f"{session}/".encode() in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)


class Autoscaled(Story):
    """Three trials wait at once; two end while the third is held until their nodes have been let go."""

    def _tell(self) -> None:
        wait_for(lambda: all(self._is_held(number) for number in range(3)))
        self.told["workers"] = [self._workers_there()]
        self._open(0)
        self._open(1)
        wait_for(lambda: self._workers_there() == 1)
        self.told["workers"].append(1)
        self.told["running"] = [n for n, trial in self._trials().items() if trial.outcome is None]
        self._open(2)

    @staticmethod
    def _workers_there() -> int:
        import ray

        return sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in ray.nodes())


def main(folder: Path, corpus: Path) -> None:
    from search.cluster.autoscaling import planned_nodes

    os.environ["RAY_AUTH_MODE"] = "disabled"
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
    file = cluster_file(folder, address)
    planned: Any = partial(planned_nodes, file)
    story = Autoscaled(None, folder / "run", folder / "cache")
    with (
        started_head(file, port),
        knob_spaces(),
        mock.patch("search.cluster.node_watch.planned_nodes", planned),
        mock.patch("search.cluster.joining.planned_nodes", planned),
    ):
        wait_for(planned)
        threading.Thread(target=story.tell, daemon=True).start()
        code = sit_down(folder, corpus, f"127.0.0.1:{port}")
        story.searched.set()
    print(json.dumps({**story.told, "code": code}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
