"""How much longer an epoch of the plain recipe is than one from a cached boundary, at several unfreeze depths.

``python benchmarks/encoder_epoch.py [--device cpu|cuda] [--precision fp32|bf16] [--plain-precision fp32|bf16]``
``[--depths 0 2 6 12] [--clips 96] [--plain-clips 32] [--threads 2] [--mask-at boundary input]``

One training epoch of an encoder of wav2vec2-base's size with random weights, over clips of noise with CREMA-D's
durations. The plain recipe imports nothing of ours but the clips: transformers' model with the same layers frozen,
random batches of 16 padded to the longest, mean over the frames, a linear head, AdamW. Ours is the trial that a search
would build: the same layers and batch size, a weighted sum of all layers at depth 0. The pass that fills the cache is
timed apart, since a search pays it once. Some of the clips are timed, fewer with the plain recipe, whose batches are
random whatever their number, than with ours, whose batches hold clips of one length the better the more clips there
are; all times are scaled to the 5,144 training clips of CREMA-D.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "benchmarks")]
BATCH, CLASSES, TRAIN_CLIPS = 16, 6, 5144


def main() -> None:
    import torch
    from speech_lengths import NoiseCorpus

    options = _options()
    torch.set_num_threads(options.threads)
    corpus = NoiseCorpus(options.clips)
    print(
        f"{options.clips} clips, {corpus.seconds:.0f} s of audio, on {options.device}, ours in {options.precision}; "
        f"{options.plain_clips} of them, plain in {options.plain_precision}; scaled to {TRAIN_CLIPS}",
        flush=True,
    )
    bench = Bench(options, corpus)
    bench.plain_epoch(0)  # the first pass of a process allocates and compiles kernels
    plain = {}
    for depth in options.depths:
        plain[depth] = bench.plain_epoch(depth) * TRAIN_CLIPS / options.plain_clips
        print(f"plain, depth {depth}: {plain[depth]:.0f} s", flush=True)
    scale = TRAIN_CLIPS / options.clips
    for mask_at in options.mask_at:
        seconds = bench.fill_cache(options.depths, mask_at) * scale
        print(f"masks at {mask_at}: the pass {seconds:.0f} s, once", flush=True)
        for depth in options.depths:
            ours = bench.our_epoch(depth, mask_at) * scale
            print(
                f"masks at {mask_at}, depth {depth}: ours {ours:.1f} s, plain {plain[depth]:.0f} s: "
                f"{plain[depth] / ours:.1f} times as long",
                flush=True,
            )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--plain-precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--depths", type=int, nargs="+", default=[0, 2, 6, 12])
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--plain-clips", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mask-at", nargs="+", default=["boundary", "input"], choices=("boundary", "input"))
    return parser.parse_args()


class Bench:
    """Both recipes over the same clips, with the same random weights.

    Args:
        options: of the command line
        corpus: the clips
    """

    def __init__(self, options: argparse.Namespace, corpus: Any) -> None:
        import numpy as np
        import torch
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

        self._options, self._corpus = options, corpus
        self._device = torch.device(options.device)
        torch.manual_seed(0)
        # Layer drop would skip layers of the plain recipe and none of ours.
        shape = getattr(options, "shape", {})  # of wav2vec2-base by default
        self._model = Wav2Vec2Model(Wav2Vec2Config(layerdrop=0.0, attn_implementation="sdpa", **shape))
        self._extractor = Wav2Vec2FeatureExtractor()
        self._labels = np.random.default_rng(0).integers(0, CLASSES, len(corpus))
        self._scratch = tempfile.TemporaryDirectory()

    def plain_epoch(self, depth: int) -> float:
        """Seconds of one epoch of the plain recipe."""
        import copy

        import numpy as np
        import torch
        from torch.nn import functional

        model = copy.deepcopy(self._model).to(self._device).train()
        model.requires_grad_(False)
        for layer in list(model.encoder.layers)[len(model.encoder.layers) - depth :]:
            layer.requires_grad_(True)
        head = torch.nn.Linear(model.config.hidden_size, CLASSES).to(self._device)
        trained = [p for p in [*model.parameters(), *head.parameters()] if p.requires_grad]
        optimiser = torch.optim.AdamW(trained, lr=1e-4)
        clips = [self._corpus.float32(index) for index in range(self._options.plain_clips)]
        order = np.random.default_rng(1).permutation(len(clips))
        labels = torch.from_numpy(self._labels).to(self._device)
        half = self._options.plain_precision == "bf16"

        def epoch() -> None:
            for first in range(0, len(order), BATCH):
                chosen = order[first : first + BATCH]
                made = self._extractor(
                    [clips[i] for i in chosen], sampling_rate=16_000, padding=True, return_tensors="pt"
                )
                with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=half):
                    hidden = model(made.input_values.to(self._device)).last_hidden_state
                    logits = head(hidden.mean(dim=1))
                optimiser.zero_grad()
                functional.cross_entropy(logits.float(), labels[chosen]).backward()
                optimiser.step()

        return self._timed(epoch)

    def fill_cache(self, depths: list[int], mask_at: str) -> float:
        """Seconds of the pass for all *depths* together, into an empty cache."""
        names = sorted({name for depth in depths for name in self._names(depth, mask_at)})
        started = time.perf_counter()
        self._rows(names)
        return time.perf_counter() - started

    def our_epoch(self, depth: int, mask_at: str) -> float:
        """Seconds of one epoch from the cache: training only, as in the plain recipe."""
        epochs = self.trainer(depth, mask_at).run()
        return self._timed(lambda: next(epochs))

    def encoder_parameters(self) -> Any:
        """Those of the whole encoder."""
        return self._model.parameters()

    def trainer(self, depth: int, mask_at: str) -> Any:
        """Of the trial that a search would build, without clips to validate on but one."""
        import torch

        from ser_models.encoders.data import EncoderBatches, EncoderInputs, pooled_ranges
        from ser_models.encoders.family import initialised, parameter_groups
        from ser_models.encoders.prefix import POOLED, boundary_name
        from ser_models.training import Trainer, TrainingData

        plan = self._plan(depth, mask_at)
        rows = self._rows(self._names(depth, mask_at))
        import numpy as np

        inputs = EncoderInputs(
            frames=None if plan.start is None else rows[boundary_name(plan.start)],
            pooled=rows[POOLED] if plan.reads_pooled else None,
            pooled_ranges=pooled_ranges(plan, self._encoder.hidden_size, plan.frozen_states),
        )
        every = np.arange(len(self._corpus))
        batches = EncoderBatches(inputs, self._labels, every, batch_size=BATCH, shuffle=True)
        first = EncoderBatches(inputs, self._labels, every[:1], batch_size=BATCH, shuffle=False)
        data = TrainingData(batches, first, torch.ones(CLASSES), every[:1], self._labels[:1], np.array(["one"]))
        model = initialised(self._encoder, plan, None, num_classes=CLASSES, seed=0)
        return Trainer(
            model,
            plan.settings,
            data,
            seed=0,
            device=self._options.device,
            groups=parameter_groups(model, plan),
            precision=self._options.precision,
        )

    def _timed(self, epoch: Callable[[], object]) -> float:
        """The second of two epochs on a GPU, whose first one compiles and allocates; the only one on a CPU."""
        import torch

        on_gpu = self._device.type == "cuda"
        for _ in range(2 if on_gpu else 1):
            if on_gpu:
                torch.cuda.synchronize()
            started = time.perf_counter()
            epoch()
            if on_gpu:
                torch.cuda.synchronize()
        return time.perf_counter() - started

    @property
    def _encoder(self) -> Any:
        from ser_models.encoders.architectures import split_encoder

        encoder = split_encoder(self._model, self._extractor).to(self._device)
        return encoder.requires_grad_(False).eval()

    def _names(self, depth: int, mask_at: str) -> list[str]:
        from ser_models.encoders.data import stream_names

        return stream_names(self._plan(depth, mask_at))

    def _rows(self, names: list[str]) -> Any:
        from ser_models.encoders.prefix import PrefixSource
        from ser_models.prefix_cache import PrefixCache

        source = PrefixSource(
            encoder=self._encoder,
            weights="random",
            corpus=self._corpus,
            cache=PrefixCache(Path(self._scratch.name), 10**11),
            frame_dtype="bf16" if self._options.precision == "bf16" else "fp32",
            precision=self._options.precision,
        )
        return source.get(names, max_clip_seconds=5.0)

    def _plan(self, depth: int, mask_at: str) -> Any:
        from ser_models.encoders.plan import read_plan

        config: dict[str, object] = {
            "unfreeze_depth": depth, "mask_at": mask_at, "max_clip_seconds": 5.0, "epochs": 2, "batch_size": BATCH,
            "layer_mix": "last" if depth else "weighted", "pooling": "mean", "head_layers": 0, "dropout": 0.0,
            "accumulation": 1, "head_lr": 1e-4, "weight_decay": 0.01, "schedule": "cosine", "warmup_share": 0.1,
            "label_smoothing": 0.0, "class_weights": False, "clip_norm": 1.0,
        }  # fmt: skip
        if depth or mask_at == "input":
            config |= {
                "spec_augment": True, "mask_time_prob": 0.05, "mask_time_length": 10, "mask_feature_prob": 0.05,
                "mask_feature_length": 32,
            }  # fmt: skip
        if depth:
            config |= {
                "adapt": "unfreeze", "backbone_lr": 1e-4, "unfreeze_at_epoch": 1, "gradient_checkpointing": False,
            }  # fmt: skip
        if depth > 1:
            config["layer_decay"] = 1.0
        return read_plan(config, num_layers=self._model.config.num_hidden_layers, max_epochs=2)


if __name__ == "__main__":
    main()
