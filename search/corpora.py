"""``--data``, ``--split`` and ``--emotions``: from what the user typed to a prepared corpus and its parts."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

import crema_d
from ser_data.corpus import Corpus, is_prepared, open_corpus, read_header
from ser_data.errors import UserError
from ser_data.splits import Split, check_split_name, resolve_split
from ser_models.metrics import count_by_speaker

SAMPLE_SEED = 0


@dataclass(frozen=True)
class TaskData:
    """What a search learns from and is judged on.

    Attributes:
        corpus: prepared and open
        split: the part of each of the corpus's clips
        emotions: the classes
        val_speakers: validation speakers, sorted
        val_totals: int64 (validation speakers, emotions), clips of each
        notes: what a reader of the scores has to know, one sentence each
    """

    corpus: Corpus
    split: Split
    emotions: tuple[str, ...]
    val_speakers: tuple[str, ...]
    val_totals: np.ndarray
    notes: tuple[str, ...]


def find_source(data: str | None) -> str:
    """What ``--data`` names, or where the corpus is looked for without it; ``sample`` stays ``sample``.

    Raises:
        UserError: nothing is there
    """
    if data == "sample":
        return data
    if data is not None:
        if not os.path.exists(data):  # False where a folder above may not be looked into
            raise UserError(
                f"--data {data}: there is no such folder or file, or it may not be read. It takes a prepared corpus, a "
                "folder or zip of CREMA-D's clips, a table clips.csv, or 'sample' for generated speech."
            )
        return str(Path(data).resolve())
    for candidate in (os.environ.get("CREMA_D_ROOT"), "data/crema_d"):
        if candidate and os.path.exists(candidate):
            return str(Path(candidate).resolve())
    raise UserError(
        "no corpus was found: --data was not given, $CREMA_D_ROOT is not set to an existing folder, and data/crema_d "
        "does not exist. Three ways to get one: `python -m crema_d.download --to data/crema_d`; "
        "--data FOLDER with a copy of CREMA-D; --data sample for generated speech, to try the search."
    )


def check_names(source: str, split: str | None, emotions: Sequence[str] | None) -> None:
    """Refuse a split or an emotion that the corpus at *source* cannot have; reads no audio, prepares nothing.

    Args:
        source: as :func:`find_source` gave it
        split: ``--split``, None for the corpus's own
        emotions: ``--emotions``, None for all

    Raises:
        UserError: one is not known
    """
    path = Path(source)
    known: Sequence[str] = crema_d.EMOTIONS
    is_table = path.suffix.lower() == ".csv"
    if is_prepared(path):
        header = read_header(path)
        known, is_table = header["emotions"], header["kind"] == "table"
    elif is_table:
        known = emotions or ()  # its own, which a look at every row will tell
    if split is not None:
        check_split_name(split, named=None if is_table else crema_d.SPLITS_FOLDER)
    unknown = [name for name in emotions or () if name not in known]
    if unknown:
        raise UserError(
            f"--emotions '{unknown[0]}' is not known: the corpus has {', '.join(known)}. Choose two or more of these, "
            "or leave --emotions out for all."
        )


def open_source(source: str, cache_dir: Path, *, jobs: int) -> Corpus:
    """The corpus at *source*, prepared into *cache_dir* first, once, if it is raw.

    Args:
        source: as :func:`find_source` gave it
        cache_dir: where prepared corpora live
        jobs: processes that prepare

    Raises:
        UserError: it cannot be read or holds nothing usable
    """
    if source == "sample":
        source = str(_sample(cache_dir, jobs))
    path = Path(source)
    if is_prepared(path):
        return open_corpus(path)
    if path.suffix.lower() == ".csv":
        from ser_data.table import prepare_table_once

        return open_corpus(prepare_table_once(path, cache_dir, jobs=jobs))
    from crema_d.prepare import prepare_once

    return open_corpus(prepare_once(path, cache_dir, jobs=jobs))


def _sample(cache_dir: Path, jobs: int) -> Path:
    from sample_corpus import folder_name, generate

    folder = cache_dir / "sample" / folder_name(seed=SAMPLE_SEED)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        return generate(folder, seed=SAMPLE_SEED, jobs=jobs)


def named_splits(corpus: Corpus) -> Path | None:
    """Folder of the split files that belong to this kind of corpus."""
    return crema_d.SPLITS_FOLDER if corpus.kind == "crema_d" else None


def task_data(corpus: Corpus, split_name: str | None, emotions: Sequence[str] | None, *, seed: int) -> TaskData:
    """Join corpus, split and emotions, and check that there is something to learn from and to be judged on.

    Raises:
        UserError: an unknown split or emotion, a leak that the split does not declare, or a part without clips of
            one of the emotions
    """
    split = resolve_split(split_name or corpus.default_split, corpus, named=named_splits(corpus), seed=seed)
    asked = corpus.emotions if emotions is None else tuple(emotions)
    corpus.labels(asked)  # refuses an unknown one
    chosen = tuple(name for name in corpus.emotions if name in asked)  # one label order, however they were typed
    labels = corpus.labels(chosen)
    for part in ("train", "validation"):
        present = set(labels[split.indices(part)].tolist())
        absent = [name for index, name in enumerate(chosen) if index not in present]
        if absent:
            raise UserError(
                f"--split {split.name}: its {part} part has no clip of {', '.join(absent)} in the corpus "
                f"{corpus.name}. Every emotion is needed in both parts: choose another --split, or leave "
                "the emotion out with --emotions."
            )
    validation = split.indices("validation")
    validation = validation[labels[validation] >= 0]
    speakers, rows = np.unique(corpus.clips["actor"].to_numpy(dtype=str)[validation], return_inverse=True)
    every = np.ones(len(rows), dtype=bool)
    totals = count_by_speaker(rows, labels[validation], every, shape=(len(speakers), len(chosen)))
    # the sample corpus speaks under a few actors' numbers on purpose: whom it lacks is no news
    notes = [note for note in split.notes() if not (corpus.generated and "are not in this corpus" in note)]
    if split_name is None and split.name != "tfds":
        notes.append(f"split {split.name}: the default of this corpus, since --split was not given")
    if corpus.generated:
        notes.insert(0, "generated speech: no claim of accuracy may rest on these scores")
    return TaskData(corpus, split, chosen, tuple(map(str, speakers)), totals, tuple(notes))
