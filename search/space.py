"""A search space: one file ``search/spaces/NAME.py``, found by its name and checked before anything slow starts.

A space module holds constants and one function:

=================  ==================================================================================
``FAMILY``         which model family it searches (a key of :data:`search.families.FAMILIES`)
``TRIALS``         default of ``--trials``
``MAX_EPOCHS``     a trial's full length
``GRACE``          epochs before the first rung (default of ``--grace``)
``KNOWN_GOOD``     configurations evaluated first, the cheapest first, as values of the searched parameters
``suggest(trial)`` define-by-run: asks *trial* for each parameter, returns the trial's configuration
=================  ==================================================================================

One over pretrained encoders holds more, and its ranges follow the encoder at hand. An encoder, here and in
``--encoder``, is a speech encoder or an image backbone; its layers are then the stages:

==============================  ======================================================================
``ENCODER``                     default of ``--encoder``: one, or several separated by commas
``ENCODER_TYPES``               kinds of encoder that it is made for
``PREPARE``                     names of the parameters that decide what of an encoder is computed once
``suggest(trial, num_layers)``  as above, for an encoder of *num_layers* layers
==============================  ======================================================================

A search over several encoders chooses among them: :mod:`search.encoder_axis` asks for ``encoder``, and then for what
the space asks under that one alone. All that a space has to do for it is to have no parameter called ``encoder``.

A configuration may hold ``epochs``, up to ``MAX_EPOCHS``: such a trial is through after as many. A whole number of
``KNOWN_GOOD`` above its range (a depth that a small encoder lacks) stands for the highest there is.

A parameter's name stands for one range everywhere in a space (Optuna's rule): where two networks need different
ranges of the same thing, the parameters have two names.

Its docstring gives the command, what it costs, what it reached and where each range comes from.
"""

import ast
import importlib
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from search.answers import Corner, Largest, Pinned
from search.parameters import Parameters, Value
from ser_data.errors import UserError

ALL = "all"
ALL_MEMBERS = ("mfcc_full", "mel_cnn", "wav2vec2_fast")  # one space of each family
SPACES_FOLDER = Path(__file__).parent / "spaces"
REDUCTION_FACTOR = 3
EPOCHS = "epochs"  # in a configuration: the trial's own full length
_KINDS = ("network", "unfreeze_depth")  # parameters that make another network
_MOST_PROBED = 64  # values of a whole number that are asked for their effect on other parameters


