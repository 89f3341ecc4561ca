"""Reading one trial's configuration so that no parameter can be ignored, misspelt or out of range."""

import difflib
import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from types import MappingProxyType

from ser_data.errors import UserError

Value = str | int | float | bool | None


class ConfigError(UserError):
    """A configuration that holds a wrong, missing or unread parameter."""


class ReadConfig:
    """A configuration that remembers which of its parameters were read.

    A family takes every parameter it uses by name and calls :meth:`finish` when the trial is built. A parameter
    that nobody took would be searched and change nothing, so it is an error; so is one that is needed and missing.

    Args:
        values: the parameters by name, as a search proposed them
        owner: who reads, for messages, e.g. ``"mfcc"``
    """

    def __init__(self, values: Mapping[str, object], *, owner: str) -> None:
        self._values = dict(values)
        self._owner = owner
        self._read: dict[str, Value] = {}

    @property
    def read(self) -> Mapping[str, Value]:
        """The parameters taken so far, in the order of their first reading, as the trial uses them."""
        return MappingProxyType(self._read)

    def take(
        self,
        name: str,
        *,
        low: float | None = None,
        high: float | None = None,
        choices: Iterable[Value] | None = None,
    ) -> Value:
        """Read one parameter.

        Args:
            name: the parameter
            low: smallest accepted number, where the parameter is one
            high: largest accepted number
            choices: the accepted values, where they can be listed

        Returns:
            the value, a numpy scalar turned into Python's own type

        Raises:
            ConfigError: if the parameter is missing, or its value is not accepted
        """
        if name not in self._values:
            raise ConfigError(
                f"The {self._owner} configuration lacks {name!r}. It holds {_listed(self._values)}. "
                f"Add {name!r} to the search space{_accepted_suffix(low, high, choices)}."
            )
        value = _plain(self._values[name])
        if choices is not None:
            self._check_choice(name, value, tuple(choices))
        if low is not None or high is not None:
            self._check_range(name, value, low, high)
        self._read[name] = value
        return value

    def integer(self, name: str, *, low: int, high: int) -> int:
        """Read a whole number between *low* and *high*, both included; see :meth:`take`."""
        value = self.take(name, low=low, high=high)
        if not isinstance(value, int):
            if not (isinstance(value, float) and value.is_integer()):
                raise self._refusal(name, value, f"whole numbers from {low} to {high}")
            value = int(value)
            self._read[name] = value
        return value

    def number(self, name: str, *, low: float, high: float) -> float:
        """Read a number between *low* and *high*, both included; see :meth:`take`."""
        value = float(self.take(name, low=low, high=high))  # type: ignore[arg-type]  # take has checked the range of a number
        self._read[name] = value
        return value

    def flag(self, name: str) -> bool:
        """Read a true or false; see :meth:`take`."""
        value = self.take(name)
        if not isinstance(value, bool):
            raise self._refusal(name, value, "True or False")
        return value

    def choice(self, name: str, choices: Iterable[str]) -> str:
        """Read one of the names in *choices*; see :meth:`take`."""
        return str(self.take(name, choices=tuple(choices)))

    def finish(self) -> Mapping[str, Value]:
        """Close the reading.

        Returns:
            what was read, by name

        Raises:
            ConfigError: naming the parameters that nobody read
        """
        unread = [name for name in self._values if name not in self._read]
        if unread:
            raise ConfigError(
                f"The {self._owner} configuration holds {_listed(unread)}, which this trial does not read"
                f"{_suggestions(unread, self._read)}. It reads {_listed(self._read)}. "
                f"Remove {'it' if len(unread) == 1 else 'them'} from the search space, or search "
                f"{'it' if len(unread) == 1 else 'them'} only where {'it is' if len(unread) == 1 else 'they are'} used."
            )
        return self.read

    def _check_choice(self, name: str, value: Value, choices: tuple[Value, ...]) -> None:
        # True == 1 in Python, so the types are compared too.
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise self._refusal(name, value, "one of " + ", ".join(map(repr, choices)))

    def _check_range(self, name: str, value: Value, low: float | None, high: float | None) -> None:
        accepted = _range_text(low, high)
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            raise self._refusal(name, value, f"a number {accepted}")
        if (low is not None and value < low) or (high is not None and value > high):
            raise self._refusal(name, value, f"a number {accepted}")

    def _refusal(self, name: str, value: Value, accepted: str) -> ConfigError:
        return ConfigError(
            f"The {self._owner} configuration has {name} = {value!r}. Accepted is {accepted}. "
            f"Change the range of {name!r} in the search space, or the value fixed for it."
        )


def _plain(value: object) -> Value:
    """Numpy scalars compare and print unlike Python's numbers, and JSON does not take them."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if type(value).__name__ in ("bool", "bool_"):  # numpy's, without importing numpy here
        return bool(value)
    raise ConfigError(
        f"A configuration value is {value!r} of type {type(value).__name__}. "
        "Accepted are text, numbers, true and false. "
        "Search lists or objects by a name or a number that stands for them."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "nothing"


def _range_text(low: float | None, high: float | None) -> str:
    if low is None:
        return f"up to {high:g}"
    if high is None:
        return f"from {low:g}"
    return f"from {low:g} to {high:g}"


def _accepted_suffix(low: float | None, high: float | None, choices: Iterable[Value] | None) -> str:
    if choices is not None:
        return " (one of " + ", ".join(map(repr, choices)) + ")"
    if low is not None or high is not None:
        return f" (a number {_range_text(low, high)})"
    return ""


def _suggestions(unread: list[str], read: Mapping[str, Value]) -> str:
    matches = {name: difflib.get_close_matches(name, read, n=1) for name in unread}
    close = " ".join(f"{name!r}: did you mean {match[0]!r}?" for name, match in matches.items() if match)
    return f" ({close})" if close else ""
