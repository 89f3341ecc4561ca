"""``python -m sample_corpus --out DIR``: write generated speech in CREMA-D's layout."""

import argparse
from pathlib import Path

from sample_corpus.cast import CAST
from sample_corpus.corpus import generate
from ser_data.command import run_command


def main(arguments: list[str]) -> int:
    """Parse *arguments*, generate, and say where the clips are."""
    parser = argparse.ArgumentParser(
        prog="python -m sample_corpus",
        description="Generate speech with espeak-ng in CREMA-D's naming and layout: 768 clips of 16 voices, 27 minutes "
        "or 51 MB, in about 10 seconds on 2 cores. No claim of accuracy may rest on it.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: %(default)s)")
    parser.add_argument(
        "--actors",
        type=int,
        default=len(CAST),
        metavar="N",
        help=f"number of voices, 1 to {len(CAST)}; 48 clips and 0.6 seconds of one core each (default: %(default)s)",
    )
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    folder = generate(options.out, seed=options.seed, num_actors=options.actors, jobs=options.jobs)
    print(f"{sum(1 for _ in folder.rglob('*.wav'))} clips of generated speech in {folder}")
    print(f"next: python -m crema_d.prepare {folder} --out DIR")
    return 0


if __name__ == "__main__":
    run_command(main)
