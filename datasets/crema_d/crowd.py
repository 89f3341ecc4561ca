"""What the crowd heard: how often listeners named the emotion that the actor was asked for.

A vote is the emotion that most listeners of a clip named; where several were named equally often (``anger:disgust``),
each counts as an equal part of the vote.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MODALITIES = ("voice", "face", "multimodal")  # the clip's sound alone, its picture alone, both


def has_votes(clips: pd.DataFrame) -> bool:
    """Whether any clip carries a vote on its sound."""
    return "voice_vote" in clips.columns and bool((clips["voice_vote"] != "").any())


def vote_shares(votes: pd.Series, emotions: Sequence[str]) -> NDArray[np.float64]:
    """Votes as numbers.

    Args:
        votes: one vote per clip; ``""`` where a clip has none
        emotions: column order

    Returns:
        shape ``(num_clips, num_emotions)``; rows sum to 1, or are NaN where there is no vote

    >>> vote_shares(pd.Series(["sad", "happy:sad", ""]), ["happy", "sad"]).tolist()
    [[0.0, 1.0], [0.5, 0.5], [nan, nan]]
    """
    shares = np.full((len(votes), len(emotions)), np.nan)
    for row, vote in enumerate(votes):
        if vote:
            named = vote.split(":")
            shares[row] = [named.count(emotion) / len(named) for emotion in emotions]
    return shares


def confusion(clips: pd.DataFrame, emotions: Sequence[str], *, modality: str = "voice") -> NDArray[np.float64]:
    """Share of the votes on each intended emotion that went to each emotion.

    Returns:
        shape ``(num_emotions, num_emotions)``; row: intended, column: voted; NaN rows where nothing was voted on.
        The mean of its diagonal is the crowd's unweighted average recall.
    """
    shares = vote_shares(clips[f"{modality}_vote"], emotions)
    voted = ~np.isnan(shares).any(axis=1)
    rows = []
    for emotion in emotions:
        of_emotion = shares[voted & (clips["emotion"] == emotion).to_numpy()]
        rows.append(of_emotion.mean(axis=0) if len(of_emotion) else np.full(len(emotions), np.nan))
    return np.array(rows)


def agreement(clips: pd.DataFrame, emotions: Sequence[str]) -> pd.DataFrame:
    """How often the vote is the intended emotion, by sound, by picture and by both.

    Returns:
        one row per emotion and a last one ``mean``, the unweighted average over emotions; columns of `MODALITIES`,
        float64 shares
    """
    table = pd.DataFrame(
        {
            name: np.diag(confusion(clips, emotions, modality=name))
            for name in MODALITIES
            if f"{name}_vote" in clips.columns
        },
        index=pd.Index(emotions, name="emotion"),
    )
    table.loc["mean"] = table.mean()
    return table
