"""The clips of a task as one trial of an encoder reads them, and what the head's norm takes from the training clips."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.waveforms import SAMPLE_RATE
from ser_models.encoders.architectures import SplitEncoder
from ser_models.encoders.batches import EncoderBatches, EncoderInputs
from ser_models.encoders.loading import load_encoder, weights_hash
from ser_models.encoders.plan import EncoderPlan
from ser_models.encoders.prefix import (
    POOLED,
    PrefixPass,
    PrefixSource,
    Progress,
    Rows,
    boundaries,
    boundary_name,
    computed_rows,
)
from ser_models.inference_cost import CLIP_SECONDS, gmacs_per_second
from ser_models.precision import resolve_precision
from ser_models.prefix_cache import PrefixCache
from ser_models.task import Task
from ser_models.task_clips import TaskClips, open_task
from ser_models.training import TrainingData


@dataclass(frozen=True, eq=False)
class PooledNorm:
    """Mean and inverse deviation of the pooled layers over the training clips.

    Attributes:
        shift: float32 (states, columns)
        scale: likewise
    """

    shift: torch.Tensor
    scale: torch.Tensor


@dataclass(frozen=True, eq=False)
class EncoderData:
    """What a trial trains on.

    Attributes:
        training: batches of the clips
        before_thaw: likewise, for the epochs before the layers thaw: pooled layers alone; None where it is the same
        norm: of the states that the head mixes; None where it pools with attention
    """

    training: TrainingData
    before_thaw: TrainingData | None
    norm: PooledNorm | None


def encoder_on_device(task: Task) -> SplitEncoder:
    """The task's encoder, on the task's device."""
    return load_encoder(task.encoder).to(task.device)


def encoder_cost(task: Task, max_clip_seconds: float) -> float:
    """Multiply-adds of the whole encoder per second of audio, in 10^9; a head adds less than a hundredth to it."""
    return _cost(task.encoder, task.device, min(max_clip_seconds, CLIP_SECONDS))


@lru_cache(maxsize=16)
def _cost(spec: str, device: str, seconds: float) -> float:
    encoder = load_encoder(spec).to(device)
    silence = np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)
    features = encoder.features(silence)[None].to(device)
    return gmacs_per_second(lambda: boundaries(encoder, features, [POOLED]))


def stream_names(plan: EncoderPlan) -> list[str]:
    """The prefixes that a trial reads: pooled layers always, for the head's norm and the linear probe."""
    frames = [] if plan.start is None else [boundary_name(plan.start)]
    return [POOLED, *frames]


def cached_data(task: Task, plan: EncoderPlan) -> EncoderData:
    """Data out of the node's cache; what is missing there is computed.

    Raises:
        UserError: if the corpus, the split, the encoder or the cache cannot be used
    """
    rows = cached_rows(task, tuple(stream_names(plan)), plan.max_clip_seconds)
    return _data(task, open_task(task), encoder_on_device(task), plan, rows)


def probe_data(task: Task, plan: EncoderPlan, *, num_clips: int) -> EncoderData:
    """Data of *num_clips* training and validation clips each, past the cache."""
    clips = open_task(task).few(num_clips)
    encoder = encoder_on_device(task)
    work = PrefixPass(
        encoder,
        clips.corpus,
        resolve_precision(task.precision, task.device),
        round(plan.max_clip_seconds * SAMPLE_RATE),
    )
    rows = computed_rows(work, stream_names(plan), np.concatenate([clips.train, clips.validation]))
    return _data(task, clips, encoder, plan, rows)


def prefix_source(task: Task) -> PrefixSource:
    """The prefixes of the task's corpus under its encoder."""
    weights = _weights_hash(task.encoder)  # first: it takes the encoder to the CPU
    return PrefixSource(
        encoder=encoder_on_device(task),
        weights=weights,
        corpus=open_task(task).corpus,
        cache=PrefixCache.of_node(task.cache_dir, task.cache_gb),
        frame_dtype=task.cache_precision,
        precision=resolve_precision(task.precision, task.device),
    )


@lru_cache(maxsize=8)  # mapped files: the cache cannot remove what is open
def cached_rows(task: Task, names: tuple[str, ...], max_clip_seconds: float) -> Mapping[str, Rows]:
    """The named prefixes of the task's clips; kept open for the next trial of this process."""
    return prefix_source(task).get(names, max_clip_seconds=max_clip_seconds)


def fill_cache(task: Task, names: Sequence[str], max_clip_seconds: float, progress: Progress | None) -> None:
    """Compute the named prefixes into the cache, together, as far as they are missing there."""
    prefix_source(task).get(names, max_clip_seconds=max_clip_seconds, progress=progress)


@lru_cache(maxsize=32)
def _weights_hash(spec: str) -> str:
    return weights_hash(load_encoder(spec).to("cpu"))


def _data(
    task: Task, clips: TaskClips, encoder: SplitEncoder, plan: EncoderPlan, rows: Mapping[str, Rows]
) -> EncoderData:
    inputs = EncoderInputs(
        frames=None if plan.start is None else rows[boundary_name(plan.start)],
        pooled=rows[POOLED] if plan.reads_pooled else None,
        pooled_ranges=pooled_ranges(plan, encoder.hidden_size, plan.frozen_states),
    )
    before_thaw = None
    if plan.thaws_from_pooled:
        every_state = EncoderInputs(
            frames=None,
            pooled=rows[POOLED],
            pooled_ranges=pooled_ranges(plan, encoder.hidden_size, plan.mixed_states),
        )
        before_thaw = _training_data(task, clips, plan, every_state)
    training = _training_data(task, clips, plan, inputs)
    return EncoderData(training, before_thaw, _norm(rows[POOLED], plan, encoder, clips.train))


def _training_data(task: Task, clips: TaskClips, plan: EncoderPlan, inputs: EncoderInputs) -> TrainingData:
    train, validation = (
        EncoderBatches(inputs, clips.labels, indices, batch_size=plan.settings.batch_size, shuffle=is_train)
        for indices, is_train in ((clips.train, True), (clips.validation, False))
    )
    return clips.training_data(train, validation, num_classes=len(task.emotions))


def pooled_ranges(plan: EncoderPlan, hidden_size: int, states: range) -> tuple[tuple[int, int], ...]:
    """Columns of the pooled stream that hold *states*: their means, and their deviations if the pooling reads them."""
    half = (plan.num_layers + 1) * hidden_size
    means = (states.start * hidden_size, states.stop * hidden_size)
    if plan.head.pooling != "statistics":
        return (means,)
    return means, (half + means[0], half + means[1])


def _norm(pooled: Rows, plan: EncoderPlan, encoder: SplitEncoder, train: NDArray[np.int64]) -> PooledNorm | None:
    if plan.head.pooling == "attention":
        return None
    states = plan.mixed_states
    shifts, scales = [], []
    for first, stop in pooled_ranges(plan, encoder.hidden_size, states):
        vectors = pooled.vectors(train, first, stop).double()
        shifts.append(vectors.mean(dim=0).view(len(states), -1))
        scales.append(1 / vectors.std(dim=0, correction=0).clamp(min=1e-5).view(len(states), -1))
    return PooledNorm(torch.cat(shifts, dim=1).float(), torch.cat(scales, dim=1).float())
