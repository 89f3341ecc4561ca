"""``--encoder`` and the options beside it: from what was typed to a space with the ranges of the encoder at hand."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from search.arguments import Arguments
from search.space import Space, encoder_spaces, load_space
from ser_data.errors import UserError

if TYPE_CHECKING:
    from ser_models.pretrained.source import PretrainedSource

ENCODER_OPTIONS = ("encoder", "pretrained", "precision", "cache_precision")


def open_space(arguments: Arguments, stored: Mapping[str, Any] | None = None) -> tuple[Space, dict[str, Any] | None]:
    """The space of a search, bound to its encoder where it has one.

    Args:
        arguments: of the search
        stored: what :func:`describe` gave when the search began, where it goes on

    Returns:
        the space, and what ``config.json`` says of the encoder

    Raises:
        UserError: an option of encoders for another kind of space, an encoder that cannot be used, or one that
            changed since the search began
    """
    space = load_space(arguments.space, arguments.fix)
    if space.encoder is None:
        _refuse_encoder_options(arguments)
        return space, None
    # a space's default may be another one in a later version; a search goes on with its own
    name = _stored_name(stored) if stored else arguments.encoder or space.encoder
    source = _find(name, types=space.encoder_types, pretrained=arguments.pretrained)
    found = describe(source)
    if stored is not None:
        _check_same(stored, found)
    return space.bound_to(source.num_layers), found


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
