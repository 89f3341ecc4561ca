"""Look at a prepared corpus before searching on it: ``python -m crema_d.inspect DATA [--html PAGE]``.

Prints counts by emotion, speaker, sex, age, level and sentence, durations, loudness, what was left out and why, and
what the crowd heard. --html writes the same as one page with plots and examples that can be listened to.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from crema_d.crowd import agreement, confusion, has_votes
from ser_data.command import run_command
from ser_data.corpus import Corpus, open_corpus
from ser_data.overview import Overview, look_at, shown

if TYPE_CHECKING:
    from ser_data.overview_page import Example, Section

_MOST_ROWS = 20  # of a table in the terminal; the page has them all


def inspect(data: Path, *, page: Path | None = None) -> Overview:
    """Measure a prepared corpus, print its tables and write its page.

    Args:
        data: folder that `crema_d.prepare` made
        page: HTML file to write; none by default

    Raises:
        UserError: if *data* is no prepared corpus, or *page* cannot be written
    """
    overview = look_at(open_corpus(data))
    print_overview(overview)
    if page is not None:
        from ser_data.overview_page import write_page

        write_page(overview, page, examples=examples(overview.corpus), more=_crowd_section(overview))
        print(f"page: {page}")
    return overview


def print_overview(overview: Overview) -> None:
    """Print the tables of *overview* on stdout."""
    from ser_data.left_out import print_left_out

    corpus, clips = overview.corpus, overview.clips
    print(
        f"{corpus.name} in {corpus.folder}: {len(clips):,} of {len(corpus.manifest):,} clips of "
        f"{clips['actor'].nunique()} speakers, {clips['duration'].sum() / 3600:.2f} h, "
        f"manifest {corpus.manifest_hash[:12]}"
    )
    if corpus.generated:
        print("This speech is generated: nothing that is measured on it says anything about people.")
    _print_table("Emotions", overview.by_emotion())
    for column, title in (("sex", "Sex"), ("age_band", "Age"), ("level", "Level asked for"), ("sentence", "Sentence")):
        if column in clips.columns and clips[column].nunique() > 1:
            _print_table(title, overview.counts(column))
    _print_table("Speakers with the fewest clips", overview.speakers().sort_values("clips", kind="stable").head(5))
    _print_table("What a maximum duration would cut", overview.caps())
    _print_table("Ends of the scales", overview.singled_out())
    highest = overview.bandwidth_hz / 1000
    print(
        f"Sound up to {highest:.1f} kHz"
        + (": the source was sampled at a lower rate than 16 kHz or coded lossily." if highest < 7 else ".")
    )
    print_left_out(corpus.manifest)
    if has_votes(clips):
        table = agreement(clips, corpus.emotions)
        _print_table("Crowd: votes on the intended emotion", table.reset_index())
        print("A vote is the emotion most often named for a clip; a tie counts in equal parts.")


def examples(corpus: Corpus) -> list["Example"]:
    """One clip of each emotion with its MFCC, by one speaker and with one sentence as far as the corpus has them."""
    from ser_data.features.mfcc import compute  # imports torchaudio
    from ser_data.features.settings import MfccSettings
    from ser_data.overview_page import Example

    settings = MfccSettings(num_coefficients=13, deltas=0)
    chosen = []
    for index in example_indices(corpus.clips, corpus.emotions):
        samples = corpus.waveforms.float32(index)
        row = corpus.clips.iloc[index]
        mfcc = compute(samples, settings)
        chosen.append(Example(row["clip"], row["emotion"], samples, mfcc, settings.hop_seconds))
    return chosen


def example_indices(clips: pd.DataFrame, emotions: Sequence[str]) -> list[int]:
    """Row numbers of one clip per emotion, from the speaker and sentence (or else the speaker) with most emotions."""
    variety = clips.groupby(["actor", "sentence"])["emotion"].nunique()
    speaker, sentence = variety.index[int(variety.to_numpy().argmax())]
    by_speaker = (clips["actor"] == speaker).to_numpy()
    indices = []
    for emotion in emotions:
        of_emotion = (clips["emotion"] == emotion).to_numpy()
        for preferred in (by_speaker & (clips["sentence"] == sentence).to_numpy(), by_speaker, np.True_):
            rows = np.flatnonzero(of_emotion & preferred)
            if len(rows):
                indices.append(int(rows[0]))
                break
    return indices


def _crowd_section(overview: Overview) -> list["Section"]:
    from ser_data import overview_figures as figures
    from ser_data.overview_page import Section, figure_block, table_block

    corpus, clips = overview.corpus, overview.clips
    if not has_votes(clips):
        return []
    table = agreement(clips, corpus.emotions)
    return [
        Section(
            "Crowd agreement",
            "How often listeners named the emotion that the actor was asked for. A vote is the emotion most often "
            "named for a clip; a tie counts in equal parts. The mean is unweighted over emotions, as val_uar is.",
            [
                figure_block(figures.agreement_bars(table, "Votes on the intended emotion")),
                figure_block(
                    figures.confusion_map(confusion(clips, corpus.emotions), corpus.emotions, "Heard by voice alone")
                ),
                table_block(table.reset_index()),
            ],
        )
    ]


def _print_table(title: str, table: pd.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for name in table.columns:
        drawn.add_column(str(name), justify="right" if pd.api.types.is_numeric_dtype(table[name]) else "left")
    for row in table.head(_MOST_ROWS).itertuples(index=False):
        drawn.add_row(*(shown(name, value) for name, value in zip(table.columns, row, strict=True)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or pipe has no width; 80 columns would fold the tables
    console.print(drawn, markup=False)
    if len(table) > _MOST_ROWS:
        print(f"and {len(table) - _MOST_ROWS} more rows; --html PAGE has them all")


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m crema_d.inspect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="folder that crema_d.prepare made")
    parser.add_argument("--html", type=Path, metavar="PAGE", help="also write one self-contained page, about 6 MB")
    options = parser.parse_args(arguments)
    inspect(options.data, page=options.html)
    return 0


if __name__ == "__main__":
    run_command(main)
