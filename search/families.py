"""Family name to what a trial needs: which module builds it, and how much of a machine one trial takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ser_data.errors import UserError


def _one_group(config: Mapping[str, Any]) -> str:
    return ""


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
        name: as in a space's ``FAMILY`` and on the board
        module: has ``build(config, task, *, seed, max_epochs, probe_clips)``, which gives a `ser_models.trial.Trial`
        cpus_per_trial: default of ``--cpus-per-trial``
        gpus_per_trial: default of ``--gpus-per-trial`` on a machine with a GPU
        rung_group: of a configuration; only trials of one group are compared at the rungs
        prepare: whether the module has ``prepare(configs, task, *, progress)``, which computes on a node, before the
            trials, what they share, and gives the family's baselines as `ser_models.trial.Baseline`; then also
            ``cached_bytes(configs, task)``, what that takes in the cache
        classical: whether the classical baseline (statistics + SVM) is computed beside the trials
    """

    name: str
    module: str
    cpus_per_trial: int
    gpus_per_trial: float
    rung_group: Callable[[Mapping[str, Any]], str] = _one_group
    prepare: bool = False
    classical: bool = True


def _mfcc_rung_group(config: Mapping[str, Any]) -> str:
    return "statistics" if config["network"] == "statistics_mlp" else "frames"


def _mel_rung_group(config: Mapping[str, Any]) -> str:
    return "autoencoder" if config["network"] == "autoencoder" else "convolutions"


def _pretrained_rung_group(config: Mapping[str, Any]) -> str:
    return "frozen" if config["unfreeze_depth"] == 0 else "fine-tuned"


FAMILIES = {
    family.name: family
    for family in (
        # one core: two such trials side by side finish more epochs than one with two threads (docs/experiments.md)
        Family("mfcc", "ser_models.mfcc.family", 1, 0.25, _mfcc_rung_group),
        Family("mel", "ser_models.mel.family", 1, 0.25, _mel_rung_group),
        Family("encoders", "ser_models.encoders.family", 1, 1.0, _pretrained_rung_group, prepare=True),
        Family("mel_backbones", "ser_models.backbones.family", 1, 1.0, _pretrained_rung_group, prepare=True),
    )
}


def get_family(name: str) -> Family:
    """The family called *name*.

    Raises:
        UserError: it is not known
    """
    if name not in FAMILIES:
        raise UserError(
            f"family '{name}' is not known. Known families: {', '.join(sorted(FAMILIES))}. Set FAMILY in the space's "
            "file to one of them."
        )
    return FAMILIES[name]
