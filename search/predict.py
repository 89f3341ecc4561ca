#!/usr/bin/env python3
"""Emotion probabilities of clips by a search's winner: ``python search/predict.py BUNDLE CLIP|FOLDER…``."""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# this file's folder comes first on the path; the packages lie beside it and under datasets/
_ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(_ROOT), str(_ROOT / "datasets")]

from ser_data.audio_files import AUDIO_SUFFIXES, ClipError, read_clip, refuse_unusable, to_16k  # noqa: E402
from ser_data.command import run_command  # noqa: E402
from ser_data.errors import UserError  # noqa: E402


@dataclass(frozen=True)
class Unusable:
    """A clip without an answer.

    Attributes:
        clip: the path as given or found
        reason: why, in words
    """

    clip: Path
    reason: str


@dataclass(frozen=True)
class Prediction:
    """One clip's answer.

    Attributes:
        clip: the path as given or found
        probabilities: one per emotion, summing to 1
        emotions: their names, in the same order
    """

    clip: Path
    probabilities: list[float]
    emotions: tuple[str, ...]

    @property
    def emotion(self) -> str:
        """The most probable one."""
        return self.emotions[self.probabilities.index(max(self.probabilities))]


def find_clips(names: Sequence[str]) -> list[Path]:
    """The clips that *names* stand for: files as they are, folders searched with everything below.

    Raises:
        UserError: a name does not exist, or a folder holds no audio
    """
    clips: list[Path] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in AUDIO_SUFFIXES)
            if not found:
                raise UserError(
                    f"{name} holds no audio. Accepted are {', '.join(sorted(AUDIO_SUFFIXES))} files: name a folder "
                    "with some, or a clip."
                )
            clips += found
        elif path.exists():
            clips.append(path)
        else:
            raise UserError(f"{name} does not exist. Name a clip or a folder of clips.")
    return clips


def predict(bundle_folder: Path, clips: Sequence[Path]) -> Iterator[Prediction | Unusable]:
    """The answer to each clip in turn, or why it has none."""
    from ser_models.bundle import load_bundle

    bundle = load_bundle(bundle_folder)
    for clip in clips:
        try:
            samples, rate = read_clip(clip)
            refuse_unusable(samples, rate)
        except ClipError as error:
            yield Unusable(clip, str(error))
            continue
        yield Prediction(clip, bundle.probabilities(to_16k(samples, rate)).tolist(), bundle.emotions)


def main(argv: list[str]) -> int:
    """Print predictions; 1 if some clip failed."""
    parser = argparse.ArgumentParser(prog="python search/predict.py", description=__doc__)
    parser.add_argument("bundle", type=Path, help="a search's best/ folder")
    parser.add_argument("clips", nargs="+", metavar="CLIP|FOLDER", help="audio files, or folders of them")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: table")
    arguments = parser.parse_args(argv)
    answers = list(predict(arguments.bundle, find_clips(arguments.clips)))
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    failures = [answer for answer in answers if isinstance(answer, Unusable)]
    _print(predictions, arguments.format)
    for failure in failures:
        print(f"error: {failure.clip}: {failure.reason}", file=sys.stderr)
    return 1 if failures else 0


def _print(predictions: Sequence[Prediction], style: str) -> None:
    if style == "json":
        rows = [
            {
                "clip": str(answer.clip),
                "emotion": answer.emotion,
                "probabilities": dict(zip(answer.emotions, answer.probabilities, strict=True)),
            }
            for answer in predictions
        ]
        print(json.dumps(rows, indent=2))
    elif not predictions:
        return
    elif style == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["clip", "emotion", *predictions[0].emotions])
        for answer in predictions:
            writer.writerow([answer.clip, answer.emotion, *(f"{share:.4f}" for share in answer.probabilities)])
    else:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        table = Table("clip", "emotion", *predictions[0].emotions)
        for answer in predictions:
            table.add_row(escape(str(answer.clip)), answer.emotion, *(f"{share:.2f}" for share in answer.probabilities))
        Console().print(table)


if __name__ == "__main__":
    run_command(main)
