"""Who stands between a space's questions and a sampler: ends of ranges, pinned values, names that say a range."""

from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

from search.parameters import Parameters, Value
from ser_data.errors import UserError


class Corner:
    """Answers every question with the low or the high end, save for the values it was given.

    Attributes:
        asked: names of all parameters that were asked for
        choices: of the categorical ones among them
        integers: ranges of the whole numbers among them
    """

    def __init__(self, given: "Mapping[str, Value]", *, high: bool) -> None:
        self._given = given
        self._high = high
        self.asked: set[str] = set()
        self.choices: dict[str, tuple[Any, ...]] = {}
        self.integers: dict[str, range] = {}

    @property
    def discrete(self) -> "dict[str, Sequence[Value]]":
        """All values of every parameter that has finitely many."""
        return {**self.choices, **self.integers}

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self.asked.add(name)
        self.choices[name] = tuple(choices)
        return self._given.get(name, choices[-1 if self._high else 0])

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        self.asked.add(name)
        values = self.integers[name] = range(low, high + 1, step)
        return cast(int, self._given.get(name, values[-1 if self._high else 0]))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self.asked.add(name)
        return cast(float, self._given.get(name, high if self._high else low))


class Largest(Corner):
    """Answers with high ends, and with the greatest of choices among numbers: what takes most memory."""

    def __init__(self, given: "Mapping[str, Value]") -> None:
        super().__init__(given, high=True)

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        answer = super().suggest_categorical(name, choices)
        numbers = all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in choices)
        return max(choices) if numbers and name not in self._given else answer


class Pinned:
    """Answers pinned parameters itself and passes the others on, so that a sampler never sees a pinned one.

    Attributes:
        answers: values of the pinned parameters that were asked for
    """

    def __init__(self, trial: Parameters, pins: Mapping[str, str]) -> None:
        self._trial = trial
        self._pins = pins
        self.answers: dict[str, Value] = {}

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        if name not in self._pins:
            return self._trial.suggest_categorical(name, choices)
        for choice in choices:
            if str(choice).lower() == self._pins[name].lower():
                self.answers[name] = choice
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
        self.answers[name] = value
        return value

    def _refuse(self, name: str, accepted: str) -> UserError:
        return UserError(
            f"--fix {name}={self._pins[name]} is out of range: {name} takes {accepted}. Pin it inside its range, or "
            "widen the range in the space's file."
        )


class NamedByRange:
    """Passes every question on, some of them under a name that says the range.

    Attributes:
        by_range: such a name of every parameter that was asked for
    """

    def __init__(self, trial: Parameters, names: Container[str]) -> None:
        """Ask *trial*; for the parameters among *names* under the name that says their range."""
        self._trial = trial
        self._names = names
        self.by_range: dict[str, str] = {}

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        return self._trial.suggest_categorical(self._name(name, "of_" + "_".join(map(str, choices))), choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        asked = self._name(name, f"{low}_to_{high}" + _spacing(None if step == 1 else step, log))
        return self._trial.suggest_int(asked, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        asked = self._name(name, f"{low!r}_to_{high!r}" + _spacing(step, log))
        return self._trial.suggest_float(asked, low, high, step=step, log=log)

    def _name(self, name: str, told: str) -> str:
        self.by_range[name] = f"{name}_{told}"
        return self.by_range[name] if name in self._names else name


def _spacing(step: float | None, log: bool) -> str:
    return ("" if step is None else f"_by_{step}") + ("_log" if log else "")
