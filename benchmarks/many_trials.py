"""What a long search costs its driver: a proposal, a resume and memory after many trials.

``python benchmarks/many_trials.py [--space mfcc_full|all|A,B] [--trials 1000] [--epochs 20]``

Writes a record of that many finished trials of a space, or of several together, random configurations with made-up
scores, two thirds of them stopped early; then opens it as ``--resume`` does, and asks for proposals. Printed: seconds
to open it (no Ray), CPU milliseconds of a proposal (median and most of 20), and the largest resident set of this
process in MB. Goals: 20 s with Ray's start, 60 ms with 1,000 trials of one family and 150 ms with those of several,
1.5 GB with 2,000 trials.
"""

import argparse
import os
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]

from search import run_folder  # noqa: E402
from search.allocator import LEAST_TRIALS  # noqa: E402
from search.portfolio import Machine, MemberStudy, Portfolio  # noqa: E402
from search.proposals import Proposer  # noqa: E402
from search.record import Record  # noqa: E402
from search.rungs import RungGroups, make_rule  # noqa: E402
from search.space import Space, load_space, members_of  # noqa: E402
from search.study import Study  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--space", default="mfcc_full")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    spaces = [load_space(name) for name in members_of(options.space)]
    spaces = [space if space.encoder is None else space.bound_to(12) for space in spaces]

    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        paths = [Path(folder) / f"{space.name}.jsonl" for space in spaces]
        for path, space in zip(paths, spaces, strict=True):
            write_record(path, space, options.trials // len(spaces), options.epochs)
        started = time.perf_counter()
        studies = [
            _opened(space, stack.enter_context(Record(path)), options.epochs)
            for path, space in zip(paths, spaces, strict=True)
        ]
        searched: Study | Portfolio = studies[0]
        if len(spaces) > 1:
            members = [
                MemberStudy(space.name, study, LEAST_TRIALS, 1, 0.0)
                for space, study in zip(spaces, studies, strict=True)
            ]
            record = stack.enter_context(Record(Path(folder) / "events.jsonl"))
            searched = Portfolio(record, members, Machine(1000, 0), num_trials=options.trials + 20)
        seconds = time.perf_counter() - started
        milliseconds = []
        for _ in range(20):
            started = time.process_time()  # of this process alone, whatever else runs
            searched.next_trial()
            milliseconds.append((time.process_time() - started) * 1e3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.space}, {options.trials} trials of up to {options.epochs} epochs: opened in {seconds:.1f} s; a "
        f"proposal takes {statistics.median(milliseconds):.0f} ms (most {max(milliseconds):.0f} ms); "
        f"{peak:.0f} MB at peak"
    )


def _opened(space: Space, record: Record, epochs: int) -> Study:
    return Study(
        record,
        Proposer(space, sampler="tpe", seed=0, study_name="many"),
        RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=epochs), lambda _: ""),
        num_trials=run_folder.UNBOUNDED,
        max_epochs=epochs,
    )


def write_record(path: Path, space: Space, trials: int, epochs: int) -> None:
    """Write the record of a search that tried *trials* random configurations."""
    generator = random.Random(0)
    proposer = Proposer(space, sampler="random", seed=1, study_name="written")
    real_sync, os.fsync = os.fsync, lambda descriptor: None  # the time of the disk is not what is measured
    try:
        with Record(path) as record:
            for number in range(trials):
                proposal = proposer.ask()
                record.append(
                    {"kind": "suggested", "number": number, "params": proposal.params, "config": proposal.config,
                     "origin": "random", "at": float(number)}
                )  # fmt: skip
                final = generator.gauss(0.5, 0.1)
                length = epochs if number % 3 == 0 else max(1, epochs // 4)
                for epoch in range(1, length + 1):
                    value = final * (1 - 0.5**epoch)
                    report = {"epoch": epoch, "train_loss": 1.0, "val_loss": 1.0, "val_uar": value,
                              "val_accuracy": value, "val_macro_f1": value, "seconds": 1.0, "clips_per_second": 1.0,
                              "val_hits": [[9] * 6] * 9, "num_parameters": 9}  # fmt: skip
                    record.append({"kind": "epoch", "number": number, "report": report, "at": float(number)})
                kind = {"kind": "done"} if length == epochs else {"kind": "stopped", "reason": "rung"}
                record.append({**kind, "number": number, "at": float(number)})
    finally:
        os.fsync = real_sync


if __name__ == "__main__":
    main()
