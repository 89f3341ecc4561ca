"""A space over several pretrained networks: which of them a trial has is a parameter, ``encoder``.

Behind it a trial is asked for the parameters of the space as it is for that network alone. What is learnt of one
network then counts for the others, since a parameter has one name and one range; where the range of a parameter differs
between networks (the depth of one of 12 layers and one of 24), each range is a parameter of its own to the sampler,
named for it: ``unfreeze_depth_0_to_12``. Networks with the same range share it. Configurations, pins and ``KNOWN_GOOD``
have the plain name.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace

from search.answers import Corner, NamedByRange, Pinned
from search.encoders import ENCODER
from search.parameters import Parameters, Value
from search.space import Space, check_pin_names
from ser_data.errors import UserError


@dataclass(frozen=True)
class EncoderAxis(Space):
    """A space over encoders, bound to several.

    Attributes:
        members: the space bound to each encoder, by label; one alone where ``encoder`` is pinned
        ranged: by label, the parameters whose range differs between encoders, with the names that the sampler has
    """

    members: Mapping[str, Space] = field(default_factory=dict)
    ranged: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def over(cls, space: Space, num_layers: Mapping[str, int]) -> "EncoderAxis":
        """*space* over encoders, with these labels and numbers of layers; the first one's known-good go first.

        Raises:
            UserError: a pinned parameter is not known, or its value is out of range for one of the encoders
        """
        labels = tuple(num_layers)
        pins = {name: pin for name, pin in space.pins.items() if name != ENCODER}
        members = {label: replace(space, pins=pins, num_layers=num_layers[label]) for label in labels}
        check_pin_names(space, {ENCODER}.union(*(replace(member, pins={})._known() for member in members.values())))
        if ENCODER in space.pins:
            label = Pinned(Corner({}, high=False), space.pins).suggest_categorical(ENCODER, labels)
            members = {label: members[label]}
        ranges = {label: _names_by_range(member, label) for label, member in members.items()}
        differing = {
            name
            for name in set().union(*ranges.values())
            if len({names[name] for names in ranges.values() if name in names}) > 1
        }
        ranged = {
            label: {name: by_range for name, by_range in names.items() if name in differing}
            for label, names in ranges.items()
        }
        values = {each.name: getattr(space, each.name) for each in fields(Space)}
        return cls(**values, members=members, ranged=ranged)

    def configure(self, trial: Parameters) -> dict[str, Value]:
        label = next(iter(self.members))
        if ENCODER not in self.pins:
            label = trial.suggest_categorical(ENCODER, tuple(self.members))
        return {ENCODER: label, **self.members[label].configure(NamedByRange(trial, self.ranged[label]))}

    def start_configurations(self) -> list[dict[str, Value]]:
        """The first known-good configuration with every encoder, which compares them; the others with the first."""
        known = {label: member.start_configurations() for label, member in self.members.items()}
        first = next(iter(known))
        return [
            *(self._as_asked(label, configs[0]) for label, configs in known.items() if configs),
            *(self._as_asked(first, config) for config in known[first][1:]),
        ]

    def _as_asked(self, label: str, known: Mapping[str, Value]) -> dict[str, Value]:
        """*known* under the names that the sampler has, with the encoder called *label*."""
        own: dict[str, Value] = {} if ENCODER in self.pins else {ENCODER: label}
        return {**own, **{self.ranged[label].get(name, name): value for name, value in known.items()}}

    def values_of(self, name: str) -> tuple[Value, ...]:
        """All values that a parameter can take with any of the encoders."""
        if name == ENCODER:
            return tuple(self.members)
        found = itertools.chain.from_iterable(member.values_of(name) for member in self.members.values())
        return tuple(dict.fromkeys(found))

    def to_prepare(self) -> list[dict[str, Value]]:
        """As for one encoder, for each of them in turn."""
        return [{ENCODER: label, **config} for label, member in self.members.items() for config in member.to_prepare()]

    def corners(self) -> Iterator[dict[str, Value]]:
        """As for one encoder, for each of them in turn."""
        return ({ENCODER: label, **config} for label, member in self.members.items() for config in member.corners())

    def put_every_question(self, wrap: Callable[[Parameters], Parameters]) -> None:
        """As for one encoder, for each of them in turn, under the names that configurations have; then which."""
        for member in self.members.values():
            member.put_every_question(wrap)
        if ENCODER not in self.pins:
            wrap(Corner({}, high=False)).suggest_categorical(ENCODER, tuple(self.members))

    def largest(self) -> list[dict[str, Value]]:
        """As for one encoder, for each of them in turn."""
        return [{ENCODER: label, **config} for label, member in self.members.items() for config in member.largest()]

    def smallest_and_largest(self) -> tuple[dict[str, Value], ...]:
        """As for one encoder, for each of them in turn."""
        return tuple(
            {ENCODER: label, **config}
            for label, member in self.members.items()
            for config in member.smallest_and_largest()
        )


def _names_by_range(space: Space, label: str) -> dict[str, str]:
    """Every parameter that *space* asks for, with the name that says its range.

    Raises:
        UserError: a pinned value is out of its range
    """
    names: dict[str, str] = {}
    try:
        structures = space._structures()
    except UserError as error:
        raise UserError(
            f"{error} That is its range for the encoder {label}, and a pin holds for every encoder of a search."
        ) from error
    for structure in structures:
        for high in (False, True):
            noting = NamedByRange(Corner(structure, high=high), {})
            space.configure(noting)
            names |= noting.by_range
    return names
