"""The command that trains one trial again: the same configuration, data and generators, to its full length."""

import shlex
from collections.abc import Mapping
from typing import Any

from search.arguments import Arguments
from search.encoders import ENCODER, encoder_of
from search.parameters import Value
from search.study import StudyTrial

#: Options that change what a trial computes, with what the command line takes for their value.
_SAME = ("split", "precision", "cache_precision", "cpus_per_trial")


def command_of(trial: StudyTrial, config: Mapping[str, Any]) -> str:
    """A command that trains *trial* again.

    ``--fix`` pins every parameter, and ``--as-trial`` draws initialisation and batches from the trial's own number, so
    that each epoch is the trial's own on the same machine. Nothing stops it: a trial that was stopped early goes on
    to its full length.

    Args:
        trial: of a search's record
        config: that search's ``config.json``
    """
    arguments, default = config["arguments"], Arguments()
    options: dict[str, Any] = {"space": arguments["space"]}
    if arguments.get("data") is not None:
        options["data"] = arguments["data"]
    for name in _SAME:
        value = arguments.get(name, getattr(default, name))
        if value != getattr(default, name):
            options[name] = value
    if arguments.get("emotions"):
        options["emotions"] = ",".join(arguments["emotions"])
    encoder = encoder_of(config["plan"], trial.config.get(ENCODER))
    if encoder is not None:
        options["encoder"] = encoder["name"] + (f"@{encoder['revision']}" if encoder["revision"] else "")
        if not encoder["pretrained"]:
            options["pretrained"] = "none"
    options |= {"seed": arguments["seed"], "trials": 1, "scheduler": "none"}
    number = arguments.get("as_trial", 0) + trial.number
    if number:
        options["as_trial"] = number
    parts = ["python", "search/run.py"]
    for name, value in options.items():
        parts += [f"--{name.replace('_', '-')}", str(value)]
    for name, value in pins_of(trial, arguments.get("fix", {})).items():
        parts += ["--fix", f"{name}={value}"]
    return shlex.join(parts)


def pins_of(trial: StudyTrial, fix: Mapping[str, str]) -> dict[str, Value]:
    """Every searched parameter by the name that ``--fix`` has for it, with the search's own pins.

    Of several encoders, the sampler's name of a parameter says its range; the configuration has the plain one. Which
    encoder is said by ``--encoder``.
    """
    pins: dict[str, Value] = {}
    for name, value in trial.params.items():
        plain = name
        if name not in trial.config:
            known = [key for key in trial.config if name.startswith(f"{key}_")]
            plain = max(known, key=len, default=name)
        pins[plain] = value
    return {name: value for name, value in {**fix, **pins}.items() if name != ENCODER}
