"""Small random encoders of every kind, a few clips for them, and what unmodified transformers makes of each alone."""

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.func import functional_call
from torch.nn import functional
from transformers import (
    AutoModel,
    Data2VecAudioConfig,
    HubertConfig,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    WavLMConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
)
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ser_models.encoders.architectures import SplitEncoder, split_encoder
from ser_models.encoders.head import LayerHead
from ser_models.encoders.masks import SpanMasks
from ser_models.encoders.plan import EncoderPlan, HeadPlan
from ser_models.training import TrainingSettings

NUM_LAYERS = 3
NUM_CLASSES = 4
ARCHITECTURES = (
    "wav2vec2", "wav2vec2-large", "hubert", "hubert-large", "hubert-batch-norm", "wavlm", "wavlm-large",
    "data2vec-audio", "whisper",
)  # fmt: skip
LARGE = ("wav2vec2-large", "hubert-large", "wavlm-large", "whisper")  # those with a norm behind the last layer

# Two of one length; whole pairs of Whisper's frames, and no whole number of anybody else's.
CLIP_SAMPLES = (6400, 12160, 9600, 12160)
LABELS = (0, 1, 2, 3)

_SHAPE: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": NUM_LAYERS, "num_attention_heads": 3, "intermediate_size": 40,
    "conv_dim": (12,) * 7, "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0, "layerdrop": 0.0, "vocab_size": 8, "num_labels": NUM_CLASSES, "classifier_proj_size": 10,
}  # fmt: skip
_POSITIONS: dict[str, Any] = {"num_conv_pos_embeddings": 32, "num_conv_pos_embedding_groups": 4}
_BASE: dict[str, Any] = {**_SHAPE, **_POSITIONS, "feat_extract_norm": "group", "do_stable_layer_norm": False}
_LARGE: dict[str, Any] = {
    **_SHAPE, **_POSITIONS, "feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True,
}  # fmt: skip
_WHISPER: dict[str, Any] = {
    "d_model": 24, "encoder_layers": NUM_LAYERS, "encoder_attention_heads": 3, "encoder_ffn_dim": 40,
    "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 16, "vocab_size": 60, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1, "dropout": 0.0, "num_labels": NUM_CLASSES,
    "classifier_proj_size": 10, "suppress_tokens": None, "begin_suppress_tokens": None,
}  # fmt: skip


def config_of(architecture: str, **changes: Any) -> Any:
    """A small configuration of transformers'."""
    made: dict[str, Any] = {
        "wav2vec2": lambda: Wav2Vec2Config(**{**_BASE, **changes}),
        "wav2vec2-large": lambda: Wav2Vec2Config(**{**_LARGE, **changes}),
        "hubert": lambda: HubertConfig(**{**_BASE, **changes}),
        "hubert-large": lambda: HubertConfig(**{**_LARGE, **changes}),
        "hubert-batch-norm": lambda: HubertConfig(**{**_BASE, "conv_pos_batch_norm": True, **changes}),
        "wavlm": lambda: WavLMConfig(**{**_BASE, **changes}),
        "wavlm-large": lambda: WavLMConfig(**{**_LARGE, **changes}),
        "data2vec-audio": lambda: Data2VecAudioConfig(
            **{**_SHAPE, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19, **changes}
            | {"num_conv_pos_embedding_groups": 4}
        ),
        "whisper": lambda: WhisperConfig(**{**_WHISPER, **changes}),
    }
    return made[architecture]()


def extractor_of(architecture: str) -> Any:
    """The feature extractor that checkpoints of this kind come with."""
    if architecture == "whisper":
        return WhisperFeatureExtractor()
    return Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask="large" in architecture)


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Weights as if trained: no norm is the identity, no bias zero, and every layer changes what passes it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "embed_positions" not in name:
                tensor.add_(0.15 * torch.randn(tensor.shape, generator=generator))
        for name, tensor in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                tensor.add_(torch.rand(tensor.shape, generator=generator))


