"""What a long search costs its driver: a proposal, a resume and memory after many trials.

``python benchmarks/many_trials.py [--space mfcc_full] [--trials 1000] [--epochs 20]``

Writes a record of that many finished trials of a space, random configurations with made-up scores, two thirds of them
stopped early; then opens it as ``--resume`` does, and asks for proposals. Printed: seconds to open it (no Ray), CPU
milliseconds of a proposal (median and most of 20), and the largest resident set of this process in MB. Goals: 20 s with
Ray's start, 60 ms with 1,000 trials of one family, 1.5 GB with 2,000 trials.
"""

import argparse
import random
import resource
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]


def main() -> None:
    from search.proposals import Proposer
    from search.record import Record
    from search.rungs import RungGroups, make_rule
    from search.space import Space, load_space
    from search.study import Study

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--space", default="mfcc_full")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    space = load_space(options.space)
    if space.encoder is not None:
        space = space.bound_to(12)

    def opened(record: Record, sampler: str, trials: int) -> Study:
        return Study(
            record,
            Proposer(space, sampler=sampler, seed=0, study_name="many"),
            RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=options.epochs), lambda _: ""),
            num_trials=trials,
            max_epochs=options.epochs,
        )

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        _write(path, space, options.trials, options.epochs)
        started = time.perf_counter()
        with Record(path) as record:
            study = opened(record, "tpe", options.trials + 20)
            seconds = time.perf_counter() - started
            milliseconds = []
            for _ in range(20):
                started = time.process_time()  # of this process alone, whatever else runs
                study.next_trial()
                milliseconds.append((time.process_time() - started) * 1e3)
        assert isinstance(space, Space)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{options.space}, {options.trials} trials of up to {options.epochs} epochs: opened in {seconds:.1f} s; a "
        f"proposal takes {statistics.median(milliseconds):.0f} ms (most {max(milliseconds):.0f} ms); "
        f"{peak:.0f} MB at peak"
    )


def _write(path: Path, space: object, trials: int, epochs: int) -> None:
    """The record of a search that tried *trials* random configurations."""
    import os

    from search.proposals import Proposer
    from search.record import Record

    generator = random.Random(0)
    proposer = Proposer(space, sampler="random", seed=1, study_name="written")  # type: ignore[arg-type]  # a Space
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
