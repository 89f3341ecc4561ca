"""What the families over pretrained networks read of a configuration in the same words."""

from ser_models.config import ReadConfig
from ser_models.optimisers import SCHEDULES
from ser_models.training import TrainingSettings


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
