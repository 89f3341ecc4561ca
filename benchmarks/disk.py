"""Disk that a search over a pretrained encoder takes, at its peak: 200 trials of wav2vec2-base at depth 4.

``python benchmarks/disk.py [--depth 4] [--trials 200] [--epochs 15] [--concurrent 8]``

A search keeps a checkpoint for each running trial, a second one beside it while that is replaced, and the leader's.
The winner's bundle is written when no trial runs; one of an earlier sitting lies there all the time. The record and
its views are small. The checkpoint is a real one: the network of a trial over an encoder of that size with random
weights, since sizes depend on no weights, trained for an epoch with its layers. The bundle is taken to be a whole
encoder in float32. Record and views are those of a search of that many made-up trials.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets"), str(ROOT / "benchmarks")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--concurrent", type=int, default=8)
    options = parser.parse_args()
    checkpoint, encoder = _checkpoint_bytes(options.depth)
    with tempfile.TemporaryDirectory() as folder:
        record = _record_bytes(Path(folder), options.trials, options.epochs)
    for concurrent in (1, options.concurrent):
        most = (2 * concurrent + 1) * checkpoint + record
        print(
            f"{options.trials} trials at depth {options.depth}, {concurrent} at a time: {most / 1e9:.2f} GB at most, "
            f"{(most + encoder) / 1e9:.2f} GB where a finished search is made longer (a checkpoint "
            f"{checkpoint / 1e6:.0f} MB, the bundle {encoder / 1e6:.0f} MB, the record {record / 1e6:.1f} MB)"
        )


def _checkpoint_bytes(depth: int) -> tuple[int, int]:
    """Bytes of a trial's checkpoint, and of the whole encoder."""
    import torch
    from encoder_epoch import Bench
    from speech_lengths import NoiseCorpus

    settings = argparse.Namespace(device="cpu", precision="fp32", depths=[depth], clips=8, plain_clips=8)
    bench = Bench(settings, NoiseCorpus(settings.clips))
    trainer = bench.trainer(depth, "boundary")
    next(trainer.run())
    with tempfile.TemporaryFile() as file:
        torch.save(trainer.state(), file)
        return file.tell(), 4 * sum(parameter.numel() for parameter in bench.encoder_parameters())


def _record_bytes(folder: Path, trials: int, epochs: int) -> int:
    from many_trials import write_record

    from search.space import load_space

    path = folder / "events.jsonl"
    write_record(path, load_space("wav2vec2_fast").bound_to(12), trials, epochs)
    return path.stat().st_size


if __name__ == "__main__":
    main()
