"""What of an encoder is a fixed function of the clip: computed once a node, exactly, and read by every trial.

Clips run through the frozen layers in batches of one length, without padding, so that what comes out is what each clip
alone would give. A clip that is longer than ``max_clip_seconds`` is cut to its start. Clips that no cut touches are the
same under every duration: they are computed once, and each duration adds only the clips that it cuts.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ser_data.corpus import Corpus
from ser_data.waveforms import SAMPLE_RATE
from ser_models.encoders.architectures import SplitEncoder, run_layers
from ser_models.encoders.plan import INPUT, Boundary
from ser_models.memory import giving_back
from ser_models.precision import autocast
from ser_models.prefix_cache import PrefixCache, Ragged, Stream

PREFIX_VERSION = 1  # raised when what is computed changes
WHOLE_SECONDS = 5.0  # clips up to here are computed whole, for all durations up to here; CREMA-D's longest has 5.005 s
POOLED = "pooled"
_LAYER = "layer-"
_BATCH_SECONDS = {"cpu": 20.0, "cuda": 160.0}  # audio a batch; on a CPU 10 to 40 s take the same time
# Each length has buffers of its own, and what is freed of them would add up to 1 GB. Giving it back after every batch
# costs a fifth of the time.
_TRIM_BATCHES = 64

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of the clips under one duration: of whole clips, and of those that the duration cuts.

    Attributes:
        whole: of all clips
        cut: of the clips that are cut; None if none is
        is_cut: bool (num_clips,)
    """

    whole: Ragged
    cut: Ragged | None
    is_cut: NDArray[np.bool_]

    def item(self, index: int) -> torch.Tensor:
        """(rows, dim) of one clip, a view."""
        source = self.cut if self.cut is not None and self.is_cut[index] else self.whole
        return source.item(index)

    def lengths(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of each of the clips *indices*, int64."""
        lengths: NDArray[np.int64] = np.diff(self.whole.offsets)[indices]
        if self.cut is not None:
            lengths = np.where(self.is_cut[indices], np.diff(self.cut.offsets)[indices], lengths)
        return lengths

    def vectors(self, indices: NDArray[np.int64], first: int = 0, stop: int | None = None) -> torch.Tensor:
        """Columns *first* to *stop* of clips of one row each, (len(indices), columns), a copy."""
        columns = self.whole.values[:, first:stop]
        vectors = columns[torch.from_numpy(self.whole.offsets[indices])]
        if self.cut is not None and self.is_cut[indices].any():
            places = torch.from_numpy(np.flatnonzero(self.is_cut[indices]))
            cut_at = torch.from_numpy(self.cut.offsets[indices[self.is_cut[indices]]])
            vectors[places] = self.cut.values[:, first:stop][cut_at]
        return vectors


@dataclass(frozen=True, eq=False)
class PrefixPass:
    """Runs clips through the frozen layers of an encoder.

    Attributes:
        encoder: on the device where it is to run
        corpus: whose clips
        precision: ``"fp32"`` or ``"bf16"``
        max_samples: of a clip, from its start
    """

    encoder: SplitEncoder
    corpus: Corpus
    precision: str
    max_samples: int

    def batches(self, clips: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """The clips, those of one length together."""
        lengths = np.minimum(self.corpus.waveforms.num_samples[clips], self.max_samples)
        seconds = _BATCH_SECONDS.get(next(self.encoder.parameters()).device.type, 40.0)
        batches: list[NDArray[np.int64]] = []
        for length in np.unique(lengths):
            alike = clips[lengths == length]
            size = max(1, int(seconds * SAMPLE_RATE / length))
            batches += np.array_split(alike, -(-len(alike) // size))
        return batches

    @torch.no_grad()
    def compute(self, clips: NDArray[np.int64], names: Sequence[str]) -> dict[str, list[torch.Tensor]]:
        """What each of *names* is of clips of one length.

        Args:
            clips: indices of clips
            names: of boundaries, from :func:`boundary_name`

        Returns:
            by name, one (rows, dim) tensor a clip, on the CPU
        """
        encoder = self.encoder
        device = next(encoder.parameters()).device
        samples = [self.corpus.waveforms.float32(int(clip))[: self.max_samples] for clip in clips]
        self.corpus.waveforms.unmap()  # read pages count as this process's memory: half a gigabyte for CREMA-D
        features = torch.stack([encoder.features(clip) for clip in samples]).to(device)
        with autocast(self.precision, device):
            made = boundaries(encoder, features, names)
        return {name: list(made[name].cpu()) for name in names}


def boundaries(encoder: SplitEncoder, features: torch.Tensor, names: Iterable[str]) -> dict[str, torch.Tensor]:
    """The named boundaries of clips of one length, and perhaps others that cost nothing more.

    Args:
        encoder: frozen
        features: (batch, …), of `SplitEncoder.features`
        names: from :func:`boundary_name`, or :data:`POOLED`

    Returns:
        (batch, rows, dim) each; a pooled vector is one row
    """
    wanted = set(names)
    maskable = encoder.front(features)
    made = {boundary_name(INPUT): maskable}
    if wanted <= set(made):
        return made
    lengths = torch.full((len(maskable),), maskable.shape[1], device=maskable.device)
    hidden = encoder.embed(maskable, lengths)
    lengths = encoder.hidden_frames(lengths)
    top = encoder.num_layers if POOLED in wanted else max(_layer(name) for name in wanted - set(made))
    states = [hidden, *run_layers(encoder, list(encoder.layers)[:top], hidden, lengths)]
    if top == encoder.num_layers and encoder.final_norm is not None:
        states[-1] = encoder.final_norm(states[-1])
    made |= {boundary_name(layer): state for layer, state in enumerate(states)}
    if POOLED in wanted:
        made[POOLED] = pooled_columns(states)[:, None]
    return made


def pooled_columns(states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Mean of each hidden state over its frames, then the standard deviations: (batch, 2 · states · hidden)."""
    wide = [state if state.dtype == torch.float64 else state.float() for state in states]
    deviations = [(state.var(dim=1, correction=0) + 1e-6).sqrt() for state in wide]  # as StatisticsPooling has it
    return torch.cat([*(state.mean(dim=1) for state in wide), *deviations], dim=1)


def boundary_name(boundary: Boundary) -> str:
    """The name of a boundary's stream."""
    return INPUT if boundary == INPUT else f"{_LAYER}{boundary}"


def _layer(name: str) -> int:
    return int(name.removeprefix(_LAYER))


@dataclass(frozen=True, eq=False)
class PrefixSource:
    """Prefixes of one corpus under one encoder, out of a node's cache.

    Attributes:
        encoder: on the device where missing ones are computed
        weights: hash of the encoder
        corpus: whose clips
        cache: of the node
        frame_dtype: ``"bf16"`` or ``"fp32"``, of frames; pooled vectors are always float32
        precision: of what is computed
    """

    encoder: SplitEncoder
    weights: str
    corpus: Corpus
    cache: PrefixCache
    frame_dtype: str
    precision: str

    def get(
        self, names: Iterable[str], *, max_clip_seconds: float, progress: Progress | None = None
    ) -> dict[str, Rows]:
        """The named boundaries of all clips, from the cache or computed into it in one pass.

        Args:
            names: from :func:`boundary_name`, or :data:`POOLED`
            max_clip_seconds: of a clip, from its start
            progress: called with clips done and clips in all

        Raises:
            UserError: if they do not fit the cache or the disk, or something is not finite
        """
        is_cut, whole_samples, max_samples = self._lengths(max_clip_seconds)
        whole = self._stream_rows(names, np.ones_like(is_cut), whole_samples, progress)
        cut = self._stream_rows(names, is_cut, max_samples, progress) if is_cut.any() else None
        return {name: Rows(whole[name], None if cut is None else cut[name], is_cut) for name in whole}

    def streams(self, names: Iterable[str], *, max_clip_seconds: float) -> list[Stream]:
        """What :meth:`get` takes from the cache."""
        is_cut, whole_samples, max_samples = self._lengths(max_clip_seconds)
        parts = [(np.ones_like(is_cut), whole_samples), *([(is_cut, max_samples)] if is_cut.any() else [])]
        return [self._stream(name, used, samples) for name in names for used, samples in parts]

    def _lengths(self, max_clip_seconds: float) -> tuple[NDArray[np.bool_], int, int]:
        """Which clips are cut, and how many samples a whole one and a cut one may have."""
        whole_samples = round(max(WHOLE_SECONDS, max_clip_seconds) * SAMPLE_RATE)
        max_samples = round(max_clip_seconds * SAMPLE_RATE)
        return np.minimum(self.corpus.waveforms.num_samples, whole_samples) > max_samples, whole_samples, max_samples

    def _stream_rows(
        self, names: Iterable[str], used: NDArray[np.bool_], max_samples: int, progress: Progress | None
    ) -> Mapping[str, Ragged]:
        work = PrefixPass(self.encoder, self.corpus, self.precision, max_samples)
        batches = work.batches(np.flatnonzero(used).astype(np.int64))
        streams = {name: self._stream(name, used, max_samples) for name in names}
        return self.cache.get(streams, batches, giving_back(work.compute, every=_TRIM_BATCHES), progress=progress)

    def _stream(self, name: str, used: NDArray[np.bool_], max_samples: int) -> Stream:
        import transformers

        lengths = np.minimum(self.corpus.waveforms.num_samples, max_samples)
        rows = stream_rows(self.encoder, name, lengths)
        key: dict[str, Any] = {
            "prefix_version": PREFIX_VERSION,
            "transformers": transformers.__version__,
            "weights": self.weights,
            "manifest": self.corpus.manifest_hash,
            "boundary": name,
            "max_samples": max_samples,
            "precision": self.precision,
        }
        return Stream(
            key=key,
            label=f"{self.encoder.model_type}-{self.weights[:8]}-{name}",
            rows=np.where(used, rows, 0).astype(np.int64),
            dim=stream_dim(self.encoder, name),
            dtype="fp32" if name == POOLED else self.frame_dtype,
        )


def stream_rows(encoder: SplitEncoder, name: str, num_samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of the named stream for clips of that many samples."""
    if name == POOLED:
        return np.ones(len(num_samples), dtype=np.int64)
    frames = encoder.maskable_frames(num_samples)
    return frames if name == INPUT else np.asarray(encoder.hidden_frames(frames), dtype=np.int64)


def stream_dim(encoder: SplitEncoder, name: str) -> int:
    """Columns of the named stream."""
    if name == POOLED:
        return 2 * (encoder.num_layers + 1) * encoder.hidden_size
    return encoder.maskable_dim if name == INPUT else encoder.hidden_size


def computed_rows(work: PrefixPass, names: Sequence[str], clips: NDArray[np.int64]) -> dict[str, Rows]:
    """The named boundaries of a few clips, past any cache; other clips have no rows."""
    found: dict[str, dict[int, torch.Tensor]] = {name: {} for name in names}
    for batch in work.batches(np.unique(clips)):
        for name, items in work.compute(batch, names).items():
            found[name] |= dict(zip(batch.tolist(), items, strict=True))
    num_clips = len(work.corpus.waveforms)
    is_cut = np.zeros(num_clips, dtype=bool)
    return {name: Rows(Ragged.of(items, num_clips), None, is_cut) for name, items in found.items()}
