"""The page of an `Overview`: one HTML file that opens from disk, without a network, and that can be listened to."""

import base64
import contextlib
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import soundfile
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from ser_data import overview_figures as figures
from ser_data.errors import UserError
from ser_data.left_out import reasons
from ser_data.overview import Overview, shown
from ser_data.waveforms import SAMPLE_RATE

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 0 auto; max-width: 1180px;
       padding: 0 20px 60px; }
h1 { margin-bottom: 0; } h2 { margin-top: 44px; border-bottom: 1px solid #ccc; }
.lead { color: #555; } .warning { background: #fff3cd; border: 1px solid #e0c46c; padding: 8px 12px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(540px, 100%), 1fr)); gap: 12px; }
.figures > div { min-width: 0; } .wide { grid-column: 1 / -1; }
.scroll { overflow-x: auto; max-height: 480px; }
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 10px; text-align: right; border-bottom: 1px solid #e5e5e5; white-space: nowrap; }
th { position: sticky; top: 0; background: #f5f5f5; } td.text, th.text { text-align: left; white-space: normal; }
audio { width: 100%; height: 32px; } figure { margin: 0; } figcaption { font-weight: 600; }
nav a { margin-right: 14px; }
"""
_PLOT = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d", "select2d"]}


@dataclass(frozen=True)
class Section:
    """A part of the page: heading, a sentence, and HTML that is ready to be shown."""

    title: str
    text: str
    blocks: Sequence[str]


@dataclass(frozen=True)
class Example:
    """A clip to look at and listen to: its row's words, samples at 16 kHz, MFCC ``(num_frames, num_coefficients)``."""

    clip: str
    emotion: str
    samples: NDArray[np.float32]
    mfcc: NDArray[np.float32]
    hop_seconds: float


def write_page(overview: Overview, path: Path, *, examples: Sequence[Example], more: Sequence[Section] = ()) -> None:
    """Write the page, whole or not at all.

    Args:
        overview: what to show
        path: HTML file, about 6 MB; an existing one is replaced
        examples: clips shown with waveform and features
        more: sections that only some corpora have, put before the examples

    Raises:
        UserError: if the file cannot be written
    """
    sections = [*_sections(overview), *more, _examples(overview, examples)]
    title = f"{overview.corpus.name}: a look at the corpus"
    links = " ".join(f'<a href="#{_anchor(section.title)}">{html.escape(section.title)}</a>' for section in sections)
    body = "\n".join(
        f'<h2 id="{_anchor(section.title)}">{html.escape(section.title)}</h2>\n<p>{html.escape(section.text)}</p>\n'
        f'<div class="figures">{"".join(section.blocks)}</div>'
        for section in sections
    )
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{_STYLE}</style>\n'
        f"<script>{get_plotlyjs()}</script></head>\n<body><h1>{html.escape(title)}</h1>\n{_lead(overview)}"
        f"<nav>{links}</nav>\n{body}\n</body></html>\n"
    )
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # what matters is the first error
            temporary.unlink()
        raise UserError(
            f"--html {path} cannot be written: {error.strerror}. Give a file in a folder that you may write to."
        ) from error


def figure_block(figure: go.Figure, *, wide: bool = False) -> str:
    """A figure as a block of a section; wide ones take the whole row."""
    figure.update_layout(template="plotly_white", margin={"l": 60, "r": 20, "t": 50, "b": 50})
    inner = figure.to_html(full_html=False, include_plotlyjs=False, config=_PLOT)
    return f'<div class="wide">{inner}</div>' if wide else f"<div>{inner}</div>"


def table_block(table: pd.DataFrame) -> str:
    """A table as a block of a section that takes the whole row. Columns called share, cut or lost are percentages."""
    kinds = ['<th class="text">' if not pd.api.types.is_numeric_dtype(table[name]) else "<th>" for name in table]
    head = "".join(f"{kind}{html.escape(str(name))}</th>" for kind, name in zip(kinds, table, strict=True))
    rows = "".join(
        "<tr>"
        + "".join(
            f"{kind.replace('<th', '<td')}{html.escape(shown(str(name), value))}</td>"
            for kind, name, value in zip(kinds, table, row, strict=True)
        )
        + "</tr>"
        for row in table.itertuples(index=False)
    )
    return f'<div class="wide scroll"><table><tr>{head}</tr>{rows}</table></div>'


def _lead(overview: Overview) -> str:
    corpus, clips = overview.corpus, overview.clips
    lead = (
        f"{len(clips):,} of {len(corpus.manifest):,} clips are used, of {clips['actor'].nunique()} speakers, "
        f"{clips['duration'].sum() / 3600:.2f} h. Manifest {corpus.manifest_hash[:12]}."
    )
    warning = (
        '<p class="warning">This speech is generated. Nothing that is measured on it says anything about people.</p>\n'
        if corpus.generated
        else ""
    )
    return f'<p class="lead">{html.escape(lead)}</p>\n{warning}'


def _sections(overview: Overview) -> list[Section]:
    clips = overview.clips
    spread = [
        (column, title)
        for column, title in (
            ("sex", "Sex"),
            ("age_band", "Age"),
            ("level", "Level asked for"),
            ("sentence", "Sentence"),
        )
        if column in clips.columns and clips[column].nunique() > 1
    ]
    found = reasons(overview.corpus.manifest)
    left_out = overview.corpus.manifest.query("excluded != ''")[["clip", "excluded"]]
    return [
        Section("Emotions", "Clips, durations and RMS levels of each emotion.", [table_block(overview.by_emotion())]),
        Section(
            "Spread",
            "How the emotions are spread over speakers and sentences. Bars of unequal make-up are a way for "
            "a model to be right for the wrong reason.",
            [
                *(figure_block(figures.clips_by(overview, column, title)) for column, title in spread),
                figure_block(figures.clips_by(overview, "actor", "Speakers"), wide=True),
                table_block(overview.speakers()),
            ],
        ),
        Section(
            "Duration",
            "What a maximum duration would cut stands in the table.",
            [figure_block(figures.durations(overview), wide=True), table_block(overview.caps())],
        ),
        Section(
            "Loudness and spectrum",
            "Levels are dB re amplitude 1.0. Loudness tells emotions apart and speakers "
            "too: a model may learn either. The spectrum shows where the recording, or a lossy copy, ends.",
            [
                figure_block(figures.loudness(overview, "emotion", "Level by emotion")),
                figure_block(figures.spectra(overview)),
                figure_block(figures.loudness(overview, "actor", "Level by speaker"), wide=True),
                table_block(overview.singled_out()),
            ],
        ),
        Section(
            "Left out",
            f"{len(left_out)} of {len(overview.corpus.manifest):,} clips are rows with a reason and are not used.",
            [table_block(found), table_block(left_out)] if len(left_out) else [],
        ),
    ]


def _examples(overview: Overview, examples: Sequence[Example]) -> Section:
    shades = figures.colours(overview.corpus.emotions)
    blocks = []
    for one in examples:
        figure = figures.example(one.samples, one.mfcc, one.hop_seconds, shades[one.emotion])
        blocks.append(
            f"<figure><figcaption>{html.escape(one.emotion)} · {html.escape(one.clip)}</figcaption>"
            f'<audio controls preload="none" src="data:audio/wav;base64,{_wav(one.samples)}"></audio>'
            f"{figure_block(figure)}</figure>"
        )
    return Section(
        "Examples",
        "One speaker, one sentence where there is one, every emotion: waveform, and the MFCC of its "
        "frames from the lowest coefficient up, each scaled to its own mean and deviation.",
        blocks,
    )


def _wav(samples: NDArray[np.float32]) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, "PCM_16", format="WAV")
    return base64.b64encode(file.getvalue()).decode("ascii")


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
