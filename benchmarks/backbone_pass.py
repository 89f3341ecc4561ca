"""What a frozen ResNet-50 costs: the pass over its stages, once, and an epoch of a head behind it.

``python benchmarks/backbone_pass.py [--clips 300] [--threads 2] [--precision auto] [--device cpu] [--maps]``

A network of ResNet-50's size with random weights, images of 128 × 130 pixels made of noise with CREMA-D's durations.
The pass runs as a search runs it, from log-mel frames to pooled vectors in the cache of prefixes, over some clips, and
is scaled to the 5,884 clips that train and validate in CREMA-D; with --maps it writes the maps of all stages too, as
fine-tuning needs them. The epoch is a search's: 5,144 vectors train a head with one hidden layer, 740 validate it; the
median of five. Memory is the largest resident set of this process. Goals, on two cores: 10 minutes, 2 GB, .5 s.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "benchmarks")]
CLASSES, TRAIN_CLIPS, ALL_CLIPS, EPOCHS = 6, 5144, 5884, 6
CONFIG: dict[str, object] = {
    "unfreeze_depth": 0, "num_mels": 128, "max_clip_seconds": 3.0, "channels": 3, "image_size": "native",
    "head_layers": 1, "head_units": 256, "dropout": 0.3, "epochs": EPOCHS, "batch_size": 64, "accumulation": 1,
    "head_lr": 1e-3, "weight_decay": 0.01, "schedule": "cosine", "warmup_share": 0.1, "label_smoothing": 0.1,
    "class_weights": True, "clip_norm": 1.0, "mixup_alpha": 0.0,
}  # fmt: skip


def main() -> None:
    import torch
    from transformers import ResNetConfig, ResNetModel

    from ser_models.backbones.loading import frozen
    from ser_models.backbones.plan import read_plan
    from ser_models.precision import resolve_precision

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--maps", action="store_true", help="write the maps of all stages too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.precision = resolve_precision(options.precision, options.device)
    torch.manual_seed(0)
    backbone = frozen(ResNetModel(ResNetConfig())).to(options.device)
    plan = read_plan(CONFIG, num_stages=backbone.num_stages, max_epochs=EPOCHS)
    before = _peak_mb()
    _time_pass(backbone, plan.recipe, options)
    print(f"peak of this process: {_peak_mb():.0f} MB; {before:.0f} MB before the first clip", flush=True)
    epochs = _epoch_seconds(backbone, plan, options)
    print(f"a frozen epoch, {TRAIN_CLIPS} clips trained and {ALL_CLIPS - TRAIN_CLIPS} validated, {options.threads} "
          f"threads, fp32: median {statistics.median(epochs[1:]):.2f} s, first {epochs[0]:.2f} s")  # fmt: skip


def _time_pass(backbone: Any, recipe: Any, options: argparse.Namespace) -> None:
    from speech_lengths import NoiseCorpus

    from ser_data.features.clip_frames import ClipFrames
    from ser_data.features.extraction import compute
    from ser_models.backbones.prefix import POOLED, PrefixPass, PrefixSource, map_name
    from ser_models.prefix_cache import PrefixCache

    corpus = NoiseCorpus(options.clips)
    started = time.perf_counter()
    clips = [compute(corpus.float32(number), recipe.settings) for number in range(len(corpus))]
    frames = ClipFrames.of(clips, dim=recipe.settings.dim)
    extracted = time.perf_counter() - started
    names = [POOLED, *(map_name(stage) for stage in range(backbone.num_stages) if options.maps)]
    with tempfile.TemporaryDirectory() as scratch:
        work = PrefixPass(backbone, frames, recipe, options.precision)
        work.compute(work.batches(_all(options.clips))[0], names)  # the first batch of a process prepares kernels
        cache = PrefixCache(Path(scratch), 10**11)
        started = time.perf_counter()
        PrefixSource(work, "random", "noise", cache, "bf16").get(names)
        seconds = time.perf_counter() - started
        stored = sum(path.stat().st_size for path in Path(scratch).glob("*") if path.is_file())
    scale = ALL_CLIPS / options.clips
    print(
        f"{options.clips} clips, images of {recipe.size[0]} × {recipe.size[1]}, {options.precision} on "
        f"{options.device}, {options.threads} threads: {seconds:.1f} s, scaled to {ALL_CLIPS} clips "
        f"{seconds * scale / 60:.1f} minutes and {stored * scale / 1e9:.2f} GB; log-mel frames before it "
        f"{extracted * scale / 60:.1f} minutes in one thread",
        flush=True,
    )


def _epoch_seconds(backbone: Any, plan: Any, options: argparse.Namespace) -> list[float]:
    import numpy as np
    import torch

    from ser_models.backbones.batches import BackboneBatches, PooledVectors
    from ser_models.backbones.data import vector_norm
    from ser_models.backbones.family import initialised, parameter_groups
    from ser_models.prefix_cache import Ragged
    from ser_models.training import Trainer, TrainingData

    pooled = Ragged(np.arange(ALL_CLIPS + 1), torch.rand(ALL_CLIPS, backbone.dim))
    labels = np.random.default_rng(0).integers(0, CLASSES, ALL_CLIPS)
    every = _all(ALL_CLIPS)
    train, validation = (
        BackboneBatches(PooledVectors(pooled), labels, part, batch_size=plan.settings.batch_size, shuffle=shuffle)
        for part, shuffle in ((every[:TRAIN_CLIPS], True), (every[TRAIN_CLIPS:], False))
    )
    held = every[TRAIN_CLIPS:]
    data = TrainingData(train, validation, torch.ones(CLASSES), held, labels[held], (held % 9).astype(str))
    norm = vector_norm(pooled, every[:TRAIN_CLIPS], least_share=0.0)
    model = initialised(backbone, plan, norm, num_classes=CLASSES, seed=0)
    groups = parameter_groups(model, plan)
    trainer = Trainer(model, plan.settings, data, seed=0, device=options.device, groups=groups)
    return [result.seconds for result in trainer.run()]


def _all(number: int) -> Any:
    import numpy as np

    return np.arange(number, dtype=np.int64)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    main()
