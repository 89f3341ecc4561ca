"""What ``--storage`` costs a search whose trials do nothing else: 100 null trials of three epochs, with and without it.

``python benchmarks/storage_cost.py [TRIALS] [--latency-ms 0]``

The storage is an S3 server on this machine, a process of its own that shares its cores; --latency-ms lets it wait
before each answer, as one that is far away does. Both searches are those of benchmarks/search_overhead.py, started one
after the other, three times. Prints wall seconds from the command to the end, their ratio, and the requests of a trial.
Every epoch of a null trial is its best so far, so that each puts a checkpoint into the storage: the most it can cost.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets"), str(ROOT)]


def serve(latency_ms: float) -> None:
    """Be the server: print an address, and for every line of standard input the requests so far, until it ends."""
    from tests.s3_server import s3_server

    def wait(method: str, path: str) -> None:
        time.sleep(latency_ms / 1000)

    with s3_server() as server:
        server.make_bucket("runs")
        server.fault = wait
        print(server.uri("runs/SEARCH"), flush=True)
        for _ in sys.stdin:
            print(len(server.requests), flush=True)


def _seconds(trials: int, uri: str | None) -> float:
    program = f"from benchmarks.search_overhead import ours; ours({trials}, {uri!r})"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("trials", type=int, nargs="?", default=100)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    from tests.s3_server import ACCESS

    os.environ |= {**ACCESS, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "datasets")])}
    server = subprocess.Popen(
        [sys.executable, "-c", f"from benchmarks.storage_cost import serve; serve({options.latency_ms})"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdin is not None and server.stdout is not None
    uri = server.stdout.readline().strip()

    def num_requests() -> int:
        assert server.stdin is not None and server.stdout is not None
        print(file=server.stdin, flush=True)
        return int(server.stdout.readline())

    for number in range(3):
        without = _seconds(options.trials, None)
        before = num_requests()
        stored = _seconds(options.trials, uri.replace("SEARCH", f"search-{number}"))
        requests = (num_requests() - before) / options.trials
        print(
            f"{options.trials} trials of 3 empty epochs: without {without:5.1f} s, with a storage {stored:5.1f} s, "
            f"ratio {stored / without:.2f}, {1000 * (stored - without) / options.trials:.0f} ms and {requests:.1f} "
            "requests a trial",
            flush=True,
        )
    server.communicate()


if __name__ == "__main__":
    main()
