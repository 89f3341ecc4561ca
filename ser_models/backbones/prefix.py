"""What of a backbone is a fixed function of the clip: computed once a node, exactly, and read by every trial.

All images of one recipe are of one size, and every norm below the cut is in eval mode: what comes out for a clip is
what the clip alone would give.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.clip_frames import ClipFrames
from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.images import ImageRecipe
from ser_models.memory import giving_back
from ser_models.precision import autocast
from ser_models.prefix_cache import PrefixCache, Ragged, Stream

PREFIX_VERSION = 1  # raised when what is computed changes
POOLED = "pooled"
_MAP = "map-"
_BATCH_PIXELS = {"cpu": 16 * 128 * 130, "cuda": 256 * 128 * 130}  # of the images of a batch
_TRIM_BATCHES = 64  # between two returns of freed memory

Progress = Callable[[int, int], None]


def map_name(stage: int) -> str:
    """The name of the stream of map *stage*: what stage *stage* gives, and the stem for 0."""
    return f"{_MAP}{stage}"


def _stage(name: str) -> int:
    return int(name.removeprefix(_MAP))


def boundaries(backbone: SplitBackbone, images: torch.Tensor, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The named boundaries of some images.

    Args:
        backbone: frozen
        images: (batch, 3, height, width)
        names: from :func:`map_name`, or :data:`POOLED`

    Returns:
        (batch, rows, columns) each: pixels and channels of a map, row by row; a pooled vector is one row
    """
    wanted = set(names)
    top = backbone.num_stages if POOLED in wanted else max(map(_stage, wanted))
    made: dict[str, torch.Tensor] = {}
    hidden = images.to(backbone.dtype)
    for number, part in enumerate((backbone.stem, *backbone.stages[:top])):
        hidden = part(hidden)
        if map_name(number) in wanted:
            made[map_name(number)] = hidden.flatten(2).transpose(1, 2)
    if POOLED in wanted:
        made[POOLED] = backbone.pool(hidden)[:, None]
    return made


@dataclass(frozen=True, eq=False)
class PrefixPass:
    """Runs clips through the frozen stages.

    Attributes:
        backbone: on the device where it is to run
        frames: log-mel frames of the corpus
        recipe: of the images
        precision: ``"fp32"`` or ``"bf16"``
    """

    backbone: SplitBackbone
    frames: ClipFrames
    recipe: ImageRecipe
    precision: str

    def batches(self, clips: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The clips, as many at a time as the device's memory takes lightly."""
        height, width = self.recipe.size
        pixels = _BATCH_PIXELS.get(next(self.backbone.parameters()).device.type, _BATCH_PIXELS["cpu"])
        size = max(1, pixels // (height * width))
        return np.array_split(clips, -(-len(clips) // size)) if len(clips) else []

    @torch.no_grad()
    def compute(self, clips: NDArray[np.int64], names: Sequence[str]) -> dict[str, list[torch.Tensor]]:
        """What each of *names* is of some clips: by name, one (rows, columns) tensor a clip, on the CPU."""
        device = next(self.backbone.parameters()).device
        images = self.recipe.images([self.frames[int(clip)] for clip in clips]).to(device)
        with autocast(self.precision, device):
            made = boundaries(self.backbone, images, names)
        return {name: list(made[name].cpu()) for name in names}

    def few(self, clips: NDArray[np.int64], names: Sequence[str]) -> dict[str, Ragged]:
        """The named boundaries of a few clips, past any cache; other clips have no rows."""
        found: dict[str, dict[int, torch.Tensor]] = {name: {} for name in names}
        for batch in self.batches(np.unique(clips)):
            for name, items in self.compute(batch, names).items():
                found[name] |= dict(zip(batch.tolist(), items, strict=True))
        return {name: Ragged.of(items, len(self.frames)) for name, items in found.items()}


@dataclass(frozen=True, eq=False)
class PrefixSource:
    """Prefixes of one corpus under one backbone and recipe, out of a node's cache.

    Attributes:
        work: what computes those that are missing
        weights: hash of the backbone
        manifest_hash: of the corpus
        cache: of the node
        map_dtype: ``"bf16"`` or ``"fp32"``, of maps; pooled vectors are always float32
    """

    work: PrefixPass
    weights: str
    manifest_hash: str
    cache: PrefixCache
    map_dtype: str

    def get(self, names: Iterable[str], *, progress: Progress | None = None) -> Mapping[str, Ragged]:
        """The named boundaries of all clips that have frames, from the cache or computed into it in one pass.

        Args:
            names: from :func:`map_name`, or :data:`POOLED`
            progress: called with clips done and clips in all

        Raises:
            UserError: if they do not fit the cache or the disk, or something is not finite
        """
        used = self.work.frames.lengths > 0
        streams = {name: self._stream(name, used) for name in names}
        batches = self.work.batches(np.flatnonzero(used).astype(np.int64))
        compute = giving_back(self.work.compute, every=_TRIM_BATCHES)
        return self.cache.get(streams, batches, compute, progress=progress)

    def _stream(self, name: str, used: NDArray[np.bool_]) -> Stream:
        import transformers

        backbone, recipe = self.work.backbone, self.work.recipe
        rows, columns = stream_shape(backbone, recipe, name)
        key: dict[str, Any] = {
            "prefix_version": PREFIX_VERSION,
            "transformers": transformers.__version__,
            "weights": self.weights,
            "manifest": self.manifest_hash,
            "image": recipe.key(),
            "features": recipe.settings.digest(),
            "boundary": name,
            "precision": self.work.precision,
        }
        return Stream(
            key=key,
            label=f"{backbone.model_type}-{self.weights[:8]}-{name}",
            rows=np.where(used, rows, 0).astype(np.int64),
            dim=columns,
            dtype="fp32" if name == POOLED else self.map_dtype,
        )


def stream_shape(backbone: SplitBackbone, recipe: ImageRecipe, name: str) -> tuple[int, int]:
    """Rows of one clip and columns of the named stream."""
    if name == POOLED:
        return 1, backbone.dim
    columns, height, width = backbone.map_shapes(*recipe.size)[_stage(name)]
    return height * width, columns
