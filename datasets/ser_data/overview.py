"""What a corpus holds, in numbers: the tables and measurements behind a first look at it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ser_data.clip_levels import bandwidth_hz, clip_levels, mean_spectrum
from ser_data.corpus import Corpus
from ser_data.seeds import derive_seed

CAPS_SECONDS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0)  # maximum durations that a search may try
SPECTRUM_CLIPS = 60  # per emotion; more do not move the mean by a visible amount
_AGE_BAND_YEARS = 10
_SINGLED_OUT = 3  # clips named at each end of a scale


@dataclass(frozen=True)
class Overview:
    """One corpus, looked at once. Everything is about the kept clips unless it says otherwise.

    Attributes:
        corpus: what is looked at
        levels: one row per kept clip, columns of `ser_data.clip_levels.clip_levels`
        spectra: mean spectrum in dB by emotion, each of shape ``(num_frequencies,)``
    """

    corpus: Corpus
    levels: pd.DataFrame
    spectra: dict[str, NDArray[np.float64]]

    @cached_property
    def clips(self) -> pd.DataFrame:
        """The kept clips with their levels, and ``age_band`` where ages are known."""
        clips = pd.concat([self.corpus.clips, self.levels], axis=1)
        if "age" in clips.columns and clips["age"].notna().any():
            clips["age_band"] = [age_band(age) for age in clips["age"]]
        return clips

    @property
    def bandwidth_hz(self) -> float:
        """Highest frequency with sound in it, over all emotions."""
        powers = [10 ** (spectrum / 10) for spectrum in self.spectra.values()]
        return bandwidth_hz(10 * np.log10(np.mean(powers, axis=0)))

    def counts(self, column: str) -> pd.DataFrame:
        """How the clips are spread over the values of *column*.

        Returns:
            one row per value: the value, ``clips``, ``speakers``, ``minutes``, then the clips of each emotion
        """
        groups = self.clips.groupby(column, sort=True)
        table = pd.DataFrame(
            {
                "clips": groups.size(),
                "speakers": groups["actor"].nunique(),
                "minutes": groups["duration"].sum() / 60,
            }
        )
        if column != "emotion":
            by_emotion = pd.crosstab(self.clips[column], self.clips["emotion"])
            table = table.join(by_emotion.reindex(columns=list(self.corpus.emotions), fill_value=0))
        return table.reset_index(names=column.replace("_", " "))

    def speakers(self) -> pd.DataFrame:
        """One row per speaker: sex and age where known, clips, minutes, median level, clips of each emotion."""
        table = self.counts("actor").drop(columns="speakers").rename(columns={"actor": "speaker"})
        groups = self.clips.groupby("actor", sort=True)
        table.insert(3, "median dBFS", groups["rms_dbfs"].median().to_numpy())
        for column in ("age", "sex"):
            if column in self.clips.columns:
                table.insert(1, column, groups[column].first().to_numpy())
        return table

    def by_emotion(self) -> pd.DataFrame:
        """One row per emotion and one for all: clips, share, speakers, minutes, duration and level quantiles."""
        rows = []
        for name in (*self.corpus.emotions, "all"):
            clips = self.clips if name == "all" else self.clips[self.clips["emotion"] == name]
            rows.append(
                {
                    "emotion": name,
                    "clips": len(clips),
                    "share": len(clips) / len(self.clips),
                    "speakers": clips["actor"].nunique(),
                    "minutes": clips["duration"].sum() / 60,
                    **_quantiles("s", clips["duration"], (0.05, 0.5, 0.95)),
                    **_quantiles("dBFS", clips["rms_dbfs"], (0.05, 0.5, 0.95)),
                }
            )
        return pd.DataFrame(rows)

    def caps(self) -> pd.DataFrame:
        """What a maximum duration would cut: share of clips that are longer, and share of the speech beyond it."""
        durations = self.clips["duration"].to_numpy(dtype=np.float64)
        return pd.DataFrame(
            {
                "cap s": CAPS_SECONDS,
                "clips cut": [float(np.mean(durations > cap)) for cap in CAPS_SECONDS],
                "speech lost": [float(np.maximum(durations - cap, 0).sum() / durations.sum()) for cap in CAPS_SECONDS],
            }
        )

    def singled_out(self) -> pd.DataFrame:
        """Kept clips at the ends of the scales, worth a listen: ``why``, ``clip``, ``value``."""
        rows = []
        for why, column, unit, largest in (
            ("shortest", "duration", "s", False),
            ("longest", "duration", "s", True),
            ("quietest", "rms_dbfs", "dBFS", False),
            ("loudest", "rms_dbfs", "dBFS", True),
            ("loudest background", "floor_dbfs", "dBFS", True),
            ("clipped", "clipped_samples", "samples", True),
        ):
            ordered = self.clips.sort_values([column, "clip"], ascending=[not largest, True])
            if column == "clipped_samples":
                ordered = ordered[ordered[column] > 0]
            for clip, value in ordered[["clip", column]].head(_SINGLED_OUT).itertuples(index=False):
                shown = f"{value:,} {unit}" if column == "clipped_samples" else f"{value:.2f} {unit}"
                rows.append((why, clip, shown))
        return pd.DataFrame(rows, columns=["why", "clip", "value"])


def look_at(corpus: Corpus, *, seed: int = 0) -> Overview:
    """Measure *corpus*: reads every kept clip once.

    Args:
        corpus: what `ser_data.corpus.open_corpus` gives
        seed: chooses the clips whose spectra are averaged
    """
    labels = corpus.labels()
    rng = np.random.default_rng(derive_seed(seed, "spectrum clips"))
    spectra = {}
    for label, emotion in enumerate(corpus.emotions):
        indices = np.flatnonzero(labels == label)
        if len(indices):
            chosen = rng.permutation(indices)[:SPECTRUM_CLIPS]
            spectra[emotion] = mean_spectrum(corpus.waveforms, sorted(chosen.tolist()))
    return Overview(corpus, clip_levels(corpus.waveforms), spectra)


def shown(column: str, value: object) -> str:
    """A number as people read it, in the terminal and on the page.

    >>> shown("share", 0.1234), shown("minutes", 12.345), shown("clips", 5881), shown("age", None)
    ('12.3 %', '12.35', '5,881', '')
    """
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float):
        percent = column in ("share", "clips cut", "speech lost", "voice", "face", "multimodal")
        return f"{100 * value:.1f} %" if percent else f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)


def age_band(age: object) -> str:
    """The ten years that *age* lies in; ``unknown`` for a missing one.

    >>> age_band(37)
    '30-39'
    """
    if not isinstance(age, int | np.integer):
        return "unknown"
    first = int(age) // _AGE_BAND_YEARS * _AGE_BAND_YEARS
    return f"{first}-{first + _AGE_BAND_YEARS - 1}"


def _quantiles(unit: str, values: pd.Series, levels: Sequence[float]) -> dict[str, float]:
    names = {0.05: "5 %", 0.5: "median", 0.95: "95 %"}
    return {
        f"{unit}, {names[level]}": float(values.quantile(level)) if len(values) else float("nan") for level in levels
    }
