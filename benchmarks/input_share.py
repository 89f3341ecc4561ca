"""How much of an epoch on MFCC or spectrograms is input, and how much longer it is if it decodes and uses librosa.

``python benchmarks/input_share.py CORPUS AUDIO_FOLDER`` (a prepared corpus and the files it was prepared from; without
them the sample corpus is made and used)

Trains two epochs of known-good configurations (MFCC: CNN and CRNN; spectrograms: CNN) on one thread and prints the
share of the second one that went into making batches. The comparison loads a number of the same training clips with
librosa at 22,050 Hz and computes 40 MFCC with Δ and ΔΔ, as the notebooks do in every epoch, and scales the time to
all of them.
"""

import importlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]
TIMED_CLIPS = 200


def main() -> None:
    import librosa
    import numpy as np
    import torch

    from ser_data.corpus import open_corpus
    from ser_models.task import Task
    from ser_models.task_clips import open_task

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        corpus_folder, audio = _corpus(Path(scratch))
        corpus = open_corpus(corpus_folder)
        task = Task(str(corpus_folder), corpus.default_split, corpus.emotions, 0, scratch, 10.0, "cpu")
        _, second = _seconds("mel_cnn", "cnn", task)
        print(f"mel_cnn: {second[0]:.1f} s an epoch, {second[1]:.1%} of it input", flush=True)
        seconds = {}
        for network in ("cnn", "crnn"):
            _, (seconds[network], share) = _seconds("mfcc_full", network, task)
            print(f"{network}: {seconds[network]:.1f} s an epoch, {share:.1%} of it input", flush=True)
        split_clips = corpus.clips["file"].to_numpy()
        files = [audio / name for name in split_clips[np.linspace(0, len(split_clips) - 1, TIMED_CLIPS).astype(int)]]
        _librosa_features(librosa, files[0])  # numba compiles on the first call
        started = time.perf_counter()
        for file in files:
            _librosa_features(librosa, file)
        per_clip = (time.perf_counter() - started) / len(files)
        clips = open_task(task)
        num_clips = len(clips.train) + len(clips.validation)
        again = per_clip * num_clips
        for network, epoch in seconds.items():
            print(
                f"{network}: with librosa in every epoch {(epoch + again) / epoch:.1f} times as long "
                f"({per_clip * 1e3:.1f} ms a clip, from {len(files)} of {num_clips} clips)"
            )


def _seconds(space_name: str, network: str, task: Any) -> list[tuple[float, float]]:
    """Seconds of two epochs of the space's known-good CNN, as *network*, and the share of each that was input."""
    from search.families import get_family
    from search.space import load_space

    space = load_space(space_name, {"network": network})
    known = next(dict(some) for some in load_space(space_name).known_good if some["network"] == "cnn")
    build = importlib.import_module(get_family(space.family).module).build
    trainer = build(_configuration(space, known), task, seed=0, max_epochs=2).trainer
    measured: list[tuple[float, float]] = []
    before = 0.0
    for result in trainer.run():
        spent = trainer.data.train.seconds_spent + trainer.data.validation.seconds_spent
        measured.append((result.seconds, (spent - before) / result.seconds))
        before = spent
    return measured


def _configuration(space: object, known: dict[str, object]) -> dict[str, object]:
    """*known* as far as the pinned space asks for it, the rest at the low end."""

    class Known:
        def suggest_categorical(self, name: str, choices: tuple[object, ...]) -> object:
            return known.get(name, choices[0])

        def suggest_int(self, name: str, low: int, high: int, **_: object) -> object:
            return known.get(name, low)

        suggest_float = suggest_int

    return dict(space.configure(Known()))  # type: ignore[attr-defined]


def _librosa_features(librosa: object, file: Path) -> None:
    samples, rate = librosa.load(file, sr=22_050)  # type: ignore[attr-defined]
    mfcc = librosa.feature.mfcc(y=samples, sr=rate, n_mfcc=40)  # type: ignore[attr-defined]
    for order in (1, 2):
        librosa.feature.delta(mfcc, order=order)  # type: ignore[attr-defined]


def _corpus(scratch: Path) -> tuple[Path, Path]:
    if len(sys.argv) > 2:
        return Path(sys.argv[1]), Path(sys.argv[2])
    from benchmarks.sample import prepared_sample

    return prepared_sample(scratch)


if __name__ == "__main__":
    main()
