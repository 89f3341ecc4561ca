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

A parameter's name stands for one range everywhere in a space (Optuna's rule): where two networks need different
ranges of the same thing, the parameters have two names.

Its docstring gives the command, what it costs, what it reached and where each range comes from.
"""

import ast
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from ser_data.errors import UserError

SPACES_FOLDER = Path(__file__).parent / "spaces"
REDUCTION_FACTOR = 3

Value = str | int | float | bool


class Parameters(Protocol):
    """What a space's ``suggest`` may ask for: the part of :class:`optuna.trial.Trial` that spaces use."""

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...


@dataclass(frozen=True)
class Space:
    """One search space, with the parameters that ``--fix`` pinned."""

    name: str
    summary: str
    family: str
    trials: int
    max_epochs: int
    grace: int
    known_good: tuple[dict[str, Value], ...]
    _suggest: Callable[[Parameters], dict[str, Value]]
    pins: Mapping[str, str] = field(default_factory=dict)

    def configure(self, trial: Parameters) -> dict[str, Value]:
        """Ask *trial* for every parameter that is not pinned; return the whole configuration."""
        return self._suggest(_Pinned(trial, self.pins))

    def start_configurations(self) -> list[dict[str, Value]]:
        """``KNOWN_GOOD`` as far as it agrees with the pins, without the pinned parameters, each once."""
        unique: list[dict[str, Value]] = []
        for known in self.known_good:
            if any(str(known[name]).lower() != pin.lower() for name, pin in self.pins.items() if name in known):
                continue
            rest = {name: value for name, value in known.items() if name not in self.pins}
            if rest not in unique:
                unique.append(rest)
        return unique

    def corners(self) -> Iterator[dict[str, Value]]:
        """Configurations at the lows and at the highs of all ranges, one pair for every combination of choices.

        Choices that no other parameter depends on would multiply for nothing, so each combination of *structural*
        choices (those that change which parameters are asked for) is visited, and the others take their first
        value with the lows and their last with the highs.
        """
        for structure in self._structures():
            for high in (False, True):
                yield self.configure(_Corner(structure, high))

    def _structures(self, given: Mapping[str, Value] | None = None) -> list[dict[str, Value]]:
        """Combinations of the choices that change which parameters are asked for, on top of *given*."""
        given = dict(given or {})
        for name, choices in self._probe(given).choices.items():
            if name not in given:
                variants = [{**given, name: choice} for choice in choices]
                if len({frozenset(self._probe(variant).asked) for variant in variants}) > 1:
                    return [leaf for variant in variants for leaf in self._structures(variant)]
        return [given]

    def _probe(self, structure: Mapping[str, Value]) -> "_Corner":
        corner = _Corner(structure, high=False)
        self.configure(corner)
        return corner

    def smallest_and_largest(self) -> tuple[dict[str, Value], dict[str, Value]]:
        """The configurations with every range and choice at its first, and at its last, value."""
        return self.configure(_Corner({}, high=False)), self.configure(_Corner({}, high=True))


def known_spaces() -> list[str]:
    """Names that ``--space`` accepts, sorted."""
    return sorted(path.stem for path in SPACES_FOLDER.glob("*.py") if not path.stem.startswith("_"))


def space_summary(name: str) -> str:
    """First line of a space's docstring, read without importing it."""
    docstring = ast.get_docstring(ast.parse((SPACES_FOLDER / f"{name}.py").read_text()))
    return (docstring or "").partition("\n")[0]


def check_space_name(name: str) -> None:
    """Raise a UserError unless *name* is a known space."""
    if name not in known_spaces():
        raise UserError(
            f"--space '{name}' is not known. Known spaces: {', '.join(known_spaces())}. "
            f"Add one as search/spaces/{name}.py."
        )


def load_space(name: str, pins: Mapping[str, str] | None = None) -> Space:
    """The space called *name*, with *pins* of ``--fix`` checked against its ranges.

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
    )
    _check_pins(space)
    return space


def _check_pins(space: Space) -> None:
    # a pinned parameter is answered before it reaches a corner, so the space without pins is asked what it knows
    free = replace(space, pins={})
    known = {name for structure in free._structures() for name in free._probe(structure).asked}
    unknown = sorted(set(space.pins) - known)
    if unknown:
        raise UserError(
            f"--fix {unknown[0]}={space.pins[unknown[0]]}: the space {space.name} has no parameter '{unknown[0]}'. "
            f"It searches: {', '.join(sorted(known))}."
        )
    space._structures()  # asking is what checks a pinned value against its range


class _Corner:
    """Answers every question with the low or the high end, save for the choices it was given."""

    def __init__(self, structure: Mapping[str, Value], high: bool) -> None:
        self._structure = structure
        self._high = high
        self.asked: set[str] = set()
        self.choices: dict[str, tuple[Any, ...]] = {}

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self.asked.add(name)
        self.choices[name] = tuple(choices)
        return self._structure.get(name, choices[-1 if self._high else 0])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.asked.add(name)
        return low + (high - low) // step * step if self._high else low

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.asked.add(name)
        return high if self._high else low


class _Pinned:
    """Answers pinned parameters itself and passes the others on, so that a sampler never sees a pinned one."""

    def __init__(self, trial: Parameters, pins: Mapping[str, str]) -> None:
        self._trial = trial
        self._pins = pins

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        if name not in self._pins:
            return self._trial.suggest_categorical(name, choices)
        for choice in choices:
            if str(choice).lower() == self._pins[name].lower():
                return choice
        raise self._refuse(name, "one of " + ", ".join(str(choice) for choice in choices))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        if name not in self._pins:
            return self._trial.suggest_int(name, low, high, step=step, log=log)
        return cast(int, self._number(name, int, low, high))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if name not in self._pins:
            return self._trial.suggest_float(name, low, high, step=step, log=log)
        return self._number(name, float, low, high)

    def _number(self, name: str, kind: type[int] | type[float], low: float, high: float) -> float:
        try:
            value = kind(self._pins[name])
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise self._refuse(name, f"{'a whole number' if kind is int else 'a number'} from {low:g} to {high:g}")
        return value

    def _refuse(self, name: str, accepted: str) -> UserError:
        return UserError(
            f"--fix {name}={self._pins[name]} is out of range: {name} takes {accepted}. Pin it inside its range, or "
            "widen the range in the space's file."
        )
