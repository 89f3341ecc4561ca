"""``--encoder`` and the options beside it: from what was typed to a space with the ranges of the encoders at hand."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.arguments import Arguments, encoder_names
from search.encoder_axis import EncoderAxis
from search.space import Space, encoder_spaces, load_space
from ser_data.errors import UserError

if TYPE_CHECKING:
    from ser_models.pretrained.source import PretrainedSource

ENCODER_OPTIONS = ("encoder", "pretrained", "precision", "cache_precision")


def open_space(arguments: Arguments, stored: Sequence[Mapping[str, Any]] = ()) -> tuple[Space, list[dict[str, Any]]]:
    """The space of a search, bound to its encoders where it has any.

    Args:
        arguments: of the search
        stored: what :func:`describe` gave of each when the search began, where it goes on

    Returns:
        the space, and what ``config.json`` says of the encoders

    Raises:
        UserError: an option of encoders for another kind of space, an encoder that cannot be used or is named twice,
            or one that changed since the search began
    """
    space = load_space(arguments.space, arguments.fix)
    if space.encoder is None:
        _refuse_encoder_options(arguments)
        return space, []
    # a space's default may be another one in a later version; a search goes on with its own
    names = tuple(map(_stored_name, stored)) or encoder_names(arguments.encoder or space.encoder)
    sources = [_find(name, types=space.encoder_types, pretrained=arguments.pretrained) for name in names]
    _check_different(names, sources)
    found = [describe(source) for source in sources]
    for before, now in zip(stored, found, strict=False):
        _check_same(before, now)
    if len(found) == 1:
        return space.bound_to(found[0]["num_layers"]), found
    # trials of a record have the labels for values of a parameter
    labels = [before["label"] for before in stored] or _labels(sources)
    found = [{**encoder, "label": label} for encoder, label in zip(found, labels, strict=True)]
    return EncoderAxis.over(space, {encoder["label"]: encoder["num_layers"] for encoder in found}), found


def _find(name: str, *, types: tuple[str, ...], pretrained: bool) -> "PretrainedSource":
    from ser_models.pretrained.choice import find_pretrained

    return find_pretrained(name, types=types, pretrained=pretrained)


def describe(source: "PretrainedSource") -> dict[str, Any]:
    """What ``config.json`` says of an encoder."""
    names = ("name", "revision", "label", "spec", "model_type", "num_layers", "pretrained")
    return {name: getattr(source, name) for name in names}


def _stored_name(stored: Mapping[str, Any]) -> str:
    name, revision = stored["name"], stored["revision"]
    return f"{name}@{revision}" if revision else str(name)


def _check_different(names: Sequence[str], sources: Sequence["PretrainedSource"]) -> None:
    first: dict[tuple[str, str | None], str] = {}
    for name, source in zip(names, sources, strict=True):
        same = first.setdefault((source.name, source.revision), name)
        if same != name:
            raise UserError(
                f"--encoder names one network twice: {same} and {name} are both {source.name}. Accepted are different "
                "networks. Leave one of the two out."
            )


def _labels(sources: Sequence["PretrainedSource"]) -> list[str]:
    """The encoders' labels for boards; those that several would have, with as much more as tells them apart."""
    short = labels = [source.label for source in sources]
    most = max(len(Path(source.name).parts) for source in sources)
    for parts in range(2, most + 1):
        if len(set(labels)) < len(labels):
            labels = [
                _longer(source, parts) if short.count(label) > 1 else label
                for source, label in zip(sources, short, strict=True)
            ]
    return labels


def _longer(source: "PretrainedSource", parts: int) -> str:
    """The label with the last *parts* of a folder's path, or with the revision."""
    if source.is_folder:
        path = Path(source.name)
        return source.label.replace(path.name, str(Path(*path.parts[-parts:])), 1)
    pinned = source.name if source.revision is None else f"{source.name}@{source.revision}"
    return source.label.replace(source.name, pinned, 1)


def _check_same(stored: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for key in ("model_type", "num_layers"):
        if stored[key] != found[key]:
            raise UserError(
                f"The encoder {stored['label']} is not the one that this search began with: its {key} was "
                f"{stored[key]}, now it is {found[key]}. Put the original back, or start a new search."
            )


def _refuse_encoder_options(arguments: Arguments) -> None:
    default = {field.name: field.default for field in dataclasses.fields(Arguments)}
    given = [name for name in ENCODER_OPTIONS if getattr(arguments, name) != default[name]]
    if given:
        fitting = ", ".join(encoder_spaces()) or "none so far"
        raise UserError(
            f"--{given[0].replace('_', '-')} does nothing in the space {arguments.space}, which has no pretrained "
            f"network. Spaces with one: {fitting}. Choose one of them with --space, or leave the option out."
        )
