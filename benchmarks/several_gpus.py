"""How much faster several processes train one trial than one does: an epoch of each, in turn, in one run.

``python benchmarks/several_gpus.py [--device cpu|cuda] [--ranks 2] [--depth 4] [--mask-at boundary|input]``
``[--batch 32] [--clips 512] [--rounds 3] [--threads 1] [--precision fp32|bf16] [--layers 12] [--hidden 768]``

The trial is that of :mod:`benchmarks.encoder_epoch`: an encoder of wav2vec2-base's size, unless --layers and --hidden
say otherwise, with random weights, over noise with CREMA-D's durations. One GPU a process, or on a CPU --threads each,
so that a CPU stands for a GPU as long as there are cores for all. Each round trains an epoch to warm up and one that is
timed, by one process and by all; ratios are of the medians and of the fastest. The pass over the frozen layers is not
timed.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "benchmarks")]


def main() -> None:
    from ser_models.ranks import Recipe, end_kept_ranks
    from ser_models.task import Task

    options = _options()
    config = {name: value for name, value in vars(options).items() if name not in ("rounds", "ranks")}
    task = Task("noise", "none", ("one", "other"), 0, "", 0.0, options.device)
    recipe = Recipe("several_gpus", config, task, seed=0, max_epochs=2, threads=options.threads)
    seconds: dict[int, list[float]] = {1: [], options.ranks: []}
    for number in range(options.rounds):
        for ranks, found in seconds.items():
            found.append(_epoch(recipe, ranks))
            print(f"round {number + 1}, {ranks} of {options.device}: {found[-1]:.2f} s an epoch", flush=True)
    end_kept_ranks()
    print(f"depth {options.depth}, masks at {options.mask_at}, batches of {options.batch}, {options.clips} clips:")
    for name, summary in (("median", statistics.median), ("fastest", min)):  # other work beside only adds
        alone, together = (summary(found) for found in seconds.values())
        share = together / alone
        print(f"{name}: one {alone:.2f} s, {options.ranks} together {together:.2f} s, which is {share:.2f} of it")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--mask-at", default="boundary", choices=("boundary", "input"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768)
    return parser.parse_args()


def _epoch(recipe: Any, ranks: int) -> float:
    """Seconds that the second of two epochs takes in so many processes, but for the one clip that is judged."""
    from ser_models.ranks import trained_by

    with trained_by(ranks, recipe) as lead:
        trainer = recipe.build().trainer
        lead(trainer)
        *_, last = trainer.run()
    return float(last.seconds)


def build(config: Mapping[str, Any], task: Any, *, seed: int, max_epochs: int, probe_clips: int | None = None) -> Any:
    """What every process builds."""
    from ser_models.trial import Trial

    trainer = _bench(tuple(config.items())).trainer(config["depth"], config["mask_at"])
    return Trial(trainer, 0, {}, lambda *_: None)


@lru_cache(maxsize=1)  # the frozen layers are run once a process
def _bench(config: tuple[tuple[str, Any], ...]) -> Any:
    import encoder_epoch
    from speech_lengths import NoiseCorpus

    options = SimpleNamespace(**dict(config))
    encoder_epoch.BATCH = options.batch
    options.shape = {
        "num_hidden_layers": options.layers, "hidden_size": options.hidden, "intermediate_size": 4 * options.hidden,
        "num_attention_heads": max(1, options.hidden // 64),
    }  # fmt: skip
    return encoder_epoch.Bench(options, NoiseCorpus(options.clips))


if __name__ == "__main__":
    main()
