"""``python -m crema_d.download --to DIR``: CREMA-D's 7,442 clips, about 600 MB.

From the official repository every file is checked against the size and sha256 of its Git LFS pointer, from a mirror on
the Hugging Face Hub against what the Hub states. The same command again checks what is there, and fetches what is
missing, broken off or damaged.
"""

import argparse
from pathlib import Path

from crema_d.hub import DEFAULT_MIRROR, download_mirror
from crema_d.official import download_official
from ser_data.command import run_command
from ser_data.errors import UserError

_LICENCE = "CREMA-D is licensed under the Open Database License 1.0: https://opendatacommons.org/licenses/odbl/1-0/"
_FAILURES_SHOWN = 10
_MOST_JOBS = 32


def main(arguments: list[str]) -> int:
    """Parse *arguments* and download; 0 if every clip is there, 1 if some could not be had."""
    options = _parser().parse_args(arguments)
    if not 1 <= options.jobs <= _MOST_JOBS:
        raise UserError(f"--jobs {options.jobs} is out of range: 1 to {_MOST_JOBS} connections. 8 is usual.")
    if options.repo is not None and options.source != "huggingface":
        raise UserError(f"--repo {options.repo} needs --source huggingface. Add it, or leave --repo out.")
    print(_LICENCE)
    if options.source == "huggingface":
        num_clips = download_mirror(options.to, mirror=options.repo or DEFAULT_MIRROR, jobs=options.jobs)
        print(f"{num_clips} clips in {options.to}, each as the Hub states it")
        failed = {}
    else:
        report = download_official(options.to, jobs=options.jobs)
        failed = report.failed
        print(
            f"{report.num_there + report.num_fetched} clips in {options.to}, each with the right sha256 "
            f"({report.num_fetched} fetched, {report.num_bytes / 1e6:.0f} MB; {report.num_there} were there)"
        )
    if failed:
        print(f"could not be had: {len(failed)}")
        for name, reason in list(failed.items())[:_FAILURES_SHOWN]:
            print(f"  {name}: {reason}")
        if len(failed) > _FAILURES_SHOWN:
            print(f"  and {len(failed) - _FAILURES_SHOWN} more")
        print("run the same command again: it fetches these only")
        return 1
    print(f"next: python -m crema_d.prepare {options.to} --out data/crema_d")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crema_d.download",
        description="Download CREMA-D: 7,442 clips, about 600 MB; the official source brings its tables too. Run it "
        "again after an interruption: complete files stay, broken-off ones are continued.",
    )
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to fill")
    parser.add_argument(
        "--source",
        choices=("official", "huggingface"),
        default="official",
        help="the authors' repository on GitHub, or a copy on the Hugging Face Hub (default: %(default)s)",
    )
    parser.add_argument(
        "--repo",
        metavar="OWNER/NAME",
        help="dataset on the Hub with one audio file per clip, for --source huggingface; a third party's upload "
        f"(default: {DEFAULT_MIRROR})",
    )
    parser.add_argument(
        "--jobs", type=int, default=8, metavar="N", help="connections at once, 1 to 32 (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
