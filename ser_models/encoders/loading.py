"""Reads an encoder's weights and checks them: nothing is ever trained on an encoder that is silently random."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from ser_models.encoders.architectures import SplitEncoder, split_encoder
from ser_models.encoders.source import ENCODERS
from ser_models.pretrained.kept import KeptNetworks
from ser_models.pretrained.loading import (
    check_finite,
    explained,
    quiet_transformers,
    random_weights,
    read_weights,
    tensors_hash,
)
from ser_models.pretrained.source import TINY, PretrainedSource, source_from_spec

# Parts of checkpoints that are no part of the encoder: heads, quantisers and decoders may be there, or not.
# The x-vector models call a layer of their head feature_extractor too.
_ENCODER_PARTS = ("feature_extractor.conv_layers.", "feature_projection.", "encoder.", "masked_spec_embed")
_TINY_SHAPES: dict[str, dict[str, Any]] = {
    "whisper": {
        "d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_layers": 1,
        "decoder_attention_heads": 2, "decoder_ffn_dim": 64, "vocab_size": 100, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "decoder_start_token_id": 1,
    },
}  # fmt: skip
_TINY_WAVE_SHAPE: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "conv_dim": (32,) * 7, "num_conv_pos_embedding_groups": 4, "vocab_size": 32,
}  # fmt: skip


@KeptNetworks
def load_encoder(spec: str) -> SplitEncoder:
    """The encoder that *spec* names, frozen, in float32 and eval mode. Kept for the next trials of this process.

    Args:
        spec: `PretrainedSource.spec`

    Raises:
        UserError: if weights are missing, left over, not finite, or cannot be reached
    """
    source = source_from_spec(spec)
    with quiet_transformers():
        model, extractor = _random(source) if not source.pretrained else _pretrained(source)
    return _frozen(model, extractor, source.label)


def restore_encoder(config: Mapping[str, Any], features: Mapping[str, Any]) -> SplitEncoder:
    """An encoder from its stored description, with weights that a state must replace."""
    from transformers import AutoConfig

    values = dict(config)
    model = _from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    return _frozen(model, _extractor(features), "the bundle's encoder")


def weights_hash(encoder: SplitEncoder) -> str:
    """SHA-256 over everything that an encoder's outputs depend on: its settings, its features' and all its weights."""
    return tensors_hash([encoder.config_dict(), encoder.features_dict()], encoder.state_dict())


def _frozen(model: nn.Module, extractor: Any, label: str) -> SplitEncoder:
    encoder = split_encoder(model, extractor)
    encoder.requires_grad_(False)
    encoder.eval()
    check_finite(encoder.state_dict(), label=label, noun=ENCODERS.noun)
    return encoder


def _pretrained(source: PretrainedSource) -> tuple[nn.Module, Any]:
    from transformers import AutoFeatureExtractor, AutoModel, WhisperForAudioClassification

    # Whisper's AutoModel would build the decoder too.
    loader = WhisperForAudioClassification if source.model_type == "whisper" else AutoModel
    model = read_weights(
        loader,
        source,
        noun=ENCODERS.noun,
        is_part=partial(_is_of_encoder, source.model_type),
        attn_implementation="eager" if source.model_type == "wavlm" else "sdpa",  # WavLM's bias goes another way
    )
    with explained(source, noun=ENCODERS.noun):
        extractor = AutoFeatureExtractor.from_pretrained(source.name, revision=source.revision)
    return model.encoder if source.model_type == "whisper" else model, extractor


def _is_of_encoder(model_type: str, key: str) -> bool:
    """Whether a tensor of a checkpoint is the encoder's; Whisper's are ``encoder.…``, with or without ``model.``."""
    prefix = model_type.replace("-", "_").removesuffix("_audio") + "."  # e.g. wav2vec2.
    plain = key.removeprefix("model.").removeprefix("data2vec_audio.").removeprefix(prefix)
    return plain.startswith(("encoder.",) if model_type == "whisper" else _ENCODER_PARTS)


def _random(source: PretrainedSource) -> tuple[nn.Module, Any]:
    from transformers import AutoConfig, AutoFeatureExtractor

    if source.name == TINY:
        shape = _TINY_SHAPES.get(source.model_type, _TINY_WAVE_SHAPE)
        config = AutoConfig.for_model(source.model_type, **shape)
        kind = "WhisperFeatureExtractor" if source.model_type == "whisper" else "Wav2Vec2FeatureExtractor"
        extractor = _extractor({"feature_extractor_type": kind})
    else:
        config = AutoConfig.from_pretrained(source.name, revision=source.revision)
        extractor = AutoFeatureExtractor.from_pretrained(source.name, revision=source.revision)
    return random_weights(lambda: _from_config(config)), extractor


def _from_config(config: Any) -> nn.Module:
    from transformers import AutoModel
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config._attn_implementation = "eager" if config.model_type == "wavlm" else "sdpa"
    if config.model_type == "whisper":
        return WhisperEncoder(config)
    model: nn.Module = AutoModel.from_config(config, dtype=torch.float32)
    return model


def _extractor(values: Mapping[str, Any]) -> Any:
    from transformers import Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

    kinds = {kind.__name__: kind for kind in (Wav2Vec2FeatureExtractor, WhisperFeatureExtractor)}
    settings = dict(values)
    return kinds[settings.pop("feature_extractor_type")](**settings)
