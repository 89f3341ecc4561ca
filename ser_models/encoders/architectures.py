"""One interface over transformers' speech encoders, cut where a search needs to cut them.

Whatever the architecture, an encoder is the same chain::

    samples ─ features ─▶ input ─ front ─▶ maskable ─ embed ─▶ hidden 0 ─ layer 1 ─▶ hidden 1 … ─ layer L ─▶ hidden L

*features* is the clip's own (a normalised waveform, a log-mel spectrogram). *maskable* is where SpecAugment masks the
input: the projected features of wav2vec 2.0 and its kin, the log-mel frames of Whisper. *hidden i* is what transformers
calls ``hidden_states[i]``; the last one has passed the encoder's final norm, where it has one: it is what transformers
calls ``last_hidden_state`` (its version 5 leaves the norm out of the large models' ``hidden_states[-1]``).

Clips are padded in a batch, and must come out as if each were alone: *front* is only given clips of one length (the
group norm of wav2vec2-base sees padding), and *embed* and the layers are told the lengths.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ser_data.waveforms import SAMPLE_RATE
from ser_models.pooling import frame_mask


class SplitEncoder(nn.Module, ABC):
    """An encoder of transformers, taken apart.

    Args:
        model: the encoder's module, as transformers made it
        extractor: its feature extractor

    Attributes:
        num_layers: L
        hidden_size: columns of the hidden states
        maskable_dim: columns of the maskable input
        layers: the L transformer layers, bottom first
        final_norm: what the last hidden state passes, if anything
    """

    def __init__(self, model: nn.Module, extractor: Any) -> None:
        super().__init__()
        self.model = model
        self.extractor = extractor
        self.config: Any = model.config

    @property
    def model_type(self) -> str:
        return str(self.config.model_type)

    @property
    def hidden_size(self) -> int:
        return int(self.config.hidden_size)

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    @property
    def dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype

    @property
    @abstractmethod
    def maskable_dim(self) -> int: ...

    @property
    @abstractmethod
    def layers(self) -> nn.ModuleList: ...

    @property
    @abstractmethod
    def final_norm(self) -> nn.Module | None: ...

    @property
    @abstractmethod
    def mask_vector(self) -> torch.Tensor | None:
        """What a masked frame of the maskable input becomes, (maskable_dim,); None for zeros."""

    @abstractmethod
    def features(self, samples: NDArray[np.float32]) -> torch.Tensor:
        """What the network reads of one clip.

        Args:
            samples: mono float32 in [-1, 1], (num_samples,), 16 kHz

        Returns:
            float32; clips of equal length give equal shapes
        """

    @abstractmethod
    def front(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, …) of clips of one length to the maskable input, (batch, frames, maskable_dim)."""

    @abstractmethod
    def maskable_frames(self, num_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Frames of the maskable input of clips of that many samples."""

    @abstractmethod
    def hidden_frames(self, maskable_frames: Any) -> Any:
        """Frames of the hidden states for that many frames of the maskable input; int, array or tensor."""

    @abstractmethod
    def embed(self, maskable: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Maskable input (batch, frames, maskable_dim) of *lengths* (batch,) to hidden 0, (batch, frames', hidden)."""

    def front_modules(self) -> list[nn.Module]:
        """What *front* and *embed* are made of: frozen always."""
        trained = {id(layer) for layer in self.layers} | {id(self.final_norm)}
        return [module for module in self.model.modules() if id(module) not in trained]

    def run_layer(
        self, layer: nn.Module, hidden: torch.Tensor, mask: torch.Tensor | None, position: torch.Tensor | None
    ) -> torch.Tensor:
        """One layer on hidden states (batch, frames, hidden); *mask* and *position* as the next two methods give."""
        output: torch.Tensor = layer(hidden, attention_mask=mask)
        return output

    def attention_mask(self, lengths: torch.Tensor, num_frames: int) -> torch.Tensor | None:
        """What the layers need to leave padding out; None where there is none, as far as that costs nothing to see."""
        if lengths.device.type == "cpu" and bool((lengths == num_frames).all()):
            return None
        return frame_mask(lengths, num_frames)[:, None, None, :]

    def position(self, hidden: torch.Tensor, first_layer: nn.Module) -> torch.Tensor | None:
        """What the layers are handed from the first one, if anything."""
        return None

    def config_dict(self) -> dict[str, Any]:
        """The settings of the network, as values that JSON takes."""
        return dict(self.config.to_diff_dict(), model_type=self.model_type)

    def features_dict(self) -> dict[str, Any]:
        """The settings of the features, likewise."""
        values = self.extractor.to_dict()
        return {name: value for name, value in values.items() if name not in ("mel_filters", "processor_class")}


def run_layers(
    encoder: SplitEncoder,
    layers: Sequence[nn.Module],
    hidden: torch.Tensor,
    lengths: torch.Tensor,
    *,
    first_layer: nn.Module | None = None,
    checkpointed: bool = False,
) -> list[torch.Tensor]:
    """The hidden states after each of *layers*; the encoder's final norm is the caller's.

    Args:
        encoder: whose layers they are
        layers: consecutive ones
        hidden: (batch, frames, hidden), what enters the first of them
        lengths: int64 (batch,), frames of each clip; what comes out behind them has no meaning
        first_layer: the encoder's first layer as it is now, where it may be trained; the encoder's own by default
        checkpointed: compute a layer again in the backward pass instead of keeping what it needs
    """
    mask = encoder.attention_mask(lengths, hidden.shape[1])
    position = encoder.position(hidden, encoder.layers[0] if first_layer is None else first_layer)
    outputs = []
    for layer in layers:
        if checkpointed and torch.is_grad_enabled():
            hidden = checkpoint(encoder.run_layer, layer, hidden, mask, position, use_reentrant=False)
        else:
            hidden = encoder.run_layer(layer, hidden, mask, position)
        outputs.append(hidden)
    return outputs


class WaveEncoder(SplitEncoder):
    """wav2vec 2.0 and HuBERT: convolutions over the waveform, projection, convolutional positions, layers."""

    @property
    def maskable_dim(self) -> int:
        return self.hidden_size

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.encoder.layers

    @property
    def is_pre_norm(self) -> bool:
        """Whether the norm of the encoder comes after its layers (the large models) and not before them."""
        return bool(getattr(self.config, "do_stable_layer_norm", False))

    @property
    def final_norm(self) -> nn.Module | None:
        return self.model.encoder.layer_norm if self.is_pre_norm else None

    @property
    def mask_vector(self) -> torch.Tensor | None:
        return getattr(self.model, "masked_spec_embed", None)

    def features(self, samples: NDArray[np.float32]) -> torch.Tensor:
        samples = np.pad(samples, (0, max(0, self._receptive_field() - len(samples))))
        values = self.extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_values[0]
        return values.to(torch.float32)

    def front(self, features: torch.Tensor) -> torch.Tensor:
        extracted = self.model.feature_extractor(features.to(self.dtype)).transpose(1, 2)
        projected = self.model.feature_projection(extracted)
        return projected[0] if isinstance(projected, tuple) else projected  # HuBERT's is the tensor alone

    def maskable_frames(self, num_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        frames = np.maximum(num_samples, self._receptive_field())
        for kernel, stride in zip(self.config.conv_kernel, self.config.conv_stride, strict=True):
            frames = (frames - kernel) // stride + 1
        return frames

    def hidden_frames(self, maskable_frames: Any) -> Any:
        return maskable_frames

    def embed(self, maskable: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inside = frame_mask(lengths, maskable.shape[1])[:, :, None]
        maskable = maskable.masked_fill(~inside, 0.0)  # as the convolution over a lone clip pads it
        hidden = maskable + self._positions(maskable, inside)
        return hidden if self.is_pre_norm else self.model.encoder.layer_norm(hidden)

    def _positions(self, maskable: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        convolution = self.model.encoder.pos_conv_embed
        if getattr(convolution, "batch_norm", None) is None:
            return convolution(maskable)
        # Some HuBERTs: what the norm makes of the padding must not get into the convolution.
        normed = convolution.batch_norm(maskable.transpose(1, 2)).masked_fill(~inside.transpose(1, 2), 0.0)
        return convolution.activation(convolution.padding(convolution.conv(normed))).transpose(1, 2)

    def _receptive_field(self) -> int:
        samples = 1
        for kernel, stride in zip(reversed(self.config.conv_kernel), reversed(self.config.conv_stride), strict=True):
            samples = (samples - 1) * stride + kernel
        return samples


class Data2VecEncoder(WaveEncoder):
    """data2vec-audio: as wav2vec 2.0, with several convolutions for the positions."""

    def _positions(self, maskable: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        # Each convolution pads a lone clip with zeros; what the one before made of the padding must not get in.
        outside = ~inside.transpose(1, 2)
        positions = maskable.transpose(1, 2)
        for layer in self.model.encoder.pos_conv_embed.layers:
            positions = layer(positions.masked_fill(outside, 0.0))
        return positions.transpose(1, 2)


class WavLMEncoder(WaveEncoder):
    """WavLM: as wav2vec 2.0, with a bias for relative positions that the first layer makes and all layers gate."""

    def __init__(self, model: nn.Module, extractor: Any) -> None:
        super().__init__(model, extractor)
        # transformers gives torch the padding as true and false beside the bias as numbers; torch warns of its future
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask and attn_mask")

    def attention_mask(self, lengths: torch.Tensor, num_frames: int) -> torch.Tensor | None:
        if lengths.device.type == "cpu" and bool((lengths == num_frames).all()):
            return None
        return frame_mask(lengths, num_frames).long()

    def position(self, hidden: torch.Tensor, first_layer: nn.Module) -> torch.Tensor | None:
        batch, num_frames, _ = hidden.shape
        bias = first_layer.attention.compute_bias(num_frames, num_frames)  # (heads, frames, frames)
        return bias[None].expand(batch, -1, -1, -1).reshape(-1, num_frames, num_frames)

    def run_layer(
        self, layer: nn.Module, hidden: torch.Tensor, mask: torch.Tensor | None, position: torch.Tensor | None
    ) -> torch.Tensor:
        output, _ = layer(hidden, attention_mask=mask, position_bias=position)
        return output


class WhisperSplitEncoder(SplitEncoder):
    """Whisper's encoder on a clip's own frames: positions 0…T and no padding to 30 s (Radford et al. 2022 pad)."""

    @property
    def hidden_size(self) -> int:
        return int(self.config.d_model)

    @property
    def maskable_dim(self) -> int:
        return int(self.config.num_mel_bins)

    @property
    def layers(self) -> nn.ModuleList:
        return self.model.layers

    @property
    def final_norm(self) -> nn.Module | None:
        return self.model.layer_norm

    @property
    def mask_vector(self) -> torch.Tensor | None:
        return None

    def features(self, samples: NDArray[np.float32]) -> torch.Tensor:
        samples = np.pad(samples, (0, max(0, self.extractor.n_fft - len(samples))))  # one window
        made = self.extractor(
            samples, sampling_rate=SAMPLE_RATE, padding="do_not_pad", truncation=False, return_tensors="pt"
        )
        return made.input_features[0]

    def front(self, features: torch.Tensor) -> torch.Tensor:
        return features.to(self.dtype).transpose(1, 2)

    def maskable_frames(self, num_samples: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.maximum(num_samples, self.extractor.n_fft) // self.extractor.hop_length

    def hidden_frames(self, maskable_frames: Any) -> Any:
        return (maskable_frames - 1) // 2 + 1

    def embed(self, maskable: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        inside = frame_mask(lengths, maskable.shape[1])[:, None, :]
        mel = maskable.transpose(1, 2).masked_fill(~inside, 0.0)
        hidden = functional.gelu(self.model.conv1(mel)).masked_fill(~inside, 0.0)
        hidden = functional.gelu(self.model.conv2(hidden)).transpose(1, 2)
        positions: torch.Tensor = self.model.embed_positions.weight[: hidden.shape[1]] * 1.0
        return hidden + positions


_KINDS: dict[str, type[SplitEncoder]] = {
    "wav2vec2": WaveEncoder,
    "hubert": WaveEncoder,
    "wavlm": WavLMEncoder,
    "data2vec-audio": Data2VecEncoder,
    "whisper": WhisperSplitEncoder,
}


def split_encoder(model: nn.Module, extractor: Any) -> SplitEncoder:
    """The interface over *model*, an encoder of transformers, and its feature extractor."""
    config: Any = model.config
    return _KINDS[config.model_type](model, extractor)
