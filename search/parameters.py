"""What a space asks for, and what it gets."""

from typing import Any, Protocol

Value = str | int | float | bool


def short(value: Any) -> str:
    """A parameter's value for a person.

    >>> short(0.00123456), short(128), short("cnn")
    ('0.00123', '128', 'cnn')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Parameters(Protocol):
    """What a space's ``suggest`` may ask for: the part of :class:`optuna.trial.Trial` that spaces use."""

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any: ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int: ...

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float: ...
