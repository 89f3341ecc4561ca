"""Three trials, each held before its third epoch until a test opens its gate: a file ``open-X`` in the cache folder."""

from search.parameters import Parameters, Value

FAMILY = "knob"
TRIALS = 3
MAX_EPOCHS = 4
GRACE = 1
KNOWN_GOOD: list[dict[str, Value]] = [{"x": 0.1 + 0.25 * place} for place in range(TRIALS)]


def suggest(trial: Parameters) -> dict[str, Value]:
    """One configuration."""
    return {"x": trial.suggest_float("x", 0.0, 1.0), "held": True}
