"""What the finalists said of every test clip: counts behind the views of a model, and ``predictions.csv``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crema_d.crowd import vote_shares
from search.finalists.judging import emotions_of
from search.run_folder import write_atomically
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError
from ser_models import metrics

PREDICTIONS_FILE = "predictions.csv"
_AGE_YEARS = 10
_BINS = 10  # of the reliability diagram
_Z = 1.96  # of a 95 % interval
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Judged:
    """One row of the finalists' board, clip by clip.

    Attributes:
        name: of the row
        emotions: the classes
        labels: true classes, int64 (num_clips,)
        probabilities: float64 (num_clips, num_classes)
        clips: of each, ``clip`` and ``speaker``, and what the corpus says of it where it is at hand
    """

    name: str
    emotions: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    clips: pd.DataFrame

    @property
    def predictions(self) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def right(self) -> Bools:
        found: Bools = self.predictions == self.labels
        return found

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts; rows are true classes."""
        return metrics.confusion(self.labels, self.predictions, len(self.emotions))

    @property
    def uncertainty(self) -> NDArray[np.float64]:
        """Entropy of the probabilities over its largest value: 0 where it is sure, 1 where all emotions are equal."""
        shares = np.clip(self.probabilities / self.probabilities.sum(axis=1, keepdims=True), 1e-12, 1)
        found: NDArray[np.float64] = -(shares * np.log(shares)).sum(axis=1) / np.log(shares.shape[1])
        return found

    def counts(self, chosen: Bools | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Right clips and clips by speaker and emotion, of the *chosen* ones."""
        chosen = np.ones(len(self.labels), dtype=bool) if chosen is None else chosen
        names, rows = np.unique(self.clips["speaker"].to_numpy(dtype=str)[chosen], return_inverse=True)
        shape = len(names), len(self.emotions)
        labels = self.labels[chosen]
        every = np.ones(len(labels), dtype=bool)
        return (
            metrics.count_by_speaker(rows, labels, self.right[chosen], shape=shape),
            metrics.count_by_speaker(rows, labels, every, shape=shape),
        )

    def score(self, chosen: Bools | None = None) -> "Score":
        """UAR of the *chosen* clips with its interval over speakers."""
        hits, totals = self.counts(chosen)
        low, high = metrics.uar_interval(hits, totals)
        with np.errstate(invalid="ignore", divide="ignore"):
            recalls = hits.sum(axis=0) / totals.sum(axis=0)
        return Score(float(np.nanmean(recalls)), low, high, len(totals), int(totals.sum()))

    def recall(self, emotion: int) -> "Score":
        """Recall of one emotion, with its interval over speakers."""
        return self.score(self.labels == emotion)

    def groups(self, column: str) -> Iterator[tuple[str, "Score"]]:
        """UAR by the values of a column of `clips`."""
        values = self.clips[column].fillna("").astype(str)
        order = {"LO": "1", "MD": "2", "HI": "3"}  # CREMA-D's levels
        for value in sorted(set(values) - {""}, key=lambda value: order.get(value, value)):
            yield value, self.score((values == value).to_numpy())

    def speakers(self) -> Iterator[tuple[str, "Score"]]:
        """Share of right clips of each speaker, the lowest first, with Wilson's interval over that speaker's clips."""
        found = []
        for name, group in pd.Series(self.right).groupby(self.clips["speaker"].to_numpy(dtype=str)):
            found.append((str(name), wilson(int(group.sum()), len(group))))
        return iter(sorted(found, key=lambda pair: pair[1].value))


@dataclass(frozen=True)
class Score:
    """A score in [0, 1] with its 95 % interval, NaN where it has none, and what it is of."""

    value: float
    low: float
    high: float
    speakers: int
    clips: int


def wilson(hits: int, clips: int) -> Score:
    """A share with Wilson's interval.

    >>> score = wilson(8, 10)
    >>> round(score.low, 3), round(score.high, 3)
    (0.49, 0.943)
    """
    share = hits / clips
    middle = (share + _Z**2 / (2 * clips)) / (1 + _Z**2 / clips)
    half = _Z / (1 + _Z**2 / clips) * float(np.sqrt(share * (1 - share) / clips + _Z**2 / (4 * clips**2)))
    return Score(share, middle - half, middle + half, 1, clips)


@dataclass(frozen=True)
class Reliability:
    """How well probabilities say how often they are right.

    Attributes:
        confidence: mean probability of what was said, of each bin that has clips
        accuracy: share that was right, likewise
        clips: their number, likewise
        error: expected calibration error, the mean gap between the two, weighted by clips
    """

    confidence: list[float]
    accuracy: list[float]
    clips: list[int]
    error: float


def reliability(judged: Judged) -> Reliability:
    """In ten bins of equal width."""
    sure = judged.probabilities.max(axis=1)
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    found = [bins == place for place in range(_BINS) if (bins == place).any()]
    confidence = [float(sure[chosen].mean()) for chosen in found]
    accuracy = [float(judged.right[chosen].mean()) for chosen in found]
    clips = [int(chosen.sum()) for chosen in found]
    gaps = np.abs(np.array(confidence) - np.array(accuracy))
    return Reliability(confidence, accuracy, clips, float(np.average(gaps, weights=clips)))


def crowd_groups(judged: Judged) -> list[tuple[str, Bools]]:
    """Clips by what listeners heard in them; nothing where the corpus has no votes on the voice."""
    if "voice_vote" not in judged.clips or not (judged.clips["voice_vote"].fillna("") != "").any():
        return []
    shares = crowd_shares(judged)
    own = shares[np.arange(len(judged.labels)), judged.labels]
    return [
        ("people hear what was meant", own == 1.0),
        ("people are split, what was meant among it", (own > 0) & (own < 1)),
        ("people hear something else", own == 0.0),
    ]


def crowd_shares(judged: Judged) -> NDArray[np.float64]:
    """Votes on the voice of each clip, float64 (num_clips, num_classes); NaN where there is none."""
    return vote_shares(judged.clips["voice_vote"].fillna(""), judged.emotions)


def judged_rows(predictions: pd.DataFrame, corpus: Corpus | None) -> list[Judged]:
    """Every row of a finalists' board, from ``test_predictions.csv``.

    Args:
        predictions: one row a clip and row of the board
        corpus: what it is of, None where it is not at hand
    """
    emotions = tuple(emotions_of(predictions))
    index = {name: place for place, name in enumerate(emotions)}
    about = None
    if corpus is not None:
        about = corpus.clips.drop(columns=["emotion"]).set_index("clip")
        if "age" in about and about["age"].notna().any():
            about["age group"] = [_age_group(age) for age in about["age"]]
    found = []
    for name, group in predictions.groupby("row", sort=False):
        clips = group[["clip", "speaker"]].reset_index(drop=True)
        if about is not None:
            clips = clips.join(about, on="clip")
        labels = np.array([index[emotion] for emotion in group["emotion"]], dtype=np.int64)
        probabilities = group[list(emotions)].to_numpy(dtype=np.float64)
        found.append(Judged(str(name), emotions, labels, probabilities, clips))
    return found


def _age_group(age: Any) -> str:
    if pd.isna(age):
        return ""
    low = int(age) // _AGE_YEARS * _AGE_YEARS
    return f"{low}–{low + _AGE_YEARS - 1}"


def corpus_of(data: dict[str, Any] | None) -> tuple[Corpus | None, str]:
    """The corpus that a search was on, or why it is not at hand.

    Args:
        data: what ``config.json`` says of it
    """
    if data is None or "prepared" not in data:
        return None, "its config.json does not say where the data are"
    try:
        return _open(data["prepared"], data["manifest_hash"]), ""
    except UserError as error:
        return None, str(error)


@lru_cache(maxsize=4)  # a page asks for it several times
def _open(folder: str, manifest_hash: str) -> Corpus:
    corpus = open_corpus(Path(folder))
    if corpus.manifest_hash != manifest_hash:
        raise UserError(f"{folder} holds another manifest now")
    return corpus


def write_predictions(folder: Path, rows: Sequence[Judged]) -> None:
    """Write ``predictions.csv``: of every row and clip file, speaker, truth, probabilities, uncertainty."""
    tables = []
    for row in rows:
        names = np.array(row.emotions)
        tables.append(
            pd.DataFrame(
                {
                    "row": row.name,
                    "file": row.clips["file"] if "file" in row.clips else row.clips["clip"],
                    "speaker": row.clips["speaker"],
                    "truth": names[row.labels],
                    "predicted": names[row.predictions],
                    **{f"p_{emotion}": row.probabilities[:, at].round(4) for at, emotion in enumerate(row.emotions)},
                    "uncertainty": row.uncertainty.round(4),
                }
            )
        )
    write_atomically(folder / PREDICTIONS_FILE, pd.concat(tables).to_csv(index=False))
