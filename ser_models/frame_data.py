"""Features of a task's clips for one trial: out of the node's cache, or of a few clips computed on the spot."""

from functools import lru_cache
from pathlib import Path

import torch

from ser_data.augment import Views, ViewSettings
from ser_data.batches import Batches
from ser_data.features.cache import FeatureCache
from ser_data.features.clip_frames import ClipFrames
from ser_data.features.extraction import compute_clips
from ser_data.features.resident_frames import ResidentFrames
from ser_data.features.settings import FeatureSettings
from ser_data.scaler import Scaler, Scaling
from ser_models.frame_inputs import FrameInputs
from ser_models.task import Task
from ser_models.task_clips import TaskClips, open_task
from ser_models.training import TrainingData

_KEPT_FEATURES = 4  # mapped files that a process keeps open; the cache cannot remove what is open
_RESIDENT_SHARE = 0.5  # of a GPU's free memory, that all of a corpus's frames may take there


def cached_data(task: Task, inputs: FrameInputs, *, batch_size: int, jobs: int = 1) -> tuple[TrainingData, Scaling]:
    """Batches of the clips of *task*, features from the node's cache or computed into it.

    Args:
        task: which clips, and where the cache is
        inputs: which features
        batch_size: of the training batches
        jobs: threads that compute features which are not cached yet

    Returns:
        the data, and how its columns are scaled

    Raises:
        UserError: if the corpus, the split or the cache cannot be used
    """
    clips = open_task(task)
    features: ClipFrames | ResidentFrames
    views: tuple[ClipFrames, ...] = ()
    if inputs.waveform_views:  # several times the corpus: all of it stays mapped, for a batch has clips of both
        features = cached_features(task, inputs.settings, jobs)
        views = _views(task, inputs.settings, inputs.waveform_views, jobs)
    else:
        features = _resident_or_mapped(task, inputs.settings, jobs)
    return _data(clips, inputs, features, views, _scaler(task, inputs.settings, jobs), batch_size, len(task.emotions))


def probe_data(task: Task, inputs: FrameInputs, *, batch_size: int, num_clips: int) -> tuple[TrainingData, Scaling]:
    """As :func:`cached_data`, of *num_clips* training and validation clips each, past the cache.

    Augmented views are left out: they are as large as the clips themselves.
    """
    clips = open_task(task).few(num_clips)
    features = compute_clips(clips.corpus, inputs.settings, [*clips.train, *clips.validation])
    scaler = Scaler.fit(features, clips.train)
    return _data(clips, inputs, features, (), scaler, batch_size, len(task.emotions))


def _data(
    clips: TaskClips,
    inputs: FrameInputs,
    features: ClipFrames | ResidentFrames,
    views: tuple[ClipFrames, ...],
    scaler: Scaler,
    batch_size: int,
    num_classes: int,
) -> tuple[TrainingData, Scaling]:
    columns = inputs.columns
    scaling = inputs.scaling(scaler)
    all_columns = len(columns) == features.dim
    train, validation = (
        Batches(
            features,
            clips.labels,
            indices,
            batch_size=batch_size,
            scaler=scaling,
            columns=None if all_columns else columns,
            max_frames=inputs.max_frames,
            views=views if is_train else (),
            spec_augment=inputs.spec_augment if is_train else None,
            shuffle=is_train,
        )
        for indices, is_train in ((clips.train, True), (clips.validation, False))
    )
    return clips.training_data(train, validation, num_classes=num_classes), scaling


def _cache(task: Task) -> FeatureCache:
    return FeatureCache(Path(task.cache_dir) / "features", int(task.cache_gb * 1e9))


def _resident_or_mapped(task: Task, settings: FeatureSettings, jobs: int) -> ClipFrames | ResidentFrames:
    """On a GPU where all frames fit, so that no batch is sent there; else mapped."""
    features = cached_features(task, settings, jobs)
    if not task.device.startswith("cuda"):
        return features
    return _resident(task, settings, jobs) or features


@lru_cache(maxsize=1)
def _resident(task: Task, settings: FeatureSettings, jobs: int) -> ResidentFrames | None:
    features = cached_features(task, settings, jobs)
    free, total = torch.cuda.mem_get_info(task.device)
    free = min(free, int(torch.cuda.get_per_process_memory_fraction() * total))  # of a GPU that several trials share
    return ResidentFrames.of(features, task.device) if features.frames.nbytes <= _RESIDENT_SHARE * free else None


@lru_cache(maxsize=_KEPT_FEATURES)
def cached_features(task: Task, settings: FeatureSettings, jobs: int) -> ClipFrames:
    """Features of all of the corpus's clips, mapped from the node's cache; kept open for the next trial of a process.

    Raises:
        UserError: if the corpus or the cache cannot be used
    """
    return _cache(task).get(open_task(task).corpus, settings, jobs=jobs)


@lru_cache(maxsize=_KEPT_FEATURES)
def _views(task: Task, settings: FeatureSettings, count: int, jobs: int) -> tuple[ClipFrames, ...]:
    # Seeded by the task: all trials share the views, and one with fewer of them reads the first ones' files.
    clips = open_task(task)
    views = Views(ViewSettings(count=count), indices=clips.train, seed=task.seed)
    return _cache(task).get_views(clips.corpus, settings, views, jobs=jobs)


@lru_cache(maxsize=_KEPT_FEATURES)
def _scaler(task: Task, settings: FeatureSettings, jobs: int) -> Scaler:
    """Of all columns; a trial takes its own of them."""
    return Scaler.fit(cached_features(task, settings, jobs), open_task(task).train)
