"""The clips of a task as one trial of a backbone reads them, and what the head's norm takes from the training clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.features.clip_frames import ClipFrames
from ser_data.features.extraction import compute_clips
from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.batches import BackboneBatches, BackboneInputs, Images, Maps, PooledVectors
from ser_models.backbones.images import ImageRecipe
from ser_models.backbones.loading import load_backbone, weights_hash
from ser_models.backbones.plan import IMAGE, BackbonePlan
from ser_models.backbones.prefix import POOLED, PrefixPass, PrefixSource, Progress, boundaries, map_name
from ser_models.backbones.source import IMAGE_CHANNELS
from ser_models.frame_data import cached_features
from ser_models.inference_cost import gmacs_per_second
from ser_models.precision import resolve_precision
from ser_models.prefix_cache import PrefixCache, Ragged
from ser_models.task import Task
from ser_models.task_clips import TaskClips, open_task
from ser_models.training import TrainingData

# Of the mean deviation of all columns. Under trained stages a column that stood still may wake, at any size.
_LEAST_SHARE_TRAINED = 0.1
_LEAST_DEVIATION = 1e-5


@dataclass(frozen=True, eq=False)
class VectorNorm:
    """Mean and inverse deviation of the frozen network's pooled vectors over the training clips.

    Attributes:
        shift: float32 (dim,)
        scale: likewise
    """

    shift: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True, eq=False)
class BackboneData:
    """What a trial trains on.

    Attributes:
        training: batches of the clips
        norm: for the head
    """

    training: TrainingData
    norm: VectorNorm


def backbone_on_device(task: Task) -> SplitBackbone:
    """The task's backbone, on the task's device."""
    return load_backbone(task.encoder).to(task.device)


def backbone_cost(task: Task, recipe: ImageRecipe) -> float:
    """Multiply-adds of the whole backbone per second of audio, in 10^9; a head adds less than a hundredth to it."""
    return _cost(task.encoder, task.device, recipe.size)


@lru_cache(maxsize=16)
def _cost(spec: str, device: str, size: tuple[int, int]) -> float:
    backbone = load_backbone(spec).to(device)
    image = torch.zeros(1, IMAGE_CHANNELS, *size, device=device)
    return gmacs_per_second(lambda: boundaries(backbone, image, [POOLED]))


def stream_names(plan: BackbonePlan) -> list[str]:
    """The prefixes that a trial reads: pooled vectors always, for the head's norm and the linear probe."""
    return [POOLED, *([map_name(plan.start)] if isinstance(plan.start, int) else [])]


def cached_data(task: Task, plan: BackbonePlan) -> BackboneData:
    """Data out of the node's caches; what is missing there is computed.

    Raises:
        UserError: if the corpus, the split, the backbone or a cache cannot be used
    """
    prefixes = cached_prefixes(task, plan.recipe, tuple(stream_names(plan)))
    frames = cached_features(task.without_network(), plan.recipe.settings, 1) if plan.start == IMAGE else None
    return _data(task, open_task(task), plan, prefixes, frames)


def probe_data(task: Task, plan: BackbonePlan, *, num_clips: int) -> BackboneData:
    """Data of *num_clips* training and validation clips each, past the caches."""
    clips = open_task(task).few(num_clips)
    chosen = np.concatenate([clips.train, clips.validation])
    frames = compute_clips(clips.corpus, plan.recipe.settings, chosen.tolist())
    precision = resolve_precision(task.precision, task.device)
    work = PrefixPass(backbone_on_device(task), frames, plan.recipe, precision)
    return _data(task, clips, plan, work.few(chosen, stream_names(plan)), frames)


def prefix_source(task: Task, recipe: ImageRecipe, *, jobs: int = 1) -> PrefixSource:
    """Where prefixes of the task's corpus come from.

    Args:
        task: whose clips, backbone and cache
        recipe: of the images
        jobs: threads that compute frames which are not cached yet
    """
    weights = _weights_hash(task.encoder)  # first: it takes the backbone to the CPU
    work = PrefixPass(
        backbone=backbone_on_device(task),
        frames=cached_features(task.without_network(), recipe.settings, jobs),
        recipe=recipe,
        precision=resolve_precision(task.precision, task.device),
    )
    return PrefixSource(
        work=work,
        weights=weights,
        manifest_hash=open_task(task).corpus.manifest_hash,
        cache=PrefixCache.of_node(task.cache_dir, task.cache_gb),
        map_dtype=task.cache_precision,
    )


@lru_cache(maxsize=8)  # mapped files: the cache cannot remove what is open
def cached_prefixes(task: Task, recipe: ImageRecipe, names: tuple[str, ...]) -> Mapping[str, Ragged]:
    """The named prefixes of the task's clips; kept open for the next trial of this process."""
    return prefix_source(task, recipe).get(names)


def fill_cache(task: Task, recipe: ImageRecipe, names: Sequence[str], *, jobs: int, progress: Progress | None) -> None:
    """Compute the named prefixes into the cache, together, as far as they are missing there."""
    prefix_source(task, recipe, jobs=jobs).get(names, progress=progress)


@lru_cache(maxsize=32)
def _weights_hash(spec: str) -> str:
    return weights_hash(load_backbone(spec).to("cpu"))


def _data(
    task: Task, clips: TaskClips, plan: BackbonePlan, prefixes: Mapping[str, Ragged], frames: ClipFrames | None
) -> BackboneData:
    inputs = _inputs(plan, backbone_on_device(task), prefixes, frames)
    batches = partial(BackboneBatches, inputs, clips.labels, batch_size=plan.settings.batch_size)
    training = clips.training_data(
        batches(clips.train, shuffle=True),
        batches(clips.validation, shuffle=False),
        num_classes=len(task.emotions),
    )
    least_share = _LEAST_SHARE_TRAINED if plan.depth else 0.0
    return BackboneData(training, vector_norm(prefixes[POOLED], clips.train, least_share=least_share))


def _inputs(
    plan: BackbonePlan, backbone: SplitBackbone, prefixes: Mapping[str, Ragged], frames: ClipFrames | None
) -> BackboneInputs:
    if plan.start is None:
        return PooledVectors(prefixes[POOLED])
    if isinstance(plan.start, int):
        _, height, width = backbone.map_shapes(*plan.recipe.size)[plan.start]
        return Maps(prefixes[map_name(plan.start)], height, width)
    assert frames is not None, "images are made from frames"
    return Images(frames, plan.recipe, plan.masks)


def vector_norm(pooled: Ragged, train: NDArray[np.int64], *, least_share: float) -> VectorNorm:
    """The norm of the pooled vectors of the training clips *train*.

    Args:
        pooled: of all clips
        train: the training clips
        least_share: of the mean deviation of all columns, that a column is taken to have at least
    """
    vectors = PooledVectors(pooled).read(train, None).double()
    deviation = vectors.std(dim=0, correction=0)
    least = max(float(deviation.mean()) * least_share, _LEAST_DEVIATION)
    return VectorNorm(vectors.mean(dim=0).float(), (1 / deviation.clamp(min=least)).float())