@cache
def small_encoder(architecture: str, dtype: torch.dtype = torch.float32) -> SplitEncoder:
    """A frozen encoder with random weights; nobody may change it."""
    config = config_of(architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: nn.Module
        if architecture == "whisper":
            model = WhisperEncoder(config)
        else:
            model = AutoModel.from_config(config)
    if not architecture.startswith("wavlm"):
        model.set_attn_implementation("sdpa")  # type: ignore[operator]
    randomise(model)
    encoder = split_encoder(model, extractor_of(architecture)).to(dtype)
    encoder.requires_grad_(False)
    return encoder.eval()


def clip_samples(num_samples: int, seed: int) -> NDArray[np.float32]:
    """Something whose loudness and pitch change, so that no stretch of it stands for another."""
    rng = np.random.default_rng([seed, num_samples])
    time = np.arange(num_samples) / 16_000
    tone = np.sin(2 * np.pi * (150 + 60 * seed) * time * (1 + time)) * np.sin(2 * np.pi * 4 * time)
    return (0.2 * tone + 0.05 * rng.standard_normal(num_samples)).astype(np.float32)


class ListedWaveforms:
    """Clips in a list, in the interface of ``ser_data.waveforms.Waveforms``."""

    def __init__(self, clips: list[NDArray[np.float32]]) -> None:
        self.clips = clips
        self.num_samples = np.array([len(clip) for clip in clips], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.clips)

    def float32(self, index: int) -> NDArray[np.float32]:
        return self.clips[index].copy()

    def unmap(self) -> None:
        pass


@dataclass
class ListedCorpus:
    """What a prefix pass reads of a corpus."""

    waveforms: ListedWaveforms
    manifest_hash: str = "listed"


@cache
def listed_corpus(lengths: tuple[int, ...] = CLIP_SAMPLES) -> Any:
    """A corpus of generated clips of these lengths."""
    return ListedCorpus(ListedWaveforms([clip_samples(length, seed) for seed, length in enumerate(lengths)]))


def plan_of(depth: int, layer_mix: str = "weighted", pooling: str = "mean", **changes: Any) -> EncoderPlan:
    """A plan for a three-layer encoder without anything random."""
    values: dict[str, Any] = {
        "num_layers": NUM_LAYERS,
        "depth": depth,
        "max_clip_seconds": 5.0,
        "mask_at": "boundary",
        "masks": None,
        "head": HeadPlan(layer_mix, pooling, hidden_layers=0, hidden_units=0, dropout=0.0),
        "lora": None,
        "backbone_lr": 1e-4,
        "layer_decay": 1.0,
        "first_epoch": 1,
        "gradient_checkpointing": False,
        "settings": TrainingSettings(1, 8, "adamw", 1e-3, 0.0, "constant", 0.0, False),
        "read": {},
        **changes,
    }
    return EncoderPlan(**values)


NO_MASKS = SpanMasks(0.0, 1, 0.0, 1)  # in name only: they move the start of a plan to the input


@cache
def trainable_copy(encoder: SplitEncoder, depth: int) -> SplitEncoder:
    """The same encoder of transformers, its top *depth* layers and its last norm to be trained, without gradients."""
    model = copy.deepcopy(encoder.model)
    model.set_attn_implementation("eager")  # type: ignore[operator]  # a second opinion on the attention
    made = split_encoder(model, encoder.extractor)
    for layer in list(made.layers)[made.num_layers - depth :]:
        layer.requires_grad_(True)
    if depth and made.final_norm is not None:
        made.final_norm.requires_grad_(True)
    return made


def lone_states(encoder: SplitEncoder, samples: NDArray[np.float32]) -> tuple[torch.Tensor, ...]:
    """All hidden states of one clip, (1, frames, hidden) each, by transformers' own forward, without padding."""
    dtype = next(encoder.model.parameters()).dtype
    if encoder.model_type != "whisper":
        values = encoder.extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values.to(dtype)
        made = encoder.model(values, output_hidden_states=True)
        # transformers 5 leaves the last norm of the large models out of hidden_states, transformers 4 had it there.
        return (*made.hidden_states[:-1], made.last_hidden_state)
    mel = whisper_mel(encoder, samples).to(dtype)
    positions = {"embed_positions.weight": encoder.model.embed_positions.weight[: mel.shape[-1] // 2]}
    weights = {**dict(encoder.model.named_parameters()), **positions}
    made = functional_call(_whisper_for(mel.shape[-1]), weights, (mel,), {"output_hidden_states": True})
    states: tuple[torch.Tensor, ...] = made.hidden_states
    return states


def whisper_mel(encoder: SplitEncoder, samples: NDArray[np.float32]) -> torch.Tensor:
    """Log-mel frames of the clip alone, (1, bins, frames)."""
    made = encoder.extractor(samples, sampling_rate=16_000, padding="do_not_pad", truncation=False, return_tensors="pt")
    mel: torch.Tensor = made.input_features
    assert mel.shape[-1] == len(samples) // 160
    return mel


@cache
def _whisper_for(num_frames: int) -> WhisperEncoder:
    """transformers' encoder for exactly so many mel frames, which must be even; its weights mean nothing."""
    assert num_frames % 2 == 0
    config = config_of("whisper", max_source_positions=num_frames // 2)
    config._attn_implementation = "eager"
    return WhisperEncoder(config).eval()


def whisper_by_hand(model: Any, mel: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The encoder's modules one after another, for mel frames (1, bins, frames) of any number."""
    hidden = functional.gelu(model.conv2(functional.gelu(model.conv1(mel)))).transpose(1, 2)
    hidden = hidden + model.embed_positions(torch.arange(hidden.shape[1]))
    states = [hidden]
    for layer in model.layers:
        states.append(layer(states[-1], None))
    return (*states[:-1], model.layer_norm(states[-1]))


def logits_of_states(head: LayerHead, plan: EncoderPlan, states: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Logits (num_classes,) of one clip from all its hidden states, pooled by hand but for attention."""
    chosen = states[-1:] if plan.head.layer_mix == "last" else states
    if plan.head.pooling == "attention":
        return head.classify_frames(chosen, torch.tensor([states[0].shape[1]]))[0]
    pooled = []
    for state in chosen:
        mean = state.mean(dim=1)
        if plan.head.pooling == "statistics":
            deviation = ((state - mean[:, None]).square().mean(dim=1) + 1e-6).sqrt()
            mean = torch.cat([mean, deviation], dim=1)
        pooled.append(mean)
    return head.classify_pooled(torch.stack(pooled, dim=1))[0]
