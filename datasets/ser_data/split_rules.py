"""Computed splits: folds by actor, and draws by clip."""

from collections.abc import Iterator

import numpy as np

from ser_data.errors import UserError
from ser_data.seeds import derive_seed

_RANDOM_SHARES = {"validation": 0.15, "test": 0.15}
_DRAWN_VALIDATION_SHARE = 0.10


def parse_speaker_kfold(name: str) -> tuple[int, int]:
    """Number of folds and the fold to test on, counted from 1, out of ``speaker_kfold:K:i``.

    >>> parse_speaker_kfold("speaker_kfold:5:1")
    (5, 1)
    """
    fields = name.split(":")[1:]
    if len(fields) == 2 and all(field.isascii() and field.isdigit() for field in fields):
        num_folds, fold = int(fields[0]), int(fields[1])
        if num_folds >= 3 and 1 <= fold <= num_folds:
            return num_folds, fold
    raise UserError(
        f"--split {name!r}: speaker_kfold takes K folds and the fold i to test on, 3 <= K and 1 <= i <= K (one fold "
        "tests, the next one validates, the rest train), e.g. --split speaker_kfold:5:1."
    )


def speaker_kfold_parts(name: str, actors: np.ndarray, *, corpus_name: str) -> np.ndarray:
    """Fold i tests, fold ``i % K + 1`` validates, the others train; folds hold whole actors and like numbers of clips.

    Args:
        name: ``speaker_kfold:K:i``
        actors: actor of every clip, str, shape ``(num_clips,)``
        corpus_name: for the message

    Returns:
        part of every clip, str, shape ``(num_clips,)``; the same for any order of clips, and without a seed

    Raises:
        UserError: if there are fewer actors than folds
    """
    num_folds, fold = parse_speaker_kfold(name)
    names, counts = np.unique(actors, return_counts=True)
    if len(names) < num_folds:
        way_out = (
            f"Use at most speaker_kfold:{len(names)}:i."
            if len(names) >= 3
            else "A split by actor needs three at least: use --split random (leaky), or a corpus with more actors."
        )
        raise UserError(
            f"--split {name!r}: {num_folds} folds need as many actors, and {corpus_name} has {len(names)}. {way_out}"
        )
    # Largest actor first, into the lightest fold: folds of like size without a seed, whatever the order of the rows.
    clips_in_fold = [0] * num_folds
    actors_in_fold = [0] * num_folds
    fold_of: dict[str, int] = {}
    for count, actor in sorted(zip((-counts).tolist(), names.tolist(), strict=True)):
        lightest = min(range(num_folds), key=lambda i: (clips_in_fold[i], actors_in_fold[i], i))
        fold_of[actor] = lightest
        clips_in_fold[lightest] -= count
        actors_in_fold[lightest] += 1
    part_of_fold = dict.fromkeys(range(num_folds), "train")
    part_of_fold[fold - 1] = "test"
    part_of_fold[fold % num_folds] = "validation"
    return np.array([part_of_fold[fold_of[actor]] for actor in actors.tolist()])


def random_parts(clips: np.ndarray, emotions: np.ndarray, *, seed: int) -> np.ndarray:
    """70 % of the clips of every emotion train, 15 % validate, 15 % test. Actors land on all sides.

    Args:
        clips: name of every clip, str, shape ``(num_clips,)``
        emotions: emotion of every clip, str, same shape
        seed: the run's seed

    Returns:
        part of every clip, str, shape ``(num_clips,)``; the same for any order of clips
    """
    parts = np.full(len(clips), "train", dtype="<U10")
    generator = np.random.default_rng(derive_seed(seed, "split", "random"))
    for members in _rows_by_emotion(clips, emotions, np.arange(len(clips))):
        rows = generator.permutation(members)
        start = 0
        for part, share in _RANDOM_SHARES.items():
            stop = start + round(share * len(rows))
            parts[rows[start:stop]] = part
            start = stop
    return parts


def with_drawn_validation(
    parts: np.ndarray, clips: np.ndarray, emotions: np.ndarray, *, name: str, seed: int
) -> np.ndarray:
    """*parts* with a tenth of the training clips of every emotion moved to validation.

    For a by-clip split that brings no validation part of its own. Arguments and result as for `random_parts`.
    """
    drawn = parts.astype("<U10")
    generator = np.random.default_rng(derive_seed(seed, "split", name, "validation"))
    for rows in _rows_by_emotion(clips, emotions, np.flatnonzero(parts == "train")):
        drawn[generator.permutation(rows)[: round(_DRAWN_VALIDATION_SHARE * len(rows))]] = "validation"
    return drawn


def _rows_by_emotion(clips: np.ndarray, emotions: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
    """*rows* of each emotion, by clip name, so that a draw does not depend on the order of the manifest."""
    for emotion in np.unique(emotions[rows]):
        members = rows[emotions[rows] == emotion]
        yield members[np.argsort(clips[members], kind="stable")]
