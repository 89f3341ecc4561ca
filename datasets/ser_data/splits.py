"""Which clips train, validate and test.

A split is called by a name: a file of the corpus's folder of splits (``tfds``, ``emo_superb:2``), a rule
(``speaker_kfold:5:1``, ``random``), or ``table`` for the column of a corpus that is one table. Whatever its origin, it
is checked: one actor, or one recording, on two sides is an error unless the split is declared leaky.

The driver imports this before anything slow: numpy and the standard library only.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser_data.errors import UserError
from ser_data.split_checks import DECLARED_LEAKY, PARTS, leak_note, refuse_overlap, shared_actors, shared_audio, some
from ser_data.split_files import fold_names, read_assignment, split_files, typed_name
from ser_data.split_rules import parse_speaker_kfold, random_parts, speaker_kfold_parts, with_drawn_validation

if TYPE_CHECKING:
    import pandas as pd

    from ser_data.corpus import Corpus

__all__ = ["DECLARED_LEAKY", "PARTS", "Split", "check_split_name", "folds_of", "known_splits", "resolve_split"]

_PART_WORDS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "devel": "validation",
    "development": "validation",
    "test": "test",
    "testing": "test",
    "": "",
}


@dataclass(frozen=True, eq=False)
class Split:
    """The part of every kept clip of one corpus.

    Attributes:
        name: as the user typed it
        parts: ``"train"``, ``"validation"``, ``"test"`` or ``""`` (unused), str, shape ``(num_kept_clips,)``, in the
            order of ``corpus.clips``
        clip_actors: actor of every clip, str, same shape
        leaky: whether the split is declared to put an actor on several sides; show `leak_note` wherever it is used
        leak_note: one sentence with the number of actors on both sides; ``""`` if not leaky
        missing_actors: actors of the split file of whom the corpus has no kept clip
        unlisted_actors: actors of the corpus that the split file does not name; their clips are unused
        missing_clips: clips that a by-clip split file names and the corpus does not have
    """

    name: str
    parts: np.ndarray
    clip_actors: np.ndarray
    leaky: bool
    leak_note: str
    missing_actors: tuple[str, ...] = ()
    unlisted_actors: tuple[str, ...] = ()
    missing_clips: int = 0

    def indices(self, part: str) -> np.ndarray:
        """Row numbers of one part's clips in ``corpus.clips``: int64, ascending, shape ``(num_clips_of_part,)``."""
        return np.flatnonzero(self.parts == part).astype(np.int64)

    def actors(self, part: str) -> tuple[str, ...]:
        """Sorted names of the actors with at least one clip in *part*."""
        return tuple(np.unique(self.clip_actors[self.parts == part]).tolist())

    def notes(self) -> tuple[str, ...]:
        """What the reader of a score on this split has to know, one sentence each; empty if there is nothing."""
        notes = [self.leak_note] if self.leaky else []
        if self.missing_actors:
            notes.append(
                f"split {self.name}: {len(self.missing_actors)} of its actors are not in this corpus "
                f"({some(self.missing_actors)})"
            )
        if self.missing_clips:
            notes.append(f"split {self.name}: {self.missing_clips} of its clips are not in this corpus")
        if self.unlisted_actors:
            notes.append(
                f"split {self.name}: {len(self.unlisted_actors)} actors of this corpus are not in it and stay unused "
                f"({some(self.unlisted_actors)})"
            )
        if not np.any(self.parts == "test"):
            notes.append(f"split {self.name}: no test clips in this corpus, so nothing can be judged on test")
        return tuple(notes)


def known_splits(named: Path | None) -> tuple[str, ...]:
    """Split names as they are typed, for ``--help`` and for error messages.

    Args:
        named: folder of ``NAME.csv`` files; None for a corpus that is one table

    >>> known_splits(None)
    ('table', 'speaker_kfold:K:i', 'random')
    """
    names = ["table"] if named is None else [typed_name(path) for path in split_files(named).values()]
    return (*names, "speaker_kfold:K:i", "random")


def folds_of(name: str, *, named: Path | None) -> tuple[str, ...]:
    """All folds of the split that *name* is a fold of, as they are typed; *name* alone where there are no folds.

    Args:
        name: as for :func:`check_split_name`, which accepts it
        named: likewise

    >>> folds_of("speaker_kfold:3:2", named=None)
    ('speaker_kfold:3:1', 'speaker_kfold:3:2', 'speaker_kfold:3:3')
    """
    base = name.partition(":")[0]
    if base == "speaker_kfold":
        count, _ = parse_speaker_kfold(name)
        return tuple(f"{base}:{count}:{fold}" for fold in range(1, count + 1))
    files = {} if named is None else split_files(named)
    return fold_names(files[base]) or (name,) if base in files else (name,)