@dataclass(frozen=True)
class Space:
    """One search space, with the parameters that ``--fix`` pinned.

    Attributes:
        encoder: the default encoder of a space over encoders, None of another
        encoder_types: kinds of encoder that it is made for
        prepare: names of the parameters that decide what is computed once
        num_layers: of the encoder that it is bound to; until then a space over encoders cannot be asked
    """

    name: str
    summary: str
    family: str
    trials: int
    max_epochs: int
    grace: int
    known_good: tuple[dict[str, Value], ...]
    _suggest: Callable[..., dict[str, Value]]
    pins: Mapping[str, str] = field(default_factory=dict)
    encoder: str | None = None
    encoder_types: tuple[str, ...] = ()
    prepare: tuple[str, ...] = ()
    num_layers: int | None = None

    def bound_to(self, num_layers: int) -> "Space":
        """This space over encoders with the ranges of one of *num_layers* layers.

        Raises:
            UserError: a pinned parameter is not known, or its value is out of range
        """
        bound = replace(self, num_layers=num_layers)
        _check_pins(bound)
        return bound

    def configure(self, trial: Parameters) -> dict[str, Value]:
        """Ask *trial* for every parameter that is not pinned; return the whole configuration."""
        return self._ask(Pinned(trial, self.pins))

    def _ask(self, trial: Parameters) -> dict[str, Value]:
        if self.encoder is None:
            return self._suggest(trial)
        assert self.num_layers is not None, "a space over encoders is asked once it is bound to one"
        return self._suggest(trial, self.num_layers)

    @property
    def parameters(self) -> set[str]:
        """Names of all parameters that are searched, pinned ones among them."""
        return replace(self, pins={})._known()

    def start_configurations(self) -> list[dict[str, Value]]:
        """``KNOWN_GOOD`` as far as it agrees with the pins, without the pinned parameters, each once."""
        unique: list[dict[str, Value]] = []
        for known in map(replace(self, pins={})._lowered, self.known_good):
            if any(str(known[name]).lower() != pin.lower() for name, pin in self.pins.items() if name in known):
                continue
            rest = {name: value for name, value in known.items() if name not in self.pins}
            if rest not in unique:
                unique.append(rest)
        return unique

    def _lowered(self, known: Mapping[str, Value]) -> dict[str, Value]:
        """*known* with whole numbers above their range at its top."""
        tops = {name: values[-1] for name, values in self._discrete().items() if isinstance(values, range)}
        return {name: min(value, tops[name]) if name in tops else value for name, value in known.items()}

    def values_of(self, name: str) -> tuple[Value, ...]:
        """All values that a parameter can take, in the order of its range; a pinned one takes one.

        Returns:
            nothing for a parameter that is not asked for, given the pins

        Raises:
            ValueError: the space has no such parameter, or it is continuous
        """
        values = self._discrete().get(name)
        if values is not None:
            return tuple(values)
        if name not in replace(self, pins={})._known():
            raise ValueError(f"the space {self.name} has no parameter '{name}'")
        if any(name in self._probe(structure).asked for structure in self._structures()):
            raise ValueError(f"the parameter '{name}' of the space {self.name} is continuous: it has no list of values")
        return ()

    def _discrete(self) -> dict[str, Sequence[Value]]:
        """All values of every parameter that has finitely many, wherever it is asked for."""
        found: dict[str, Sequence[Value]] = {}
        for structure in self._structures():
            corner = Corner(structure, high=False)
            pinned = Pinned(corner, self.pins)
            self._ask(pinned)
            found |= corner.discrete | {name: (value,) for name, value in pinned.answers.items()}
        return found

    def _known(self) -> set[str]:
        """Names of all parameters that are not pinned."""
        return {name for structure in self._structures() for name in self._probe(structure).asked}

    def to_prepare(self) -> list[dict[str, Value]]:
        """Configurations with every combination of values of ``PREPARE``, each once; all else at its first value."""
        values = {name: self.values_of(name) for name in self.prepare}
        names = [name for name in self.prepare if values[name]]
        unique: list[dict[str, Value]] = []
        for combination in itertools.product(*(values[name] for name in names)):
            config = self.configure(Corner(dict(zip(names, combination, strict=True)), high=False))
            if config not in unique:
                unique.append(config)
        return unique

    def corners(self) -> Iterator[dict[str, Value]]:
        """Configurations at the lows and at the highs of all ranges, one pair for every combination of choices.

        Choices that no other parameter depends on would multiply for nothing, so each combination of *structural*
        choices (those that change which parameters are asked for) is visited, and the others take their first
        value with the lows and their last with the highs.
        """
        for structure in self._structures():
            for high in (False, True):
                yield self.configure(Corner(structure, high=high))

    def put_every_question(self, wrap: Callable[[Parameters], Parameters]) -> None:
        """Ask what *wrap* makes of a trial for every parameter that is searched, wherever it is asked for."""
        for structure in self._structures():
            self.configure(wrap(Corner(structure, high=False)))

    def _structures(self, given: Mapping[str, Value] | None = None) -> list[dict[str, Value]]:
        """Combinations of the choices that change which parameters are asked for, on top of *given*.

        Of a whole number that does so (a depth of 0 has no backbone to train) the first and the last value count
        among those that ask for the same.
        """
        given = dict(given or {})
        probe = self._probe(given)
        for name, values in probe.discrete.items():
            if name in given:
                continue
            if name in probe.integers and len(values) > _MOST_PROBED:
                values = (values[0], values[1], values[-1])
            alike: dict[frozenset[str], list[Value]] = {}
            for value in values:
                alike.setdefault(frozenset(self._probe({**given, name: value}).asked), []).append(value)
            if len(alike) > 1:
                ends = [value for same in alike.values() for value in dict.fromkeys((same[0], same[-1]))]
                variants = ends if name in probe.integers else values
                return [leaf for value in variants for leaf in self._structures({**given, name: value})]
        return [given]

    def _probe(self, structure: Mapping[str, Value]) -> Corner:
        corner = Corner(structure, high=False)
        self.configure(corner)
        return corner

    def largest(self) -> list[dict[str, Value]]:
        """For each network, and each depth of a pretrained one, the largest configuration: what takes most memory.

        Of those that differ in other structural choices, the one with most parameters.
        """
        found: dict[tuple[Value, ...], dict[str, Value]] = {}
        for structure in self._structures():
            config = self.configure(Largest(structure))
            kind = tuple(config.get(name, "") for name in _KINDS)
            if len(config) > len(found.get(kind, ())):
                found[kind] = config
        return list(found.values())

    def smallest_and_largest(self) -> tuple[dict[str, Value], ...]:
        """The configurations with every range and choice at its first, and at its last, value."""
        return self.configure(Corner({}, high=False)), self.configure(Corner({}, high=True))


