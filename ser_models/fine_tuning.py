"""What the families over pretrained networks have in common: the words of a configuration, and whose rate is whose."""

from collections.abc import Sequence

from torch import nn

from ser_models.config import ReadConfig
from ser_models.optimisers import SCHEDULES, ParameterGroup, layerwise_groups
from ser_models.training import Trainer, TrainingSettings
from ser_models.trial import COST


def read_settings(reader: ReadConfig, *, epochs: int) -> TrainingSettings:
    """How the network is trained; the settings' learning rate is the head's.

    Args:
        reader: of the configuration
        epochs: length of the whole training

    Raises:
        ConfigError: if a parameter is missing or out of range
    """
    reader.integer("epochs", low=1, high=1000)  # the search cuts the trial's length by it
    return TrainingSettings(
        epochs=epochs,
        batch_size=reader.integer("batch_size", low=1, high=4096),
        accumulation=reader.integer("accumulation", low=1, high=256),
        optimiser="adamw",
        learning_rate=read_rate(reader, "head_lr"),
        weight_decay=reader.number("weight_decay", low=0.0, high=1.0),
        schedule=reader.choice("schedule", SCHEDULES),
        warmup_share=reader.number("warmup_share", low=0.0, high=0.9),
        label_smoothing=reader.number("label_smoothing", low=0.0, high=0.5),
        class_weights=reader.flag("class_weights"),
        clip_norm=reader.number("clip_norm", low=0.01, high=1e6),
    )


def read_rate(reader: ReadConfig, name: str) -> float:
    """A peak learning rate, per step."""
    return reader.number(name, low=1e-7, high=1.0)


def head_and_layers(
    head: nn.Module,
    layers: Sequence[Sequence[nn.Parameter]],
    settings: TrainingSettings,
    *,
    backbone_lr: float,
    layer_decay: float,
    first_epoch: int = 1,
) -> list[ParameterGroup]:
    """The head at its rate, and each trained layer at its own.

    Args:
        head: trained at the settings' rate
        layers: trained parameters of each layer below it, from bottom to top
        settings: of the training
        backbone_lr: peak rate of the top layer
        layer_decay: rate of a layer by that of the one above
        first_epoch: from which the layers train
    """
    of_head = ParameterGroup("head", list(head.parameters()), settings.learning_rate, settings.weight_decay)
    of_layers = layerwise_groups(
        layers,
        learning_rate=backbone_lr,
        decay=layer_decay,
        weight_decay=settings.weight_decay,
        first_epoch=first_epoch,
    )
    return [of_head, *of_layers]


def facts_of(trainer: Trainer, boundary: str, *, cost: float | None) -> dict[str, str | int | float]:
    """What a reader of a trial's scores should know, see `ser_models.trial.Trial`.

    Args:
        trainer: of the trial
        boundary: where its frozen part ends
        cost: of the whole network, from `ser_models.inference_cost`; None where nobody will ask
    """
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    known = {} if cost is None else {COST: cost}
    return {"precision": trainer.precision, "trained_parameters": trained, "boundary": boundary, **known}


def num_numbers(network: nn.Module) -> int:
    """Numbers in all parameters of *network*."""
    return sum(parameter.numel() for parameter in network.parameters())
