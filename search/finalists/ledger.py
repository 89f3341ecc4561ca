"""Who looked at the test speakers, and when: ``test_ledger.json``, in a search's folder and beside the prepared corpus.

Test speakers say what a model is worth only as long as nothing was chosen by them. A search looks once; a second look
has to be forced, and is told. The ledger beside the corpus tells a search of the looks that others took.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from search.run_folder import write_atomically
from ser_data.errors import UserError

LEDGER_FILE = "test_ledger.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Look:
    """One look at the test speakers of some splits.

    Attributes:
        at: when, ISO 8601 with its zone
        search_id: of the search that looked
        round: its round of finalists
        manifest_hash: of the corpus
        splits: whose test speakers
        emotions: the classes
        finalists: the trials that were judged
        seeds: trainings of each
        forced: whether the search had looked before
    """

    at: str
    search_id: str
    round: int
    manifest_hash: str
    splits: tuple[str, ...]
    emotions: tuple[str, ...]
    finalists: tuple[str, ...]
    seeds: int
    forced: bool


def read_ledger(folder: Path) -> list[Look]:
    """The looks that the ledger in *folder* tells of, oldest first; none where there is no ledger.

    Raises:
        UserError: it is damaged, or another version wrote it
    """
    path = folder / LEDGER_FILE
    try:
        stored = json.loads(path.read_text())
        if stored["format"] != FORMAT_VERSION:
            raise UserError(f"{path} has format {stored['format']!r}; this version reads format {FORMAT_VERSION}.")
        return [_look(values) for values in stored["looks"]]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged ({error}). It says who has looked at the test speakers: restore it from a copy. If "
            "there is none, remove it, and say with your results that earlier looks are not known."
        ) from error


def _look(values: dict[str, Any]) -> Look:
    for name in ("splits", "emotions", "finalists"):
        values[name] = tuple(values[name])
    return Look(**values)


def enter(folder: Path, look: Look) -> None:
    """Add *look* to the ledger in *folder*, before anybody looks; entered twice, as after a crash, it stands once.

    Raises:
        UserError: the ledger is damaged
        OSError: it cannot be written
    """
    with FileLock(folder / f"{LEDGER_FILE}.lock"):
        looks = read_ledger(folder)
        if any(_same(look, other) for other in looks):
            return
        text = json.dumps({"format": FORMAT_VERSION, "looks": [asdict(one) for one in [*looks, look]]}, indent=2)
        write_atomically(folder / LEDGER_FILE, text + "\n")


def enter_everywhere(folders: Sequence[Path], prepared: Path, look: Look, *, say: Callable[[str], None]) -> list[Look]:
    """Add *look* to the ledgers of a search, and to the one beside its corpus where that can be written.

    Args:
        folders: the search's own first, then those of its spaces where it has several
        prepared: the prepared corpus's
        look: to come
        say: is told where other searches will not learn of it

    Returns:
        the earlier looks at the same test speakers that any of these ledgers tells of

    Raises:
        UserError: a ledger is damaged, or the search's own cannot be written
    """
    try:
        for folder in folders:
            enter(folder, look)
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): nobody looks at test speakers without an entry in the "
            f"ledger. Mend it, then go on with --resume {folders[0]}"
        ) from error
    try:
        enter(prepared, look)
    except OSError as error:
        say(
            f"note: {prepared} cannot be written ({error.strerror}), so other searches will not be told of this look "
            "at its test speakers"
        )
    known = {(one.search_id, one.round): one for folder in (prepared, *folders) for one in read_ledger(folder)}
    return earlier_looks(list(known.values()), look)


def _same(first: Look, second: Look) -> bool:
    return (first.search_id, first.round) == (second.search_id, second.round)


def earlier_looks(looks: Sequence[Look], look: Look) -> list[Look]:
    """Those of *looks* at test speakers of the same corpus and of one of the same splits, without *look* itself."""
    return [
        other
        for other in looks
        if not _same(other, look) and other.manifest_hash == look.manifest_hash and set(other.splits) & set(look.splits)
    ]