def full_length(config: Mapping[str, Any], max_epochs: int) -> int:
    """Epochs after which a trial of this configuration is through.

    >>> full_length({"epochs": 8}, 30), full_length({}, 30), full_length({"epochs": 8}, 1)
    (8, 30, 1)
    """
    return min(int(config.get(EPOCHS, max_epochs)), max_epochs)


def known_spaces() -> list[str]:
    """Names that ``--space`` accepts, sorted."""
    return sorted(path.stem for path in SPACES_FOLDER.glob("*.py") if not path.stem.startswith("_"))


def encoder_spaces() -> list[str]:
    """Those of the known spaces that search over a pretrained encoder, sorted; found without importing any."""
    return [name for name in known_spaces() if "ENCODER" in _constants(SPACES_FOLDER / f"{name}.py")]


def _constants(path: Path) -> set[str]:
    targets = (
        target
        for statement in ast.parse(path.read_text()).body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
    )
    return {target.id for target in targets if isinstance(target, ast.Name)}


def space_summary(name: str) -> str:
    """First line of a space's docstring, read without importing it."""
    docstring = ast.get_docstring(ast.parse((SPACES_FOLDER / f"{name}.py").read_text()))
    return (docstring or "").partition("\n")[0]


def members_of(name: str) -> tuple[str, ...]:
    """The spaces that ``--space`` *name* stands for: one, or those that share a budget.

    >>> members_of("mel_cnn"), members_of("mfcc_fast,mel_cnn")
    (('mel_cnn',), ('mfcc_fast', 'mel_cnn'))
    """
    if name == ALL:
        return ALL_MEMBERS
    return tuple(part.strip() for part in name.split(","))


def check_space_name(name: str) -> None:
    """Raise a UserError unless *name* is a known space, several of them, or ``all``."""
    members = members_of(name)
    for member in members:
        if member not in known_spaces():
            raise UserError(
                f"--space '{member}' is not known. Known spaces: {', '.join(known_spaces())}; {ALL}, which is "
                f"{','.join(ALL_MEMBERS)}; or several of them, separated by commas. "
                f"Add one as search/spaces/{member}.py."
            )
    if len(set(members)) < len(members):
        raise UserError(f"--space '{name}' names a space twice. Name each once.")


def load_space(name: str, pins: Mapping[str, str] | None = None) -> Space:
    """The space called *name*, with *pins* of ``--fix`` checked against its ranges.

    A space over encoders has ranges only once it is bound to one: its pins are checked by :meth:`Space.bound_to`.

    Raises:
        UserError: the space or a pinned parameter is not known, or a pinned value is out of range
    """
    check_space_name(name)
    module = importlib.import_module(f"search.spaces.{name}")
    space = Space(
        name=name,
        summary=space_summary(name),
        family=module.FAMILY,
        trials=module.TRIALS,
        max_epochs=module.MAX_EPOCHS,
        grace=module.GRACE,
        known_good=tuple(module.KNOWN_GOOD),
        _suggest=module.suggest,
        pins=dict(pins or {}),
        encoder=getattr(module, "ENCODER", None),
        encoder_types=tuple(getattr(module, "ENCODER_TYPES", ())),
        prepare=tuple(getattr(module, "PREPARE", ())),
    )
    if space.encoder is None:
        _check_pins(space)
    return space


def _check_pins(space: Space) -> None:
    # a pinned parameter is answered before it reaches a corner, so the space without pins is asked what it knows
    check_pin_names(space, replace(space, pins={})._known())
    space._structures()  # asking is what checks a pinned value against its range


def check_pin_names(space: Space, known: Collection[str]) -> None:
    """Raise a UserError where *space* has a pin whose name is not among its *known* parameters."""
    unknown = sorted(set(space.pins) - set(known))
    if unknown:
        raise UserError(
            f"--fix {unknown[0]}={space.pins[unknown[0]]}: the space {space.name} has no parameter '{unknown[0]}'. "
            f"It searches: {', '.join(sorted(known))}."
        )
