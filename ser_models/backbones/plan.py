"""What a configuration asks of an image backbone: its images, where it is cut, what is trained, and the head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ser_data.augment import SpecAugment
from ser_data.features.settings import LogMelSettings
from ser_models.backbones.images import CHANNELS, NATIVE, ImageRecipe
from ser_models.backbones.source import IMAGE_CHANNELS
from ser_models.config import ConfigError, ReadConfig, Value
from ser_models.fine_tuning import read_rate, read_settings
from ser_models.frame_inputs import read_masks
from ser_models.training import TrainingSettings

IMAGE = "image"  # the boundary before the stem
MASK_PLACES = ("none", "input")
BATCH_NORMS = ("frozen", "trained")

Boundary = int | Literal["image"]


@dataclass(frozen=True)
class HeadPlan:
    """From pooled vectors to logits.

    Attributes:
        hidden_layers: of the classifier; 0 for a linear one
        hidden_units: each
        dropout: before each linear map
    """

    hidden_layers: int
    hidden_units: int
    dropout: float


@dataclass(frozen=True)
class BackbonePlan:
    """A configuration that was read to its end.

    Attributes:
        num_stages: L of the backbone
        depth: 0: the head alone is trained; 1…L: that many stages from the top too; L + 1: the stem as well
        recipe: how clips become images
        masks: of SpecAugment on the image; None for none. They make everything behind the image random, so that the
            frozen stages are run again each time
        batch_norm: of trained stages; ``"frozen"`` keeps their statistics, scales and shifts as they were pretrained,
            ``"trained"`` takes the statistics of the batch and trains the rest
        head: the head
        backbone_lr: peak rate of the top stage; 0 where nothing of the backbone is trained
        layer_decay: rate of a stage by that of the one above; the stem counts as the lowest
        settings: the rest of the training; its learning rate is the head's. Mixup averages what a trial reads: images,
            maps or pooled vectors
        read: the parameters, by name
    """

    num_stages: int
    depth: int
    recipe: ImageRecipe
    masks: SpecAugment | None
    batch_norm: str
    head: HeadPlan
    backbone_lr: float
    layer_decay: float
    settings: TrainingSettings
    read: Mapping[str, Value]

    @property
    def trains_stem(self) -> bool:
        """Whether the stem is trained, and with it everything."""
        return self.depth > self.num_stages

    @property
    def first_trained(self) -> int:
        """Index of the first trained stage, which is the number of the map that enters it; L for none."""
        return max(0, self.num_stages - self.depth)

    @property
    def start(self) -> Boundary | None:
        """The boundary that a trial reads: the deepest whose numbers no epoch changes. None: pooled vectors."""
        if self.depth == 0:
            return None
        if self.trains_stem or self.masks is not None:
            return IMAGE
        return self.first_trained

    @property
    def boundary(self) -> str:
        """The boundary, for the board."""
        if self.start is None:
            return "pooled maps"
        return IMAGE if self.start == IMAGE else f"map {self.start}"


def read_plan(config: Mapping[str, object], *, num_stages: int, max_epochs: int) -> BackbonePlan:
    """What a configuration asks for. Touches no data.

    Raises:
        ConfigError: naming a parameter that is missing, out of range, or not read
    """
    reader = ReadConfig(config, owner="mel_backbones")
    depth = reader.integer("unfreeze_depth", low=0, high=num_stages + 1)
    recipe = _read_recipe(reader)
    plan = BackbonePlan(
        num_stages=num_stages,
        depth=depth,
        recipe=recipe,
        masks=_masks(reader, recipe.settings.num_mels) if depth else None,
        batch_norm=reader.choice("batch_norm", BATCH_NORMS) if depth else BATCH_NORMS[0],
        head=_read_head(reader),
        backbone_lr=read_rate(reader, "backbone_lr") if depth else 0.0,
        layer_decay=reader.number("layer_decay", low=0.1, high=1.0) if depth > 1 else 1.0,
        settings=replace(
            read_settings(reader, epochs=max_epochs), mixup_alpha=reader.number("mixup_alpha", low=0.0, high=2.0)
        ),
        read={},
    )
    return replace(plan, read=dict(reader.finish()))


def check_size(recipe: ImageRecipe, *, total_stride: int, label: str) -> None:
    """Raise a ConfigError where the images are smaller than one pixel of the network's last map.

    Args:
        recipe: of the images
        total_stride: of the network, in pixels
        label: its name
    """
    height, width = recipe.size
    if min(height, width) >= total_stride:
        return
    shown = "num_mels × frames of max_clip_seconds" if recipe.image_size == NATIVE else "image_size"
    raise ConfigError(
        f"Images of {height} × {width} pixels ({shown}) are smaller than the total stride of the {label}, "
        f"{total_stride} pixels: its last map would be padding for the most part. Accepted are at least {total_stride} "
        f"× {total_stride} pixels. Take more num_mels, a longer max_clip_seconds, a larger image_size, or a backbone "
        "with fewer stages."
    )


def _read_recipe(reader: ReadConfig) -> ImageRecipe:
    size = reader.take("image_size")
    if size != NATIVE and (not isinstance(size, int) or isinstance(size, bool) or not 16 <= size <= 1024):
        raise ConfigError(
            f"The mel_backbones configuration has image_size = {size!r}. Accepted is '{NATIVE}' (mel bands × frames) "
            "or a whole number from 16 to 1024, pixels a side. Change the range of 'image_size' in the search space."
        )
    channels = int(reader.take("channels", choices=CHANNELS))  # type: ignore[arg-type]  # the choices are whole
    return ImageRecipe(
        settings=LogMelSettings(num_mels=reader.integer("num_mels", low=16, high=256), deltas=channels - 1),
        max_clip_seconds=reader.number("max_clip_seconds", low=0.3, high=5.0),
        image_size=size,
    )


def _masks(reader: ReadConfig, num_mels: int) -> SpecAugment | None:
    if reader.choice("mask_at", MASK_PLACES) == "none":
        return None
    return read_masks(reader, blocks=IMAGE_CHANNELS, widest_feature_mask=num_mels // 2)


def _read_head(reader: ReadConfig) -> HeadPlan:
    hidden_layers = reader.integer("head_layers", low=0, high=3)
    return HeadPlan(
        hidden_layers=hidden_layers,
        hidden_units=reader.integer("head_units", low=8, high=4096) if hidden_layers else 0,
        dropout=reader.number("dropout", low=0.0, high=0.9),
    )
