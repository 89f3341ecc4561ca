"""Whether the nodes of a cluster can work on this search: the same project and versions, the folders, a CUDA that runs.

A node that cannot is found before the first trial, and named with what to do. Nodes that join later, as an autoscaled
cluster's do, are looked at when they come.
"""

import contextlib
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ser_data.errors import UserError

PACKAGES = ("search", "ser_models", "ser_data", "crema_d", "sample_corpus")
#: What decides a trial's numbers, and what Ray itself wants to be equal; ``python`` is looked at too.
DISTRIBUTIONS = ("ray", "torch", "torchaudio", "transformers", "librosa", "numpy")
_ANSWER_SECONDS = 120.0  # of a node; importing torch from a cold disk is most of it
_LOOK_SECONDS = 5.0

Report = Mapping[str, Any]


def look_around(
    packages: Sequence[str], distributions: Sequence[str], paths: Sequence[str], with_gpu: bool, storage: str = ""
) -> dict[str, Any]:
    """What a node has; runs there, sent whole, because the node's own copy of the project is what is in question.

    Args:
        packages: whose files are compared, as Python finds them there
        distributions: whose versions are
        paths: that the node should see
        with_gpu: whether to try CUDA too
        storage: address of the search, to try too; empty for none

    Returns:
        ``versions`` (``missing`` where there is none), ``files`` (a digest by name; none of a package that is missing),
        ``unseen`` of *paths*, and ``cuda`` and ``storage``: why they cannot be used, empty where they can or nobody
        asked
    """
    import hashlib
    import importlib.util
    import os
    import platform
    import subprocess
    import sys
    from importlib import metadata
    from pathlib import Path

    versions = {"python": platform.python_version()}
    for name in distributions:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "missing"
    files = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations if spec is not None else None) or []
        for folder in map(Path, list(folders)[:1]):
            for file in folder.rglob("*.py"):
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                files[f"{package}/{file.relative_to(folder).as_posix()}"] = content
    cuda = ""
    if with_gpu:
        # in a process of its own, which gives the GPU back; Ray hides GPUs from a task that takes none
        program = (
            "import torch\ntry:\n    torch.cuda.init()\nexcept Exception as error:\n"
            "    print(str(error).partition('\\n')[0], f'(this torch is built for CUDA {torch.version.cuda})')"
        )
        environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        cuda = done.stdout.strip() if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]
    unseen = [path for path in paths if not Path(path).exists()]
    barred = ""
    if storage and importlib.util.find_spec("ser_data") is not None:
        from ser_data.object_store import open_store

        try:
            open_store(storage).names("events")
        except Exception as error:  # whatever it is, it is this node's, and is told as such
            barred = str(error)
    return {"versions": versions, "files": files, "unseen": unseen, "cuda": cuda, "storage": barred}


def what_does_not_fit(own: Report, found: Report) -> list[str]:
    """What of a node's report keeps it from working for the machine with the report *own*, each with what to do."""
    told = []
    apart = [name for name, version in own["versions"].items() if found["versions"].get(name) != version]
    if apart:
        named = ", ".join(f"{name} {found['versions'].get(name, 'missing')}" for name in apart)
        ours = ", ".join(f"{name} {own['versions'][name]}" for name in apart)
        told.append(
            f"has {named}; here it is {ours}. Build its .venv from the same constraints.txt with the same Python "
            "(sh build_venv.sh), and start Ray there again with that one."
        )
    names = {name for name, digest in own["files"].items() if found["files"].get(name) != digest}
    names |= found["files"].keys() - own["files"].keys()
    if names and not found["files"]:
        told.append(
            "does not find the project: Ray was started there by another Python than the project's. Start it again "
            "with the project's .venv/bin/ray."
        )
    elif names:
        others = f" (and of {len(names) - 1} more files)" if len(names) > 1 else ""
        told.append(
            f"has another version of {min(names)}{others} than this machine. Copy the project "
            "there (`ray up` with the cluster's file copies it to every node), and start Ray there again."
        )
    if found["unseen"]:
        told.append(
            f"does not see {', '.join(found['unseen'])}. Results and data must lie where every node sees them under "
            "the same path: name a shared folder by --out and --data. Results need none with --storage s3://…"
        )
    if found["storage"]:
        told.append(
            f"cannot use the storage as this machine does. {found['storage']} On a cloud's nodes that is a role "
            "(docs/cluster.md has the policy); on others a file of credentials, such as ~/.aws/credentials."
        )
    if found["cuda"]:
        told.append(
            f"has a GPU that torch cannot use: {found['cuda']}. Install a driver for that CUDA there, or start Ray "
            "there with --num-gpus=0."
        )
    return told


