"""Saying what of a corpus is not used, and why."""

from pathlib import Path

import pandas as pd

from ser_data.corpus import Corpus, read_header
from ser_data.errors import UserError
from ser_data.manifest import reason_kind

_EXAMPLES = 4


class NothingLeftError(UserError):
    """Every clip was left out. `manifest` holds the rows and their reasons."""

    def __init__(self, message: str, manifest: pd.DataFrame) -> None:
        super().__init__(message)
        self.manifest = manifest


def reasons(manifest: pd.DataFrame) -> pd.DataFrame:
    """Clips left out, by kind of reason.

    Args:
        manifest: rows of `ser_data.manifest`

    Returns:
        one row per kind, most frequent first: ``kind``, ``clips`` (their number), ``examples`` (clip names),
        ``detail`` (the first clip's reason after its kind)
    """
    left_out = manifest[manifest["excluded"] != ""]
    rows = []
    for kind, group in left_out.groupby(left_out["excluded"].map(reason_kind), sort=True):
        names = list(group["clip"])
        more = f", and {len(names) - _EXAMPLES} more" if len(names) > _EXAMPLES else ""
        detail = group["excluded"].iloc[0].partition(":")[2].strip()
        rows.append((str(kind), len(names), ", ".join(names[:_EXAMPLES]) + more, detail))
    rows.sort(key=lambda row: -row[1])
    return pd.DataFrame(rows, columns=["kind", "clips", "examples", "detail"])


def print_left_out(manifest: pd.DataFrame) -> None:
    """Print what was left out and why, as a table on stdout; a line if nothing was."""
    from rich.console import Console  # a quarter of a second that a finished corpus does not need
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Left out", title_justify="left")
    for heading in ("reason", "clips", "which", "for example"):
        table.add_column(heading, justify="right" if heading == "clips" else "left", overflow="fold")
    found = reasons(manifest)
    for row in found.itertuples(index=False):
        table.add_row(*(Text(str(cell)) for cell in row))  # Text: a name like [1] is not markup
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or pipe has no width; 80 columns would fold every reason
    if len(found):
        console.print(table)
    else:
        console.print("No clip was left out.")


def nothing_left(manifest: pd.DataFrame, source: Path, advice: str) -> NothingLeftError:
    """The error for a corpus without a single usable clip.

    Args:
        manifest: rows with their reasons
        source: what the user gave
        advice: next step where neither Git LFS nor permissions are the cause
    """
    found = reasons(manifest)
    kinds = list(found["kind"])
    if kinds == ["Git LFS pointer"]:
        message = (
            f"all {len(manifest)} audio files in {source} are Git LFS pointers of about 130 bytes, not audio. Run "
            f"`git lfs install` and `git lfs pull` in that clone, or fetch the audio with "
            f"`python -m crema_d.download --to DIR`."
        )
    elif kinds == ["no read permission"]:
        message = (
            f"none of the {len(manifest)} audio files in {source} may be read: no permission. Check with `ls -l`, and "
            f"let their owner give read access (`chmod -R u+rX {source}`)."
        )
    else:
        counts = ", ".join(f"{row.clips} {row.kind}" for row in found.itertuples())
        first = manifest.iloc[0]
        message = (
            f"no clip is left of the {len(manifest)} found in {source}: {counts} (for example {first['clip']}: "
            f"{first['excluded']}). {advice}"
        )
    return NothingLeftError(message, manifest)


def print_summary(corpus: Corpus) -> None:
    """Print what was left out of a prepared corpus, why, and what is in it."""
    print_left_out(corpus.manifest)
    for note in read_header(corpus.folder)["notes"]:
        print(f"note: {note}")
    clips = corpus.clips
    print(
        f"{corpus.folder}: {len(clips):,} of {len(corpus.manifest):,} clips of {clips['actor'].nunique()} speakers, "
        f"{clips['duration'].sum() / 3600:.2f} h, manifest {corpus.manifest_hash[:12]}"
    )
