"""The files on this machine that a pretrained network is loaded from: what another machine needs to have the same."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ser_data.errors import UserError
from ser_models.pretrained.choice import KINDS
from ser_models.pretrained.hub import NotOnHubError, cached_file, hub_file
from ser_models.pretrained.source import CONFIG_FILE, FEATURES_FILE, TINY, WEIGHT_FILES, Kind, PretrainedSource

_SETTINGS = (CONFIG_FILE, FEATURES_FILE, "processor_config.json")  # what an extractor may be described in
_INDEX = ".index.json"  # of weights in several files: which tensor is where


def files_of(source: PretrainedSource) -> tuple[Path, list[str]] | None:
    """Where the files of *source* lie here, and which they are; None where it has none.

    What is on the hub is downloaded as far as this machine's cache lacks it: all files of one commit.

    Raises:
        UserError: the weights are not there, or the hub cannot be reached
    """
    if source.name == TINY:
        return None
    if source.is_folder:
        folder = Path(source.name)
        return folder, list(_present(folder, source))
    (kind,) = (kind for kind in KINDS if source.model_type in kind.types)
    return _downloaded(kind, source)


def _present(folder: Path, source: PretrainedSource) -> Iterator[str]:
    yield from (name for name in _SETTINGS if (folder / name).is_file())
    if source.pretrained:
        weights = next((name for name in WEIGHT_FILES if (folder / name).is_file()), None)
        if weights is not None:
            yield from [weights, *_parts(folder / weights)]


def _downloaded(kind: Kind, source: PretrainedSource) -> tuple[Path, list[str]]:
    def get(name: str, revision: str | None) -> Path:
        return hub_file(source.name, revision, name, noun=kind.noun, example=kind.example)

    folder = get(CONFIG_FILE, source.revision).parent
    commit = folder.name  # the cache calls it so; what was the newest a moment ago may not be now
    names = []
    for name in _SETTINGS:
        if name in kind.files:
            get(name, commit)
            names.append(name)
        else:
            with suppress(UserError):  # not there, or no network: this machine would load the network without it too
                get(name, commit)
                names.append(name)
    if source.pretrained:
        weights = _weights(kind, source, commit, get)
        parts = _parts(folder / weights)
        for name in parts:
            get(name, commit)
        names += [weights, *parts]
    return folder, names


def _weights(kind: Kind, source: PretrainedSource, commit: str, get: Callable[[str, str], Path]) -> str:
    """The file of the weights, or their index: what the cache has of a commit, then what the hub has."""
    for name in WEIGHT_FILES:
        if cached_file(source.name, commit, name) is not None:
            return name
    for name in WEIGHT_FILES:
        with suppress(NotOnHubError):
            get(name, commit)
            return name
    raise UserError(
        f"--encoder {source.name}: the hub has no weights of it in the files {', '.join(WEIGHT_FILES)}. Name another "
        f"{kind.noun}, or a folder."
    )


def _parts(weights: Path) -> list[str]:
    """The files that an index of weights names; none for what is no index."""
    if not weights.name.endswith(_INDEX):
        return []
    try:
        return sorted(set(json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"{weights} is damaged ({error}). Accepted is the index that transformers writes. Copy or download the "
            "folder again."
        ) from error
