"""The W&B sweep that a search is: its parameters in W&B's words, how it is made, and what state it is in.

W&B draws parallel coordinates, importance and the best run for sweeps, whoever schedules them; here Ray does. The
sweep's method is ``custom``, which W&B has for schedulers of one's own: an agent started on it would get nothing to do.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from search.encoder_axis import EncoderAxis
from search.encoders import encoders_of
from search.parameters import Parameters
from search.result_keys import BEST_SCORE
from search.run_folder import stored_arguments
from search.space import Space, load_space

SweepState = Literal["RUNNING", "PAUSED", "FINISHED"]
Range = dict[str, Any]


class _Noting:
    """Passes every question on, and notes its range as W&B says it."""

    def __init__(self, trial: Parameters, ranges: dict[str, Range]) -> None:
        self._trial = trial
        self._ranges = ranges

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self._note(name, {"values": list(choices)})
        return self._trial.suggest_categorical(name, choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        plain: Range = {"distribution": "int_uniform", "min": low, "max": high}
        self._note(name, plain if step == 1 and not log else _between(low, high, step=step, log=log))
        return self._trial.suggest_int(name, low, high, step=step, log=log)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        self._note(name, _between(low, high, step=step, log=log))
        return self._trial.suggest_float(name, low, high, step=step, log=log)

    def _note(self, name: str, found: Range) -> None:
        if "min" in found and found["min"] == found["max"]:
            found = {"values": [found["min"]]}
        self._ranges[name] = _together(self._ranges[name], found) if name in self._ranges else found


def _between(low: float, high: float, *, step: float | None, log: bool) -> Range:
    if log:
        quantised = {} if step is None else {"q": step}
        return {"distribution": f"{'q_' if quantised else ''}log_uniform_values", "min": low, "max": high, **quantised}
    if step is not None:
        return {"distribution": "q_uniform", "min": low, "max": high, "q": step}
    return {"distribution": "uniform", "min": low, "max": high}


def _together(first: Range, second: Range) -> Range:
    """One range for a parameter that two networks have different ranges of."""
    if "values" in first and "values" in second:
        return {"values": list(dict.fromkeys([*first["values"], *second["values"]]))}
    ends = [found[end] for found in (first, second) if "min" in found for end in ("min", "max")]
    ends += [value for found in (first, second) for value in found.get("values", ())]
    spread = first if "min" in first else second
    return {**spread, "min": min(ends), "max": max(ends)}


def sweep_parameters(space: Space) -> dict[str, Range]:
    """Every parameter that *space* searches, under the name that configurations have, as W&B describes ranges.

    Those that depend on another (the layers of one kind of network) are listed with the rest, since W&B has no
    conditions; pinned ones are left out.

    >>> sweep_parameters(load_space("quick"))["dropout"]
    {'distribution': 'uniform', 'min': 0.1, 'max': 0.5}
    """
    ranges: dict[str, Range] = {}
    space.put_every_question(lambda trial: _Noting(trial, ranges))
    return ranges


def stored_space(config: Mapping[str, Any]) -> Space:
    """The space of a search, from what its ``config.json`` says; no pretrained network has to be there."""
    arguments = stored_arguments(config)
    space = load_space(arguments.space, arguments.fix)
    layers = {encoder["label"]: encoder["num_layers"] for encoder in encoders_of(config["plan"])}
    if not layers:
        return space
    return EncoderAxis.over(space, layers) if len(layers) > 1 else space.bound_to(*layers.values())


def describe_sweep(name: str, config: Mapping[str, Any], parameters: Mapping[str, Range]) -> dict[str, Any]:
    """A sweep's configuration for W&B.

    Args:
        name: the sweep's, for people
        config: the search's ``config.json``
        parameters: from :func:`sweep_parameters`
    """
    arguments = config["arguments"]
    fixed: dict[str, Range] = {"seed": {"value": arguments["seed"]}}  # W&B refuses a sweep without a parameter
    return {
        "name": name,
        "description": (
            f"Search {config['search_id']} over the space {arguments['space']}: Ray schedules, Optuna's "
            f"{arguments['sampler']} proposes, {arguments['scheduler']} stops. Do not start a W&B agent on it."
        ),
        "method": "custom",
        "metric": {"name": BEST_SCORE, "goal": "maximize"},
        "parameters": dict(parameters) or fixed,
    }


def create_sweep(described: Mapping[str, Any], *, project: str, entity: str | None, prior_runs: Sequence[str]) -> str:
    """Make the sweep; runs that W&B has from before are taken into it.

    Args:
        described: from :func:`describe_sweep`
        project: W&B project
        entity: W&B team or user; None for the key's own
        prior_runs: ids of runs that may be there already

    Returns:
        the sweep's id
    """
    import wandb

    return wandb.sweep(dict(described), project=project, entity=entity, prior_runs=list(prior_runs) or None)


def sweep_state(sweep_id: str, *, project: str, entity: str | None) -> str | None:
    """In which state W&B has a sweep, None if it has none of that id."""
    import wandb
    from wandb.apis.public.sweeps import _get_sweep_state

    try:
        return str(_get_sweep_state(wandb.Api(), sweep_id, project=project, entity=entity)).upper()
    except TypeError:  # how the client takes the answer that there is none
        return None


def set_sweep_state(sweep_id: str, state: SweepState, *, project: str, entity: str | None) -> None:
    """Bring a sweep into *state*, unless it is in it.

    ``wandb sweep --stop`` and ``--resume`` do this; the client has no public function for it.
    """
    import wandb
    from wandb.apis.public.sweeps import _set_sweep_state

    if sweep_state(sweep_id, project=project, entity=entity) != state:
        _set_sweep_state(wandb.Api(), sweep_id, state, project=project, entity=entity)