def check_split_name(name: str, *, named: Path | None) -> None:
    """Raise UserError unless *name* can be a split; reads no corpus, so it answers before anything slow.

    Args:
        name: what the user typed, e.g. ``tfds``, ``emo_superb:2``, ``speaker_kfold:5:1``
        named: folder of ``NAME.csv`` files; None for a corpus that is one table
    """
    files = {} if named is None else split_files(named)
    base = name.partition(":")[0]
    if base == "speaker_kfold":
        parse_speaker_kfold(name)
    elif base in files:
        read_assignment(name, files[base])
    elif name not in ("random", "table"):
        raise UserError(
            f"--split {name!r} is not known. Known splits: {', '.join(known_splits(named))}."
            + ("" if named is None else f" Add one as {named}/NAME.csv with the columns actor,split.")
        )


def resolve_split(name: str, corpus: "Corpus", *, named: Path | None, seed: int) -> Split:
    """The part of every kept clip of *corpus* under the split called *name*, checked for leaks.

    Args:
        name: a file of *named* (``tfds``; with folds ``emo_superb:1``), ``speaker_kfold:K:i``, ``random`` or ``table``
        corpus: only its name and its rows are read
        named: folder of ``NAME.csv`` files; None for a corpus that is one table
        seed: the run's seed, for ``random`` and for the validation part of a leaky split file that brings none

    Raises:
        UserError: unknown name, unreadable or contradictory split file, no training or no validation clips, and an
            actor or a recording on two sides of a split that does not declare it
    """
    check_split_name(name, named=named)
    actors, clips, emotions, digests = (
        corpus.clips[column].to_numpy(dtype=str) for column in ("actor", "clip", "emotion", "sha256")
    )
    files = {} if named is None else split_files(named)
    base = name.partition(":")[0]
    part_of: dict[str, str] = {}
    key = ""
    if base == "speaker_kfold":
        parts = speaker_kfold_parts(name, actors, corpus_name=corpus.name)
    elif base == "random":
        parts = random_parts(clips, emotions, seed=seed)
    elif base in files:
        key, part_of = read_assignment(name, files[base])
        values = actors if key == "actor" else clips
        parts = np.array([part_of.get(value, "") for value in values.tolist()], dtype="<U10")
        if base in DECLARED_LEAKY and "validation" not in part_of.values():
            parts = with_drawn_validation(parts, clips, emotions, name=name, seed=seed)
    else:
        parts = _table_parts(corpus.clips, corpus_name=corpus.name)

    missing_actors = tuple(sorted(part_of.keys() - set(actors.tolist()))) if key == "actor" else ()
    # An excluded clip is in the corpus, with its reason: only clips without a row in the manifest are missing.
    missing_clips = len(part_of.keys() - set(corpus.manifest["clip"])) if key == "clip" else 0
    unlisted_actors = tuple(sorted(set(actors.tolist()) - set(actors[parts != ""].tolist()))) if key else ()
    _refuse_empty(name, parts, actors, missing_actors=missing_actors, corpus_name=corpus.name)

    leaky = base in DECLARED_LEAKY
    both_sides = shared_actors(parts, actors)
    audio = shared_audio(parts, clips, digests)
    if not leaky:
        refuse_overlap(name, both_sides, audio)
    return Split(
        name=name,
        parts=parts,
        clip_actors=actors,
        leaky=leaky,
        leak_note=leak_note(name, both_sides, audio, len(np.unique(actors[parts != ""]))) if leaky else "",
        missing_actors=missing_actors,
        unlisted_actors=unlisted_actors,
        missing_clips=missing_clips,
    )


def _table_parts(clips: "pd.DataFrame", *, corpus_name: str) -> np.ndarray:
    if "split" not in clips.columns:
        raise UserError(
            f"--split 'table': {corpus_name} has no column split. Add one with the words train, validation and test, "
            "or use --split speaker_kfold:5:1."
        )
    words = clips["split"].fillna("").astype(str).str.strip().str.lower().tolist()
    unknown = sorted(set(words) - _PART_WORDS.keys())
    if unknown:
        raise UserError(
            f"--split 'table': the column split of {corpus_name} holds {some([repr(word) for word in unknown])}; "
            f"accepted are {', '.join(filter(None, _PART_WORDS))}, and nothing for clips left out. Rename these."
        )
    return np.array([_PART_WORDS[word] for word in words], dtype="<U10")


def _refuse_empty(
    name: str, parts: np.ndarray, actors: np.ndarray, *, missing_actors: tuple[str, ...], corpus_name: str
) -> None:
    for part in ("train", "validation"):
        if np.any(parts == part):
            continue
        present = np.unique(actors).tolist()
        absent = (
            f" {len(missing_actors)} actors of the split are not there ({some(missing_actors)})."
            if missing_actors
            else ""
        )
        raise UserError(
            f"--split {name!r} leaves no {part} clips of {corpus_name}, which has {len(actors)} clips of "
            f"{len(present)} actors ({some(present)}).{absent} Use a split that fits these actors, e.g. "
            "--split speaker_kfold:5:1, or prepare the missing ones."
        )