@contextlib.contextmanager
def watched_nodes(paths: Sequence[Path], stopper: Any, *, with_gpu: bool, storage: str = "") -> Iterator[None]:
    """Look at all nodes of the cluster, and as long as the context lasts at those that join.

    Args:
        paths: that every node should see, absolute
        stopper: :class:`search.tune_adapters.SittingStopper`; a node that joins and does not fit ends the sitting
        with_gpu: whether trials take GPUs
        storage: that every node should read and write, empty for none

    Raises:
        UserError: a node does not fit; it says which, why, and what to do
    """
    seen: set[str] = set()
    wanted = [str(path) for path in paths], with_gpu, storage
    _look_at_new(seen, *wanted)
    ended = threading.Event()

    def keep_looking() -> None:
        while not ended.wait(_LOOK_SECONDS):
            try:
                _look_at_new(seen, *wanted)
            except UserError as error:
                stopper.fail(UserError(f"{error}\nNo trial is lost: mend it, then go on with --resume."))
                return
            except Exception:  # the cluster is going, or gone: the search itself finds out, and has better words
                continue

    thread = threading.Thread(target=keep_looking, name="nodes that join", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=_LOOK_SECONDS)


def _look_at_new(seen: set[str], paths: Sequence[str], with_gpu: bool, storage: str) -> None:
    """Look at the nodes that are not among *seen*, and add them."""
    import ray

    new = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in seen]
    if not new:
        return
    seen |= {node["NodeID"] for node in new}
    found = _ask(new, paths, with_gpu, storage)
    own = look_around(PACKAGES, DISTRIBUTIONS, (), False)
    _refuse({name: what_does_not_fit(own, report) for name, report in found.items()})


def _ask(nodes: Collection[Mapping[str, Any]], paths: Sequence[str], with_gpu: bool, storage: str) -> dict[str, Report]:
    """The report of each node that answers, by its address; one that leaves the cluster meanwhile does not."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    asked = {}
    for node in nodes:
        resources = node["Resources"]
        if not resources.get("CPU") and not resources.get("GPU"):
            continue  # no trial runs there: the head of a cluster in a cloud
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(look_around).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        tries_cuda = with_gpu and bool(resources.get("GPU"))
        asked[task.remote(PACKAGES, DISTRIBUTIONS, paths, tries_cuda, storage)] = node["NodeManagerAddress"]
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_SECONDS) if asked else ([], [])
    reports = {}
    for answer in answered:
        with contextlib.suppress(ray.exceptions.RayError):
            reports[asked[answer]] = ray.get(answer)
    return reports


def _refuse(told: Mapping[str, Sequence[str]]) -> None:
    """Name the nodes that do not fit, those with the same trouble together."""
    by_trouble: dict[str, list[str]] = {}
    for name, troubles in told.items():
        for trouble in troubles:
            by_trouble.setdefault(trouble, []).append(name)
    if not by_trouble:
        return
    lines = [f"  {', '.join(sorted(names))}: {trouble}" for trouble, names in by_trouble.items()]
    raise UserError("\n".join(["the cluster has nodes that cannot work on this search:", *lines]))
