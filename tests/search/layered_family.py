"""The knob family with something to compute before its trials, which can go wrong on demand.

What the worker was given is left in the cache folder of its task: ``prepared.jsonl`` has a line per call.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ser_data.errors import UserError
from ser_models.task import Task
from ser_models.trial import Baseline
from tests.search.knob_family import build, hits_of

__all__ = ["build", "cached_bytes", "prepare"]
FAULTS = {
    "none": "",
    "refuses": "raises a UserError",
    "raises": "raises another exception",
    "dies": "its process is killed",
    "not_a_number": "gives a baseline that cannot be ranked",
    "waits_once": "waits for ever after the first of three clips, the first time",
}
PROBE = 0.5  # UAR of the baseline


BYTES = 10_000_000  # that a configuration takes in the cache


def cached_bytes(configs: Sequence[Mapping[str, object]], task: Task) -> int:
    """As if each configuration had something of its own there."""
    return BYTES * len(configs)


def prepare(
    configs: Sequence[Mapping[str, object]], task: Task, *, progress: Callable[[str, int, int], None]
) -> list[Baseline]:
    """Count three clips."""
    import torch

    folder = Path(task.cache_dir)
    before = (folder / "prepared.jsonl").exists()
    with (folder / "prepared.jsonl").open("a") as file:
        file.write(
            json.dumps(
                {
                    "configs": list(configs),
                    "encoder": task.encoder,
                    "threads": torch.get_num_threads(),
                    "pid": os.getpid(),
                }
            )
            + "\n"
        )
    progress("frozen layers", 1, 3)
    fault = configs[0]["fault"]
    if fault == "refuses":
        raise UserError("the cache is too small: 3 GB are needed, --cache-gb allows 1")
    if fault == "raises":
        raise ValueError("a fault in layer 2,\nand more of it")
    if fault == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    while fault == "waits_once" and not before:
        time.sleep(0.05)
    progress("frozen layers", 3, 3)
    score = float("nan") if fault == "not_a_number" else PROBE
    scores = {"val_uar": score, "val_accuracy": PROBE, "val_macro_f1": PROBE, "val_loss": 1.5}
    return [Baseline("linear probe", {**scores, "val_hits": hits_of(PROBE), "seconds": 2.0, "num_parameters": 12})]
