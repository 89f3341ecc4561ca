"""Where a pretrained network is: on the hub, in a folder, or nowhere (random). Imports neither torch nor transformers.

A search asks here before it touches any data, so that a wrong name costs a second; the weights themselves are read and
checked in :mod:`ser_models.pretrained.loading`.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ser_data.errors import UserError
from ser_models.pretrained.hub import hub_file

TINY = "tiny"
CONFIG_FILE = "config.json"
FEATURES_FILE = "preprocessor_config.json"
WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip


def _fits(config: Mapping[str, Any]) -> str | None:
    return None


@dataclass(frozen=True)
class Kind:
    """A kind of pretrained network that spaces search over.

    Attributes:
        noun: what messages call one, e.g. ``"speech encoder"``
        types: the ``model_type`` in ``config.json`` of those that can be used
        files: what a folder must hold beside the weights
        saved: what these files come from, in words
        example: a hub id
        spaces: by ``model_type``, the search spaces that take it, in words
        tiny_layers: layers of the random network called ``"tiny"``
        num_layers: of a ``config.json``; not a whole number from 1 where it is damaged
        misfit: why a ``config.json`` cannot be used all the same, and what is accepted; None where it can
    """

    noun: str
    types: tuple[str, ...]
    files: tuple[str, ...]
    saved: str
    example: str
    spaces: Mapping[str, str]
    tiny_layers: int
    num_layers: Callable[[Mapping[str, Any]], object]
    misfit: Callable[[Mapping[str, Any]], str | None] = _fits

    @property
    def one(self) -> str:
        """The noun with its article."""
        return indefinite(self.noun)


@dataclass(frozen=True)
class PretrainedSource:
    """A pretrained network that was found, or random weights in its shape.

    Attributes:
        name: hub id, folder or ``"tiny"``, as it was given
        revision: of the hub's repository; None for its newest, and for what is no hub id
        model_type: one of its kind's types
        num_layers: transformer layers of an encoder, stages of an image backbone
        pretrained: False for random weights
        called: what boards call it, where *name* is the folder of a copy; empty where the name tells
    """

    name: str
    revision: str | None
    model_type: str
    num_layers: int
    pretrained: bool
    called: str = ""

    @property
    def is_folder(self) -> bool:
        """Whether the weights lie in a local folder."""
        return self.name != TINY and Path(self.name).is_dir()

    @property
    def label(self) -> str:
        """The name for boards, with a mark where the weights are random."""
        shown = self.called or (Path(self.name).name if self.is_folder else self.name)
        return shown if self.pretrained else f"{shown} (random weights)"

    @property
    def spec(self) -> str:
        """JSON from which :func:`source_from_spec` makes the same source in another process."""
        values = {name: value for name, value in self.__dict__.items() if name != "called" or value}
        return json.dumps(values, sort_keys=True)

    def copied_to(self, folder: Path, called: str) -> "PretrainedSource":
        """The same network in a copy of its files, *called* as before."""
        return replace(self, name=str(folder), revision=None, called=called)


def indefinite(noun: str) -> str:
    """*noun* with its article.

    >>> indefinite("image backbone"), indefinite("speech encoder")
    ('an image backbone', 'a speech encoder')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def source_from_spec(spec: str) -> PretrainedSource:
    """The source that :attr:`PretrainedSource.spec` describes."""
    return PretrainedSource(**json.loads(spec))


def find(
    kind: Kind, name: str, *, types: tuple[str, ...], pretrained: bool = True, others: Sequence[Kind] = ()
) -> PretrainedSource:
    """Find a network by what its ``config.json`` says; its weights are not read yet.

    Args:
        kind: what is looked for
        name: a hub id (``ID`` or ``ID@REVISION``), a local folder, or ``"tiny"``: random weights, few layers, in the
            shape of the first of *types*
        types: those of the kind's that the search space is made for
        pretrained: False for random weights in the network's shape
        others: kinds that other spaces search over, to tell which space takes what this one refuses

    Raises:
        UserError: if there is no such folder or id, or it holds another kind of model, naming what was looked for
    """
    if name == TINY:
        return PretrainedSource(TINY, None, types[0], kind.tiny_layers, pretrained=False)
    folder = Path(name).expanduser()
    if folder.is_dir():
        location, revision = str(folder.resolve()), None
        config = _folder_config(kind, folder, name, pretrained)
    elif name.startswith((".", "~", os.sep)) or name.count("/") != 1 or folder.exists():
        raise UserError(
            f"--encoder {name}: there is no such folder, and it is no hub id. Accepted are a folder with "
            f"{', '.join(kind.files)} and the weights, a hub id such as {kind.example} (a revision may follow: "
            f"ID@REVISION), or '{TINY}'."
        )
    else:
        location, _, revision = name.partition("@")
        config = _parsed(hub_file(location, revision or None, CONFIG_FILE, noun=kind.noun, example=kind.example), name)
    _check_type(kind, name, str(config.get("model_type")), types, others)
    layers = kind.num_layers(config)
    if not isinstance(layers, int) or layers < 1:
        raise UserError(
            f"The {CONFIG_FILE} of --encoder {name} has {layers!r} for its number of layers. Accepted is a whole "
            f"number from 1. Restore the file from where the {kind.noun} came from."
        )
    if (misfit := kind.misfit(config)) is not None:
        raise UserError(f"--encoder {name} {misfit} Name another.")
    return PretrainedSource(location, revision or None, str(config["model_type"]), layers, pretrained)


def _check_type(kind: Kind, name: str, found: str, types: tuple[str, ...], others: Sequence[Kind]) -> None:
    for other in others:
        if found in other.types and found not in kind.types:
            raise UserError(
                f"--encoder {name} is of type '{found}', which is {other.one}; this space takes {kind.one} "
                f"({', '.join(types)}). Use --space {other.spaces[found]} for it, or name another."
            )
    if found not in kind.types:
        raise UserError(
            f"--encoder {name} is a model of type '{found}'. Accepted are {kind.noun}s of the types "
            f"{', '.join(kind.types)}. Name one of those."
        )
    if found not in types:
        raise UserError(
            f"--encoder {name} is of type '{found}'; this space takes {', '.join(types)}. Use --space "
            f"{kind.spaces[found]} for it, or name another {kind.noun}."
        )


def _folder_config(kind: Kind, folder: Path, name: str, pretrained: bool) -> dict[str, Any]:
    if (folder / CONFIG_FILE).is_file():
        config = _parsed(folder / CONFIG_FILE, name)
        if config.get("model_type") not in kind.types:
            return config  # what kind it is says more than what it lacks
    missing = [file for file in kind.files if not (folder / file).is_file()]
    if pretrained and not any((folder / file).is_file() for file in WEIGHT_FILES):
        missing.append("the weights (one of " + ", ".join(WEIGHT_FILES) + ")")
    if missing:
        raise UserError(
            f"The folder --encoder {name} lacks {' and '.join(missing)}. The folder of {kind.one} is what "
            f"transformers' save_pretrained writes for {kind.saved}. Copy the whole folder, or download it again."
        )
    return _parsed(folder / CONFIG_FILE, name)


def _parsed(path: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The {CONFIG_FILE} of --encoder {name} cannot be read ({error}). Accepted is the JSON that transformers "
            "writes. Copy or download it again."
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"The {CONFIG_FILE} of --encoder {name} is no JSON object. Copy or download it again.")
    return config
