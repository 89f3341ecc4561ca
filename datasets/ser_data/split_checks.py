"""What is wrong with a split: voices or recordings on two sides."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from ser_data.errors import UserError

PARTS = ("train", "validation", "test")

# Splits known to put one actor on several sides. Any other split that does so is an error, not a remark.
DECLARED_LEAKY = frozenset({"emobox", "random"})

_NAMES_SHOWN = 8


def shared_actors(parts: np.ndarray, actors: np.ndarray) -> dict[str, tuple[str, ...]]:
    """Actors with clips in more than one part, sorted, and these parts.

    Args:
        parts: part of every clip, ``""`` where unused, str, shape ``(num_clips,)``
        actors: actor of every clip, str, same shape
    """
    parts_of: dict[str, set[str]] = defaultdict(set)
    for actor, part in zip(actors.tolist(), parts.tolist(), strict=True):
        if part:
            parts_of[actor].add(part)
    return {
        actor: tuple(part for part in PARTS if part in found)
        for actor, found in sorted(parts_of.items())
        if len(found) > 1
    }


def shared_audio(parts: np.ndarray, clips: np.ndarray, digests: np.ndarray) -> tuple[str, ...]:
    """Recordings that are in more than one part, under several clip names; one text for each.

    Args:
        parts: part of every clip, ``""`` where unused, str, shape ``(num_clips,)``
        clips: name of every clip, str, same shape
        digests: sha256 of every clip, str, same shape
    """
    clips_of: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for digest, clip, part in zip(digests.tolist(), clips.tolist(), parts.tolist(), strict=True):
        if part:
            clips_of[digest].append((clip, part))
    return tuple(
        " = ".join(f"{clip} ({part})" for clip, part in same)
        for same in clips_of.values()
        if len({part for _, part in same}) > 1
    )


def refuse_overlap(name: str, actors: Mapping[str, Sequence[str]], audio: Sequence[str]) -> None:
    """Raise UserError, naming what overlaps, if `shared_actors` or `shared_audio` found anything."""
    way_out = f"or use a split that declares its leak ({', '.join(sorted(DECLARED_LEAKY))})"
    if actors:
        which = [f"{actor} in {' and '.join(parts)}" for actor, parts in actors.items()]
        raise UserError(
            f"--split {name!r} puts {len(which)} actors on both sides: {some(which)}. Scores would be those of known "
            f"voices. Give each actor one part, {way_out}."
        )
    if audio:
        raise UserError(
            f"--split {name!r} puts {len(audio)} recordings on both sides, under several names: {some(audio)}. Leave "
            f"one of each out of the corpus, {way_out}."
        )


def leak_note(name: str, actors: Mapping[str, object], audio: Sequence[str], num_actors: int) -> str:
    """One sentence for every place where a score on a declared leaky split is shown.

    Args:
        name: the split, as typed
        actors: result of `shared_actors`
        audio: result of `shared_audio`
        num_actors: actors with at least one used clip
    """
    recordings = f" and {len(audio)} recordings" if audio else ""
    return (
        f"split {name} is leaky: it goes by clip, and {len(actors)} of {num_actors} actors{recordings} are on both "
        "sides, so its scores are not those of unheard speakers"
    )


def some(names: Sequence[str]) -> str:
    """The first names of a list that may be long, for a message.

    >>> some([str(number) for number in range(10)])
    '0, 1, 2, 3, 4, 5, 6, 7 and 2 more'
    """
    shown = ", ".join(names[:_NAMES_SHOWN])
    return shown if len(names) <= _NAMES_SHOWN else f"{shown} and {len(names) - _NAMES_SHOWN} more"
