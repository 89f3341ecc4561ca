"""``--space all`` and ``--space A,B``: several spaces that share a budget, and which options are whose."""

import dataclasses
from pathlib import Path

from search.arguments import Arguments
from search.encoder_choice import ENCODER_OPTIONS, open_space
from search.space import encoder_spaces, members_of
from ser_data.errors import UserError

#: Options that hold for all members together, and for none alone.
_SHARED = ("trials", "time_budget", "gpu_hours", "finalists", "seeds", "folds", "force", "resume")


def is_portfolio(arguments: Arguments) -> bool:
    """Whether *arguments* ask for several spaces."""
    return len(members_of(arguments.space)) > 1


def arguments_of_members(arguments: Arguments, folder: Path) -> list[Arguments]:
    """The arguments of each member's own search, which has a folder of its space's name in *folder*.

    ``--fix`` holds for the members that search the parameter, the options of encoders for those that have one.

    Args:
        arguments: of the whole search
        folder: of the whole search

    Raises:
        UserError: a pinned parameter that no member searches, or an option of encoders where no member has one
    """
    default = Arguments()
    shared = {name: getattr(default, name) for name in _SHARED}
    without_encoder = {name: getattr(default, name) for name in ENCODER_OPTIONS}
    with_encoder = set(encoder_spaces())
    names = members_of(arguments.space)
    if not with_encoder & set(names):
        given = [name for name in ENCODER_OPTIONS if getattr(arguments, name) != getattr(default, name)]
        if given:
            raise UserError(
                f"--{given[0].replace('_', '-')} does nothing in the spaces {', '.join(names)}: none has a pretrained "
                "network. Leave it out, or add a space with one."
            )
    members = []
    known: set[str] = set()
    for name in names:
        changes = {**shared, **({} if name in with_encoder else without_encoder)}
        alone = dataclasses.replace(arguments, **changes, space=name, out=folder / name, fix={})
        space, _ = open_space(alone)
        known |= space.parameters
        fix = {key: value for key, value in arguments.fix.items() if key in space.parameters}
        members.append(dataclasses.replace(alone, fix=fix))
    unknown = sorted(arguments.fix.keys() - known)
    if unknown:
        raise UserError(
            f"--fix {unknown[0]}={arguments.fix[unknown[0]]}: none of the spaces {', '.join(names)} has a parameter "
            f"'{unknown[0]}'. They search: {', '.join(sorted(known))}."
        )
    return members
