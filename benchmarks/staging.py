"""How long a node takes to get its data: a prepared corpus and a pretrained network, through Ray and from an S3 server.

``python benchmarks/staging.py CORPUS NETWORK [--scratch FOLDER]``

Both nodes of the cluster are on this machine, the second one with a home of its own, and the S3 server (moto, which
keeps its objects in memory) is on its loopback interface: so this measures what reading, checking, copying and writing
take, and no network. Beside it ``cp`` and ``cp`` with ``sync``, since a copy that counts is on the disk. Files are in
the page cache from the hashing before. One run each.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("network", type=Path)
    parser.add_argument("--scratch", type=Path, help="on the disk where a node keeps its copies (default: temporary)")
    options = parser.parse_args()
    from tests.s3_server import ACCESS

    # Ray's processes inherit these: the project's path, and what the server wants to see
    os.environ |= {**ACCESS, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.s3_server", "127.0.0.1", "bench"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        try:
            _measure(options.corpus, options.network, server.stdout.readline().strip(), Path(scratch))
        finally:
            server.communicate()


def _measure(corpus: Path, network: Path, uri: str, scratch: Path) -> None:
    import ray

    from search.cluster.depot import DepotSource, open_depot
    from ser_data.consignment import pack
    from ser_data.consignment_store import StoredConsignments
    from ser_data.object_store import open_store
    from ser_models.encoders.source import find_encoder
    from ser_models.pretrained.files import files_of
    from tests.search.nodes_apart import node, start_cluster

    files = files_of(find_encoder(str(network)))
    assert files is not None
    began = time.perf_counter()
    packed = {
        pack(folder, names, called=folder.name): folder
        for folder, names in ((corpus, ["corpus.json", "manifest.csv", "waveforms.i16"]), files)
    }
    _say("hashing, on the driver", sum(each.size for each in packed), time.perf_counter() - began)
    first = pack(corpus, ["corpus.json"], called="first")  # starts the worker, and lets it import what it needs

    cluster = start_cluster(scratch, "head")
    cluster.add_node(**node(scratch, "second"))
    ray.init(cluster.address, logging_level="ERROR")
    on_second = ray.remote(_stage).options(num_cpus=1, resources={"second": 1})
    stored = StoredConsignments(open_store(uri))
    stored.put(first, corpus, stored.missing(first))
    for each, folder in packed.items():
        began = time.perf_counter()
        sent = stored.put(each, folder, stored.missing(each))
        _say(f"{folder.name} put into S3, once", sent, time.perf_counter() - began)
    folders = {first.digest: str(corpus), **{each.digest: str(folder) for each, folder in packed.items()}}
    for called, source in (("through Ray", DepotSource(open_depot(folders))), ("from S3", stored)):
        shelf = str(scratch / "second" / called.replace(" ", "-"))
        ray.get(on_second.remote(first, source, shelf))
        for each, folder in packed.items():
            arrival = ray.get(on_second.remote(each, source, shelf))
            _say(f"{folder.name} to the second node {called}", arrival.fetched, arrival.seconds)
    for each, folder in packed.items():
        paths = [str(folder / file.name) for file in each.files]
        for called, sync in (("cp", False), ("cp and sync", True)):
            target = scratch / f"{called}-{folder.name}"
            target.mkdir()
            began = time.perf_counter()
            _copy(paths, target, sync)
            _say(f"{folder.name} by {called}", each.size, time.perf_counter() - began)


def _stage(consignment: Any, source: Any, shelf: str) -> Any:
    from ser_data.staging import stage

    return stage(consignment, source, Path(shelf))


def _copy(paths: list[str], target: Path, sync: bool) -> None:
    subprocess.run(["cp", *paths, str(target)], check=True)
    if sync:
        subprocess.run(["sync", *map(str, target.iterdir())], check=True)


def _say(what: str, num_bytes: int, seconds: float) -> None:
    print(f"{what}: {num_bytes / 1e6:.0f} MB in {seconds:.2f} s, {num_bytes / 1e6 / seconds:.0f} MB/s", flush=True)


if __name__ == "__main__":
    main()
