"""What a configuration asks of an encoder: where it is cut, what is trained, and the head on top."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ser_models.config import ReadConfig, Value
from ser_models.encoders.masks import SpanMasks
from ser_models.fine_tuning import read_rate, read_settings
from ser_models.training import TrainingSettings

LAYER_MIXES = ("last", "weighted", "concat")
POOLINGS = ("mean", "statistics", "attention")
INPUT = "input"  # the boundary before the first mask of the input
MASK_PLACES = (INPUT, "boundary")

Boundary = int | Literal["input"]


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685) in the trained layers, in place of training them whole."""

    rank: int
    alpha: float
    dropout: float


@dataclass(frozen=True)
class HeadPlan:
    """From hidden states to logits.

    Attributes:
        layer_mix: one of :data:`LAYER_MIXES`
        pooling: one of :data:`POOLINGS`
        hidden_layers: of the classifier; 0 for a linear one
        hidden_units: each
        dropout: before each linear map
    """

    layer_mix: str
    pooling: str
    hidden_layers: int
    hidden_units: int
    dropout: float


@dataclass(frozen=True)
class EncoderPlan:
    """A configuration that was read to its end.

    Attributes:
        num_layers: L of the encoder
        depth: trained layers from the top, 0…L
        max_clip_seconds: how much of a clip, from its start, is read
        mask_at: where masks lie, one of :data:`MASK_PLACES`
        masks: None for none
        head: the head
        lora: None to train the layers themselves
        backbone_lr: peak rate of the top layer; 0 where nothing of the encoder is trained
        layer_decay: rate of a layer by that of the one above
        first_epoch: from which the encoder's layers train
        gradient_checkpointing: compute activations again instead of keeping them
        settings: the rest of the training; its learning rate is the head's
        read: the parameters, by name
    """

    num_layers: int
    depth: int
    max_clip_seconds: float
    mask_at: str
    masks: SpanMasks | None
    head: HeadPlan
    lora: Lora | None
    backbone_lr: float
    layer_decay: float
    first_epoch: int
    gradient_checkpointing: bool
    settings: TrainingSettings
    read: Mapping[str, Value]

    @property
    def first_trained(self) -> int:
        """Index of the hidden state that enters the first trained layer: a fixed function of the clip, if unmasked."""
        return self.num_layers - self.depth

    @property
    def start(self) -> Boundary | None:
        """The boundary whose frames a trial reads: the deepest whose numbers no epoch changes. None: no frames at all.

        Masks of the input make all behind them random. Attention over a mix of layers needs the frames of them all,
        so that the frozen ones are run again from the lowest.
        """
        if self.masks is not None and self.mask_at == INPUT:
            return INPUT
        if self.head.pooling == "attention" and self.head.layer_mix != "last":
            return 0
        if self.depth == 0 and self.head.pooling != "attention":
            return None
        return self.first_trained

    @property
    def reads_pooled(self) -> bool:
        """Whether the pooled frozen layers come from the cache."""
        return self.start not in (INPUT, 0) and self.head.pooling != "attention" and len(self.frozen_states) > 0

    @property
    def thaws_from_pooled(self) -> bool:
        """Whether epochs before the layers thaw read pooled layers alone: till then all of them are fixed."""
        fixed = self.depth > 0 and self.first_epoch > 1
        return fixed and self.start != INPUT and self.head.pooling != "attention"

    @property
    def frozen_states(self) -> range:
        """Numbers of the frozen hidden states that the mix reads."""
        stop = self.first_trained + 1
        if self.head.layer_mix != "last":
            return range(stop)
        return range(stop - 1, stop) if self.depth == 0 else range(0)

    @property
    def mixed_states(self) -> range:
        """Numbers of all hidden states that the mix reads."""
        last = self.num_layers
        return range(last, last + 1) if self.head.layer_mix == "last" else range(last + 1)

    @property
    def boundary(self) -> str:
        """The boundary, for the board."""
        if self.start is None:
            return "pooled layers"
        return "input" if self.start == INPUT else f"layer {self.start}"


def read_plan(config: Mapping[str, object], *, num_layers: int, max_epochs: int) -> EncoderPlan:
    """What a configuration asks for. Touches no data.

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read
    """
    reader = ReadConfig(config, owner="encoders")
    depth = reader.integer("unfreeze_depth", low=0, high=num_layers)
    mask_at = reader.choice("mask_at", MASK_PLACES)
    plan = EncoderPlan(
        num_layers=num_layers,
        depth=depth,
        max_clip_seconds=reader.number("max_clip_seconds", low=0.1, high=30.0),
        mask_at=mask_at,
        # between the last layer and the pooling there is nothing to mask for
        masks=_read_masks(reader) if depth or mask_at == INPUT else None,
        head=_read_head(reader),
        lora=_read_lora(reader) if depth else None,
        backbone_lr=read_rate(reader, "backbone_lr") if depth else 0.0,
        layer_decay=reader.number("layer_decay", low=0.1, high=1.0) if depth > 1 else 1.0,
        first_epoch=reader.integer("unfreeze_at_epoch", low=1, high=1000) if depth else 1,
        gradient_checkpointing=reader.flag("gradient_checkpointing") if depth else False,
        settings=read_settings(reader, epochs=max_epochs),
        read={},
    )
    if plan.first_epoch > max_epochs:
        # a probe of the space trains one epoch of any configuration
        plan = replace(plan, first_epoch=max_epochs)
    return replace(plan, read=dict(reader.finish()))


def _read_masks(reader: ReadConfig) -> SpanMasks | None:
    if not reader.flag("spec_augment"):
        return None
    return SpanMasks(
        time_prob=reader.number("mask_time_prob", low=0.0, high=0.9),
        time_length=reader.integer("mask_time_length", low=1, high=100),
        feature_prob=reader.number("mask_feature_prob", low=0.0, high=0.9),
        feature_length=reader.integer("mask_feature_length", low=1, high=256),
    )


def _read_head(reader: ReadConfig) -> HeadPlan:
    hidden_layers = reader.integer("head_layers", low=0, high=3)
    return HeadPlan(
        layer_mix=reader.choice("layer_mix", LAYER_MIXES),
        pooling=reader.choice("pooling", POOLINGS),
        hidden_layers=hidden_layers,
        hidden_units=reader.integer("head_units", low=8, high=4096) if hidden_layers else 0,
        dropout=reader.number("dropout", low=0.0, high=0.9),
    )


def _read_lora(reader: ReadConfig) -> Lora | None:
    if reader.choice("adapt", ("unfreeze", "lora")) == "unfreeze":
        return None
    return Lora(
        rank=reader.integer("lora_rank", low=1, high=256),
        alpha=reader.number("lora_alpha", low=0.1, high=512.0),
        dropout=reader.number("lora_dropout", low=0.0, high=0.9),
    )
