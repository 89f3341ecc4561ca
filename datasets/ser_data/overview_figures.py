"""Plotly figures of an `Overview`, one function a question."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from ser_data.clip_levels import spectrum_frequencies
from ser_data.overview import CAPS_SECONDS, Overview
from ser_data.waveforms import SAMPLE_RATE

# Okabe and Ito's colours, told apart with any kind of colour vision; an emotion keeps its colour on the whole page.
PALETTE = ("#D55E00", "#009E73", "#CC79A7", "#E69F00", "#7F7F7F", "#0072B2", "#56B4E9", "#882255", "#117733")
_POINTS_PER_SECOND = 400  # of a drawn waveform: minima and maxima of so many stretches


def colours(emotions: Sequence[str]) -> dict[str, str]:
    """Colour of each emotion."""
    return {emotion: PALETTE[index % len(PALETTE)] for index, emotion in enumerate(emotions)}


def clips_by(overview: Overview, column: str, title: str) -> go.Figure:
    """Stacked bars: clips of each emotion by the values of *column*."""
    table = overview.counts(column)
    figure = go.Figure(layout={"title": title, "barmode": "stack", "yaxis_title": "clips"})
    for emotion, colour in colours(overview.corpus.emotions).items():
        figure.add_bar(x=table.iloc[:, 0].astype(str), y=table[emotion], name=emotion, marker_color=colour)
    figure.update_xaxes(type="category")
    return figure


def durations(overview: Overview) -> go.Figure:
    """Histogram of durations by emotion, with the maximum durations that a search may try."""
    figure = go.Figure(
        layout={"title": "Duration", "barmode": "stack", "xaxis_title": "seconds", "yaxis_title": "clips"}
    )
    for emotion, colour in colours(overview.corpus.emotions).items():
        values = overview.clips.loc[overview.clips["emotion"] == emotion, "duration"]
        figure.add_histogram(x=values.round(3), name=emotion, marker_color=colour, xbins={"size": 0.1})
    longest = overview.clips["duration"].max()
    for cap in CAPS_SECONDS:
        if cap < longest:
            figure.add_vline(x=cap, line={"color": "#444", "width": 1, "dash": "dot"}, annotation_text=f"{cap:g} s")
    return figure


def loudness(overview: Overview, column: str, title: str) -> go.Figure:
    """Boxes of the clips' RMS level by the values of *column*."""
    figure = go.Figure(layout={"title": title, "yaxis_title": "RMS, dBFS", "showlegend": False})
    shades = colours(overview.corpus.emotions) if column == "emotion" else {}
    order = overview.corpus.emotions if column == "emotion" else sorted(overview.clips[column].unique())
    for value in order:
        chosen = overview.clips[overview.clips[column] == value]
        figure.add_box(
            y=chosen["rms_dbfs"].round(2),
            name=str(value),
            text=chosen["clip"],
            marker_color=shades.get(value, PALETTE[5]),
            marker_size=3,
            line_width=1,
        )
    figure.update_xaxes(type="category")
    return figure


def spectra(overview: Overview) -> go.Figure:
    """Mean spectrum of each emotion, and the highest frequency that holds sound."""
    figure = go.Figure(layout={"title": "Mean spectrum", "xaxis_title": "Hz", "yaxis_title": "dBFS per bin"})
    shades = colours(overview.corpus.emotions)
    for emotion, spectrum in overview.spectra.items():
        figure.add_scatter(
            x=spectrum_frequencies(), y=spectrum.round(2), name=emotion, mode="lines", line={"color": shades[emotion]}
        )
    figure.add_vline(
        x=overview.bandwidth_hz,
        line={"color": "#444", "dash": "dot"},
        annotation_text=f"sound up to {overview.bandwidth_hz / 1000:.1f} kHz",
    )
    return figure


def confusion_map(matrix: NDArray[np.float64], emotions: Sequence[str], title: str) -> go.Figure:
    """Heat map of a matrix of shares, row: intended, column: heard."""
    figure = go.Figure(
        go.Heatmap(
            z=matrix.round(3),
            x=list(emotions),
            y=list(emotions),
            zmin=0,
            zmax=1,
            colorscale="Blues",
            texttemplate="%{z:.0%}",
            hovertemplate="intended %{y}, heard %{x}: %{z:.1%}<extra></extra>",
        ),
        layout={"title": title, "xaxis_title": "heard", "yaxis_title": "intended"},
    )
    figure.update_yaxes(autorange="reversed")
    return figure


def agreement_bars(table: pd.DataFrame, title: str) -> go.Figure:
    """Bars of agreement by emotion, one colour for each of the table's columns."""
    figure = go.Figure(layout={"title": title, "barmode": "group", "yaxis_tickformat": ".0%"})
    for column, colour in zip(table.columns, (PALETTE[5], PALETTE[3], PALETTE[1]), strict=False):
        figure.add_bar(x=list(table.index), y=table[column].round(4), name=column, marker_color=colour)
    figure.update_yaxes(range=[0, 1])
    return figure


def example(samples: NDArray[np.float32], mfcc: NDArray[np.float32], hop_seconds: float, colour: str) -> go.Figure:
    """Waveform above, MFCC below, on one axis of time.

    Args:
        samples: one clip, 16 kHz, shape ``(num_samples,)``
        mfcc: shape ``(num_frames, num_coefficients)``; each coefficient is shown scaled to its own mean and deviation
        hop_seconds: between frames
        colour: of the waveform
    """
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.04)
    times, outline = _outline(samples)
    figure.add_scatter(x=times, y=outline, mode="lines", line={"color": colour, "width": 1}, row=1, col=1)
    scaled = (mfcc - mfcc.mean(axis=0)) / np.maximum(mfcc.std(axis=0), 1e-6)
    figure.add_heatmap(
        z=scaled.T.round(2),
        x=(np.arange(len(mfcc)) * hop_seconds).round(4),
        zmin=-2.5,
        zmax=2.5,
        showscale=False,
        colorscale="RdBu_r",
        row=2,
        col=1,
    )
    figure.update_layout(showlegend=False, height=300)
    figure.update_yaxes(range=[-1, 1], title_text="amplitude", row=1, col=1)
    figure.update_yaxes(title_text="MFCC", row=2, col=1)
    figure.update_xaxes(title_text="seconds", row=2, col=1)
    return figure


def _outline(samples: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Minima and maxima of short stretches, in turns: what a waveform looks like at the width of a page."""
    step = SAMPLE_RATE // _POINTS_PER_SECOND
    stretches = samples[: max(len(samples) // step, 1) * step].reshape(-1, min(step, len(samples)))
    ends = np.stack([stretches.min(axis=1), stretches.max(axis=1)], axis=1).ravel()
    times = np.repeat(np.arange(len(stretches)) * step / SAMPLE_RATE, 2)
    return times.round(4), ends.astype(np.float64).round(4)
