"""How long the pass over the frozen layers takes, against a plain script over batches of clips of equal length.

``python benchmarks/prefix_pass.py ENCODER_FOLDER CORPUS [--clips 300] [--threads 2] [--rounds 3]``

ENCODER_FOLDER is a Whisper encoder, CORPUS a prepared corpus. Both compute the mean of every layer of the same clips,
on the clips' own frames. The plain script batches up to 16 clips of equal length through transformers' feature
extractor and the encoder's modules, in float32; ours fills an empty cache with the pooled layers and one boundary's
frames, as a search does. They take turns; what is printed are the medians, and their ratio.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]
PLAIN_BATCH = 16


def main() -> None:
    import torch

    from ser_data.corpus import open_corpus
    from ser_models.encoders.loading import load_encoder
    from ser_models.encoders.prefix import PrefixSource
    from ser_models.encoders.source import find_encoder
    from ser_models.precision import resolve_precision
    from ser_models.prefix_cache import PrefixCache

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("encoder")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--clips", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoder = load_encoder(find_encoder(options.encoder, types=("whisper",)).spec)
    whole = open_corpus(options.corpus)
    corpus = _Part(whole, _all_of_some_lengths(whole.waveforms.num_samples, options.clips))
    precision = resolve_precision("auto", "cpu")
    ours, plain = [], []
    for number in range(options.rounds):
        plain.append(_timed(lambda: _plain(encoder, corpus)))
        with tempfile.TemporaryDirectory() as scratch:
            source = PrefixSource(encoder, "timed", corpus, PrefixCache(Path(scratch), 10**11), "bf16", precision)  # type: ignore[arg-type]  # a part of a corpus
            ours.append(_timed(lambda source=source: source.get(["pooled", "layer-4"], max_clip_seconds=5.0)))
        print(f"round {number + 1}: plain fp32 {plain[-1]:.1f} s, ours ({precision}) {ours[-1]:.1f} s", flush=True)
    ratio = statistics.median(ours) / statistics.median(plain)
    scale = whole.waveforms.num_samples.sum() / corpus.num_samples.sum()
    print(f"{len(corpus)} clips: ours takes {ratio:.2f} of the plain script's time")
    print(f"scaled to all {len(whole.waveforms)} clips: {statistics.median(ours) * scale:.0f} s, plain "
          f"{statistics.median(plain) * scale:.0f} s")  # fmt: skip


def _all_of_some_lengths(num_samples: Any, least: int) -> Any:
    """Clips of random lengths, all there are of each, so that batches are as full as over the whole corpus."""
    import numpy as np

    chosen: list[int] = []
    for length in np.random.default_rng(0).permutation(np.unique(num_samples)):
        chosen += np.flatnonzero(num_samples == length).tolist()
        if len(chosen) >= least:
            break
    return np.array(sorted(chosen))


class _Part:
    """Some clips of a corpus, their samples in memory."""

    def __init__(self, corpus: Any, clips: Any) -> None:
        self.manifest_hash, self.name = corpus.manifest_hash, corpus.name
        self._samples = [corpus.waveforms.float32(int(clip)) for clip in clips]
        self.num_samples = corpus.waveforms.num_samples[clips]
        self.waveforms = self

    def __len__(self) -> int:
        return len(self._samples)

    def float32(self, index: int) -> Any:
        return self._samples[index]

    def unmap(self) -> None:
        """Nothing is mapped."""


def _timed(work: Any) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _plain(encoder: Any, corpus: _Part) -> Any:
    """Means of all layers, as a script would compute them: nothing of ours but the modules that were loaded."""
    import numpy as np
    import torch
    from torch.nn import functional

    model, extractor = encoder.model, encoder.extractor
    made = np.zeros((len(corpus), (len(model.layers) + 1) * model.config.d_model), dtype=np.float32)
    with torch.no_grad():
        for length in np.unique(corpus.num_samples):
            alike = np.flatnonzero(corpus.num_samples == length)
            for first in range(0, len(alike), PLAIN_BATCH):
                clips = alike[first : first + PLAIN_BATCH]
                mel = extractor(
                    [corpus.float32(int(clip)) for clip in clips],
                    sampling_rate=16_000,
                    padding="do_not_pad",
                    truncation=False,
                    return_tensors="pt",
                ).input_features
                hidden = functional.gelu(model.conv2(functional.gelu(model.conv1(mel)))).transpose(1, 2)
                hidden = hidden + model.embed_positions.weight[: hidden.shape[1]]
                means = [hidden.mean(dim=1)]
                for layer in model.layers:
                    hidden = layer(hidden, None)
                    means.append(hidden.mean(dim=1))
                means[-1] = model.layer_norm(hidden).mean(dim=1)
                made[clips] = torch.cat(means, dim=1).numpy()
    return made


if __name__ == "__main__":
    main()
