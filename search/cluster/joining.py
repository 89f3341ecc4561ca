"""Joining a Ray cluster or starting a local one, quietly."""

import contextlib
import importlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from search.cluster.autoscaling import planned_nodes, total
from ser_data.errors import UserError

# Ray reads these when it is imported or when its processes start, so they are set before the import below
_ENVIRONMENT = {
    "RAY_worker_niceness": "0",  # 15 by default, which starves trials beside anything else on the machine
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # its banner is printed at verbose=0 too
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # its Ctrl-C returns as if the search had finished
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # Tune's own snapshots are never read
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # our guard fails the trial by name; Tune's ends the whole search
    "TUNE_WARN_THRESHOLD_S": "10",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "30",  # a stopped trial may be inside a long epoch; its worker stays warm
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the board has the reason, the trial's folder the traceback
    "OMP_NUM_THREADS": "1",  # trials set their own number of threads
}
_SECRETS = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")


@dataclass(frozen=True)
class Cluster:
    """What a search runs on.

    Attributes:
        description: one line for the user
        cpus: cores of all nodes, those that its launcher may still start among them
        gpus: GPUs of all nodes, likewise
        joined: whether it was there before, and may have nodes that differ from this machine
        hint: how it grows, for the user; empty where it cannot
    """

    description: str
    cpus: int
    gpus: int
    joined: bool = False
    hint: str = ""

    def introduce(self, folder: Path, console: Console) -> None:
        """Say what the search in *folder* runs on."""
        for line in (f"{self.description}: {self.cpus} cores, {self.gpus} GPUs; results in {folder}", self.hint):
            if line:
                console.print(line, soft_wrap=True, highlight=False)


@contextlib.contextmanager
def joined_cluster(address: str, *, num_cpus: int | None = None) -> Iterator[Cluster]:
    """Join or start a cluster for the duration of the context.

    Args:
        address: ``auto`` joins the one that ``RAY_ADDRESS`` or this machine offers, else starts a local one;
            ``local`` always starts one; anything else is a head's ``HOST:PORT``
        num_cpus: cores that a local one may use; all by default

    Raises:
        UserError: the address cannot be reached
    """
    os.environ.update(_ENVIRONMENT)
    import ray

    joins = address not in ("auto", "local") or (address == "auto" and _running_cluster() is not None)
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": True}
    # a second of imports that trials' driver needs anyway, while Ray's processes start
    importing = threading.Thread(target=importlib.import_module, args=("ray.tune",), daemon=True)
    importing.start()
    try:
        if joins:
            where = _running_cluster() if address == "auto" else address
            if address != "auto":
                _check_reachable(address)
            ray.init(address=where, **quiet)
            description = f"joined the Ray cluster at {where}"
        else:
            # trials exchange epochs, not arrays: features are mapped from disk, so the object store stays small
            with _without_secrets():
                ray.init(
                    address="local", num_cpus=num_cpus, include_dashboard=False, object_store_memory=100 * 2**20,
                    **quiet,
                )  # fmt: skip
            description = "started Ray on this machine"
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        told = " ".join(str(error).split())
        if told.startswith("Version mismatch"):
            raise UserError(
                f"--address {address}: this Python or Ray is not the cluster's. {told}. Use the same on every machine: "
                "build .venv there with the same Python (sh build_venv.sh), and start Ray with .venv/bin/ray."
            ) from error
        if isinstance(error, ray.exceptions.AuthenticationError) or "authentication token" in told:
            raise UserError(
                f"--address {address}: the cluster wants its token, which this shell does not show. Copy "
                "~/.ray/auth_token from the cluster's head to the same place here (mode 600), "
                "export RAY_AUTH_MODE=token, and try again."
            ) from error
        raise UserError(
            f"--address {address}: no Ray cluster could be joined there ({str(error).splitlines()[0]}). Accepted are "
            "auto, local, or a head's HOST:PORT as `ray start --head` prints it. Start one, or use --address local."
        ) from error
    finally:
        importing.join()  # what imports a part of it meanwhile may find another half made
    if joins:
        _keep_keys_here()
    else:
        _let_trials_use_waiting_workers()
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # it lists failed trials by ids that nobody else uses
    try:
        yield _described(description, joins, ray.get_runtime_context().gcs_address)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _without_secrets() -> Iterator[None]:
    """The driver alone talks to W&B: Ray's processes, which inherit its environment, and their files get no key."""
    kept = {name: os.environ.pop(name) for name in _SECRETS if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


def _described(description: str, joined: bool, address: str) -> Cluster:
    import ray

    planned = planned_nodes() if joined else []
    if planned:
        there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus, gpus = (max(total(there, name), total(planned, name)) for name in ("CPU", "GPU"))
        hint = "its launcher starts nodes when trials wait, and ends those that stay idle"
        return Cluster(description, cpus, gpus, joined, hint)
    resources = ray.cluster_resources()
    shows = "RAY_AUTH_MODE=token " if os.environ.get("RAY_AUTH_MODE") == "token" else ""
    start = f"{shows}.venv/bin/ray start --address={address}"
    hint = f"more machines count as soon as they join; each joins with: {start}" if joined else ""
    return Cluster(description, int(resources.get("CPU", 0)), int(resources.get("GPU", 0)), joined, hint)


def _keep_keys_here() -> None:
    """Keep Tune from sending the keys of a cloud that may be in the driver's shell to every node.

    It puts them into the trials' runtime environment, which the dashboard shows; a node has a role of its own.
    """
    from ray.tune.execution import class_cache

    class_cache.ENV_VARS_TO_PROPAGATE = {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if not name.startswith("AWS_")
    }


def _let_trials_use_waiting_workers() -> None:
    """Keep Tune from asking for workers with environment variables of their own.

    Tune gives every trial's actor a runtime environment (``PL_DISABLE_FORK`` and what may be in the driver's shell),
    so Ray passes over the workers that it started in advance, ends them and starts others: 2 to 5 s on two cores. On
    this machine workers inherit the driver's environment anyway.
    """
    from ray.tune.execution import class_cache

    class_cache.DEFAULT_ENV_VARS = {}
    class_cache.ENV_VARS_TO_PROPAGATE = set()


def _running_cluster() -> str | None:
    """Address of the cluster that this shell or machine offers.

    Only one that ``ray start`` made counts, which leaves its address in a file: a cluster that another search started
    for itself is that search's own.
    """
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    from ray._private.utils import read_ray_address

    address: str | None = read_ray_address()
    if address:
        with contextlib.suppress(ConnectionError):  # the file outlives a cluster that was killed
            _check_reachable(address)
            return address
    return None


def _check_reachable(address: str) -> None:
    """Fail in seconds where Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    except (OSError, ValueError) as error:
        raise ConnectionError(str(error)) from error
