"""A convolutional autoencoder whose bottleneck feeds a classifier, and how the two are trained in one budget.

First the autoencoder learns to reconstruct the training clips' spectrograms. No label reaches it: the classifier learns
beside it, on bottlenecks that its gradient stops at. Then the classifier goes on alone on bottlenecks that no longer
change and are computed once (frozen), or encoder and classifier are trained together (fine-tuned).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from ser_data import batch_order
from ser_models.heads import Head
from ser_models.masked_layers import ACTIVATIONS
from ser_models.optimisers import ParameterGroup
from ser_models.pooling import frame_mask
from ser_models.training import BatchSource, Trainer, TrainingData, TrainingSettings

STAGES = 4  # each halves bands and time
LEAST_SIDE = 2**STAGES
RECONSTRUCT, FROZEN, FINE_TUNE = "reconstruct", "frozen", "fine-tune"
EXTRA_LOSS = "reconstruction"


class MelAutoencoder(nn.Module):
    """Encoder, bottleneck, decoder, and a classifier on the bottleneck.

    A clip is a picture of *num_frames* frames: longer ones are cut, shorter ones continued with 0, which is the lowest
    value of a clip that is scaled to its range.

    Args:
        dim: bands
        num_classes: logits
        num_frames: of a picture
        width: channels of the first stage; each stage doubles it
        bottleneck: columns
        activation: by name
        dropout: of the classifier

    Attributes:
        phase: what :meth:`forward` does, one of ``reconstruct``, ``frozen``, ``fine-tune``
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        *,
        num_frames: int,
        width: int,
        bottleneck: int,
        activation: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.phase = RECONSTRUCT
        self.num_frames = num_frames
        widths = [width * 2**stage for stage in range(STAGES)]
        sides = [(dim, num_frames)]
        for _ in range(STAGES):
            sides.append((math.ceil(sides[-1][0] / 2), math.ceil(sides[-1][1] / 2)))
        self._sides = sides
        down: list[nn.Module] = []
        for before, after in zip([1, *widths], widths, strict=False):
            down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), ACTIVATIONS[activation]()]
        self.down = nn.Sequential(*down)
        flat = widths[-1] * sides[-1][0] * sides[-1][1]
        self.to_bottleneck = nn.Linear(flat, bottleneck)
        self.from_bottleneck = nn.Linear(bottleneck, flat)
        up: list[nn.Module] = []
        for before, after in zip(widths[::-1], [*widths[-2::-1], 1], strict=True):
            up += [nn.Sequential(ACTIVATIONS[activation](), nn.Conv2d(before, after, 3, padding=1))]
            if after != 1:
                up[-1].append(nn.BatchNorm2d(after))
        self.up = nn.ModuleList(up)
        self.head = Head(bottleneck, num_classes, activation, dropout)

    def forward(self, inputs: torch.Tensor, lengths: torch.Tensor | None = None) -> Any:
        """Logits (batch, num_classes); while it reconstructs, and the mean squared error of each clip (batch,) too.

        Args:
            inputs: (batch, frames, bands) in [0, 1]; in the frozen phase bottlenecks (batch, columns)
            lengths: int64 (batch,), frames of each clip; unused in the frozen phase
        """
        if lengths is None:
            return self.head(inputs)
        pictures = self.pictures(inputs)
        bottlenecks = self.encode(pictures)
        if self.phase == FINE_TUNE:
            return self.head(bottlenecks)
        error = self._error(self.decode(bottlenecks), pictures, lengths)
        return self.head(bottlenecks.detach()), error

    def train(self, mode: bool = True) -> "MelAutoencoder":
        """As torch's, but what is frozen keeps the statistics that it has."""
        super().train(mode)
        if self.phase == FROZEN:
            self.down.eval()
        return self

    def pictures(self, inputs: torch.Tensor) -> torch.Tensor:
        """Frames (batch, frames, bands), 0 behind a clip's end, as (batch, 1, bands, num_frames)."""
        missing = self.num_frames - inputs.shape[1]
        cut = inputs[:, : self.num_frames]
        return nn.functional.pad(cut, (0, 0, 0, max(0, missing))).transpose(1, 2)[:, None]

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        """Bottlenecks (batch, columns) of pictures."""
        return self.to_bottleneck(self.down(pictures).flatten(1))

    def decode(self, bottlenecks: torch.Tensor) -> torch.Tensor:
        """Pictures (batch, 1, bands, num_frames) in [0, 1] of bottlenecks."""
        maps = self.from_bottleneck(bottlenecks).unflatten(1, (-1, *self._sides[-1]))
        for stage, side in zip(self.up, reversed(self._sides[:-1]), strict=True):
            maps = stage(nn.functional.interpolate(maps, size=side, mode="nearest"))
        return torch.sigmoid(maps.float())

    def _error(self, made: torch.Tensor, pictures: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Mean squared error over a clip's own frames, (batch,): what lies behind its end is no achievement."""
        inside = frame_mask(lengths.clamp(max=self.num_frames), self.num_frames)[:, None, None]
        squares = (made - pictures).square().masked_fill(~inside, 0.0).sum(dim=(1, 2, 3))
        return squares / (lengths.clamp(max=self.num_frames) * pictures.shape[2])


@dataclass(frozen=True)
class BottleneckBatch:
    """Some clips.

    Attributes:
        arguments: their bottlenecks, float32 (batch, columns)
        labels: int64 (batch,)
        clips: int64 (batch,)
    """

    arguments: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    clips: torch.Tensor


class Bottlenecks:
    """Batches of bottlenecks that were computed once.

    Args:
        network: whose encoder no longer changes
        source: batches of the clips
        device: where the network is
    """

    def __init__(self, network: MelAutoencoder, source: BatchSource, device: torch.device) -> None:
        vectors, labels, clips = [], [], []
        training = network.training
        network.eval()
        with torch.no_grad():
            # in an order of its own, so that the training's is drawn from no generator
            for batch in source.epoch(torch.Generator().manual_seed(0)):
                vectors.append(network.encode(network.pictures(batch.arguments[0].to(device))))
                labels.append(batch.labels)
                clips.append(batch.clips)
        network.train(training)
        order = torch.cat(clips).argsort()
        self._vectors = torch.cat(vectors)[order.to(device)]
        self._labels, self._clips = torch.cat(labels)[order], torch.cat(clips)[order]
        self._batches = len(source)

    def __len__(self) -> int:
        """Batches an epoch."""
        return self._batches

    def epoch(self, generator: torch.Generator | None) -> Iterator[BottleneckBatch]:
        """All clips once, shuffled where there is a *generator*."""
        alike = torch.ones(len(self._clips), dtype=torch.int64).numpy()
        dealt = batch_order.of_epoch(alike, len(self), shuffle=generator is not None, generator=generator)
        for positions in map(torch.from_numpy, dealt):
            vectors = self._vectors[positions.to(self._vectors.device)]
            yield BottleneckBatch((vectors,), self._labels[positions], self._clips[positions])


class TwoPhases:
    """Leads a trainer through reconstruction and classification; a function of the epoch alone.

    Args:
        network: the trainer's
        reconstruction_epochs: how long the first phase is
        then: ``frozen`` or ``fine-tune``
    """

    def __init__(self, network: MelAutoencoder, *, reconstruction_epochs: int, then: str) -> None:
        self._network = network
        self._reconstruction_epochs = reconstruction_epochs
        self._then = then
        self.trainer: Trainer | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Put network and data into the phase of *epoch*."""
        before = self._network.phase
        self._network.phase = RECONSTRUCT if epoch <= self._reconstruction_epochs else self._then
        if self._network.phase == FROZEN and before != FROZEN:
            trainer = self.trainer
            assert trainer is not None, "the trainer is known before its first epoch"
            trainer.data = with_bottlenecks(self._network, trainer.data, trainer.device)


def with_bottlenecks(network: MelAutoencoder, data: TrainingData, device: torch.device) -> TrainingData:
    """The same clips, as bottlenecks."""
    train, validation = (Bottlenecks(network, source, device) for source in (data.train, data.validation))
    return replace(data, train=train, validation=validation)


def parameter_groups(
    network: MelAutoencoder, settings: TrainingSettings, *, head_lr: float, reconstruction_epochs: int, then: str
) -> list[ParameterGroup]:
    """The head at its rate, the encoder and the decoder at the settings', each as long as its phase lasts."""
    decoder = [*network.from_bottleneck.parameters(), *network.up.parameters()]
    encoder = [*network.down.parameters(), *network.to_bottleneck.parameters()]
    rate, decay = settings.learning_rate, settings.weight_decay
    encoder_ends = reconstruction_epochs if then == FROZEN else None
    return [
        ParameterGroup("encoder", encoder, rate, decay, last_epoch=encoder_ends),
        ParameterGroup("decoder", decoder, rate, decay, last_epoch=reconstruction_epochs),
        ParameterGroup("head", list(network.head.parameters()), head_lr, decay),
    ]


def picture_sides_needed(num_mels: int, num_frames: int) -> Mapping[str, int]:
    """The sides of a picture that are too short for the network, by name; none if it fits."""
    return {name: size for name, size in (("num_mels", num_mels), ("frames", num_frames)) if size < LEAST_SIDE}
