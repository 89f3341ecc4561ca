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
        gpus_per_trial: default of ``--gpus-per-trial`` on a machine with a GPU, where nothing else is measured
        rung_group: of a configuration; only trials of one group are compared at the rungs
        prepare: whether the module has ``prepare(configs, task, *, progress)``, which computes on a node, before the
            trials, what they share, and gives the family's baselines as `ser_models.trial.Baseline`; then also
            ``cached_bytes(configs, task)``, what that takes in the cache
        classical: whether the classical baseline (statistics + SVM) is computed beside the trials
        shares_gpu: whether trials of a configuration share a GPU, as many as its memory is measured to hold; None where
            nothing is measured. Where layers are fine-tuned the GPU is what they wait for, and sharing it gains nothing
        data_parallel: whether several GPUs can train one trial (``ser_models.ranks``)
    """

    name: str
    module: str
    cpus_per_trial: int
    gpus_per_trial: float
    rung_group: Callable[[Mapping[str, Any]], str] = _one_group
    prepare: bool = False
    classical: bool = True
    shares_gpu: Callable[[Mapping[str, Any]], bool] | None = None
    data_parallel: bool = False


def _mfcc_rung_group(config: Mapping[str, Any]) -> str:
    return "statistics" if config["network"] == "statistics_mlp" else "frames"


def _mel_rung_group(config: Mapping[str, Any]) -> str:
    return "autoencoder" if config["network"] == "autoencoder" else "convolutions"


def _pretrained_rung_group(config: Mapping[str, Any]) -> str:
    return "frozen" if config["unfreeze_depth"] == 0 else "fine-tuned"


def _always(config: Mapping[str, Any]) -> bool:
    return True


def _is_frozen(config: Mapping[str, Any]) -> bool:
    return bool(config["unfreeze_depth"] == 0)


FAMILIES = {
    family.name: family
    for family in (
        # one core: two such trials side by side finish more epochs than one with two threads (docs/experiments.md)
        Family("mfcc", "ser_models.mfcc.family", 1, 0.25, _mfcc_rung_group, shares_gpu=_always),
        Family("mel", "ser_models.mel.family", 1, 0.25, _mel_rung_group, shares_gpu=_always),
        Family(
            "encoders",
            "ser_models.encoders.family",
            1,
            1.0,
            _pretrained_rung_group,
            prepare=True,
            shares_gpu=_is_frozen,
            data_parallel=True,
        ),
        # one GPU a trial: batch norms and mixup look across all clips of a batch
        Family(
            "mel_backbones",
            "ser_models.backbones.family",
            1,
            1.0,
            _pretrained_rung_group,
            prepare=True,
            shares_gpu=_is_frozen,
        ),
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


def check_gpus_per_trial(family: Family, asked: float | None) -> None:
    """Refuse several GPUs for a trial of a family that trains on one.

    Args:
        family: of the space
        asked: ``--gpus-per-trial``, None for ``auto``

    Raises:
        UserError: naming the families whose trials take several
    """
    if asked is not None and asked > 1 and not family.data_parallel:
        able = ", ".join(name for name, one in FAMILIES.items() if one.data_parallel)
        raise UserError(
            f"--gpus-per-trial {asked:g}: a trial of the family {family.name} trains on one GPU; several can train one "
            f"of {able}. Leave it out, and more GPUs train more trials at a time."
        )
