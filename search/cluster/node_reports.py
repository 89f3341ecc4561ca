"""Whether a node of a cluster can work on this search: the same project and versions, the folders, a CUDA that runs.

:mod:`search.cluster.node_watch` looks at all nodes, at those that join too, and leaves out one that cannot.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

PACKAGES = ("search", "ser_models", "ser_data", "crema_d", "sample_corpus")
#: What decides a trial's numbers, and what Ray itself wants to be equal; ``python`` is looked at too.
DISTRIBUTIONS = ("ray", "torch", "torchaudio", "transformers", "librosa", "numpy")

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
            f"does not see {', '.join(found['unseen'])}. Results must lie where every node sees them under the same "
            "path: name a shared folder by --out, or give a --storage."
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


def own_report() -> Report:
    """What this machine has of what is compared."""
    return look_around(PACKAGES, DISTRIBUTIONS, (), False)


def ask(
    nodes: Iterable[Mapping[str, Any]], paths: Sequence[str], with_gpu: bool, storage: str = ""
) -> dict[Any, Mapping[str, Any]]:
    """Ask *nodes*, as Ray lists them, for their reports; gives each by the reference that will hold its own."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    asked = {}
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        task = ray.remote(look_around).options(num_cpus=0, max_retries=0, scheduling_strategy=there)
        tries_cuda = with_gpu and bool(node["Resources"].get("GPU"))
        asked[task.remote(PACKAGES, DISTRIBUTIONS, paths, tries_cuda, storage)] = node
    return asked


def report_of(reference: Any) -> Report:
    """A report that has arrived.

    Raises:
        LookupError: there is none, since the node left the cluster meanwhile
    """
    import ray

    try:
        report: Report = ray.get(reference)
    except ray.exceptions.RayTaskError:
        return own_report()  # the look itself broke; what is wrong there shows in a trial's own error
    except ray.exceptions.RayError as error:
        raise LookupError from error
    return report


def told_of(told: Mapping[str, Sequence[str]]) -> str:
    """What the user is told of nodes that do not fit, by their addresses; those with the same trouble together."""
    by_trouble: dict[str, list[str]] = {}
    for name, troubles in told.items():
        for trouble in troubles:
            by_trouble.setdefault(trouble, []).append(name)
    lines = [f"  {', '.join(sorted(names))}: {trouble}" for trouble, names in by_trouble.items()]
    return "\n".join(["the cluster has nodes that cannot work on this search:", *lines])
