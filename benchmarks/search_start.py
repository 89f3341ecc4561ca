"""From the command to the first score, memory of all processes, and how long a resume of 1,000 trials takes.

``python benchmarks/search_start.py [CORPUS]`` (a prepared corpus, the sample corpus without it; a first run, not timed,
caches its features)

Memory is the sum over the search's processes of their proportional set size (Linux's PSS: a shared page counts once),
at its peak.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]
RECORDED_TRIALS = 1000
EPOCHS_WATCHED = 3


from search.record import read_events  # noqa: E402


def main() -> None:
    from benchmarks.sample import prepared_sample

    with tempfile.TemporaryDirectory() as scratch:
        corpus = sys.argv[1] if len(sys.argv) > 1 else str(prepared_sample(Path(scratch))[0])
        common = ["--data", corpus, "--cache-dir", f"{scratch}/cache", "--wandb", "disabled"]
        _timed_search([*common, "--space", "mfcc_fast", "--trials", "2", "--out", f"{scratch}/first"])
        for run in range(3):
            first, peak = _timed_search(
                [*common, "--space", "mfcc_fast", "--trials", "2", "--out", f"{scratch}/run{run}"]
            )
            print(f"first score recorded after {first:.1f} s; peak of all processes {peak / 1e6:.0f} MB (PSS)")
        print(f"replaying {RECORDED_TRIALS} recorded trials of 20 epochs: {_replay_seconds(Path(scratch)):.1f} s")


def _timed_search(options: list[str]) -> tuple[float, float]:
    """Seconds from the command to the first recorded epoch, and peak PSS until the second trial has trained a while."""
    started = time.time()
    command = [sys.executable, str(ROOT / "search" / "run.py"), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    record = Path(options[options.index("--out") + 1]) / "events.jsonl"
    epochs: list[dict[str, Any]] = []
    peak = 0
    while process.poll() is None and sum(event["number"] == 1 for event in epochs) < EPOCHS_WATCHED:
        time.sleep(0.5)
        peak = max(peak, _pss_of_session(process.pid))
        if record.exists():
            epochs = [event for event in read_events(record) if event["kind"] == "epoch"]
    process.send_signal(signal.SIGINT)
    process.wait()
    return epochs[0]["at"] - started, peak


def _pss_of_session(session: int) -> int:
    """PSS of every process that descends from *session*, in bytes."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    family, grown = {session}, True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in family} - family
        family |= children
        grown = bool(children)
    total = 0
    for pid in family:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total


def _replay_seconds(scratch: Path) -> float:
    """What a resume does before Ray: read the record, rebuild Optuna's study, its journal and the rungs."""
    from search.proposals import Proposer, StudyJournal
    from search.record import Record
    from search.rungs import RungGroups, make_rule
    from search.space import load_space
    from search.study import Study

    space = load_space("mfcc_fast")
    path = scratch / "long.jsonl"

    def study(record: Record) -> Study:
        return Study(
            record,
            Proposer(space, sampler="random", seed=0, study_name="long"),
            RungGroups(lambda: make_rule("none", grace=1, reduction_factor=3, max_epochs=20), lambda config: ""),
            num_trials=RECORDED_TRIALS + 1,
            max_epochs=20,
            journal=lambda finished: StudyJournal(scratch / "study.journal", "long", finished),
        )

    with Record(path) as record:
        begun = study(record)
        os.fsync, fsync = (lambda _: None), os.fsync  # only the reading is timed
        for _ in range(RECORDED_TRIALS):
            proposal = begun.next_trial()
            assert proposal is not None
            for epoch in range(1, 21):
                score = 0.5 + epoch / 100
                names = (
                    "train_loss",
                    "val_loss",
                    "val_uar",
                    "val_accuracy",
                    "val_macro_f1",
                    "seconds",
                    "clips_per_second",
                )
                hits = [[1, 2, 3, 4, 5, 6]] * 9
                begun.report(proposal.number, {"epoch": epoch, **dict.fromkeys(names, score), "val_hits": hits})
        os.fsync = fsync
    started = time.perf_counter()
    with Record(path) as record:
        study(record)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
