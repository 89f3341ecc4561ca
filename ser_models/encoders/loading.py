"""Reads an encoder's weights and checks them: nothing is ever trained on an encoder that is silently random."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ser_data.errors import UserError
from ser_data.seeds import derive_seed
from ser_models.encoders.architectures import SplitEncoder, split_encoder
from ser_models.encoders.source import TINY, EncoderSource, source_from_spec, unreachable

_RANDOM_SEED = 0  # of random weights: they stand for one encoder, the same for every trial and process

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


@lru_cache(maxsize=1)
def load_encoder(spec: str) -> SplitEncoder:
    """The encoder that *spec* names, frozen, in float32 and eval mode. Kept for the next trial of this process.

    Args:
        spec: `EncoderSource.spec`

    Raises:
        UserError: if weights are missing, left over, not finite, or cannot be reached
    """
    source = source_from_spec(spec)
    with _quiet_transformers():
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
    digest = hashlib.sha256()
    digest.update(json.dumps([encoder.config_dict(), encoder.features_dict()], sort_keys=True, default=str).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else b"scalar")
    return digest.hexdigest()


def _frozen(model: nn.Module, extractor: Any, label: str) -> SplitEncoder:
    encoder = split_encoder(model, extractor)
    encoder.requires_grad_(False)
    encoder.eval()
    broken = [name for name, tensor in encoder.state_dict().items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(
            f"The encoder {label} has weights that are not finite (NaN or infinity), in {_listed(broken)}. Accepted "
            "are finite weights. Fetch the encoder again."
        )
    return encoder


def _pretrained(source: EncoderSource) -> tuple[nn.Module, Any]:
    from transformers import AutoFeatureExtractor, AutoModel, WhisperForAudioClassification

    # Whisper's AutoModel would build the decoder too.
    loader = WhisperForAudioClassification if source.model_type == "whisper" else AutoModel
    try:
        model, info = loader.from_pretrained(
            source.name,
            revision=source.revision,
            dtype=torch.float32,  # else it is the checkpoint's, which may be float16
            attn_implementation="eager" if source.model_type == "wavlm" else "sdpa",  # WavLM's bias goes another way
            output_loading_info=True,
        )
        extractor = AutoFeatureExtractor.from_pretrained(source.name, revision=source.revision)
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, UnpicklingError, EOFError) as error:
        if not source.is_folder and isinstance(error, OSError):
            raise UserError(unreachable(source.name, source.revision)) from error
        raise UserError(
            f"The encoder {source.label} cannot be loaded: {str(error).splitlines()[0] if str(error) else error!r}. "
            "Accepted is what transformers' save_pretrained writes, with weights of the sizes that its config.json "
            "says. Fetch it again."
        ) from error
    _check_complete(source, info)
    return getattr(model, "encoder") if source.model_type == "whisper" else model, extractor  # noqa: B009  # mypy


def _check_complete(source: EncoderSource, info: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that leaves a part of the encoder at random, or has parts for which there is no place."""
    prefix = source.model_type.replace("-", "_").removesuffix("_audio") + "."  # e.g. wav2vec2., data2vec_audio.
    missing = _of_encoder(info["missing_keys"], source.model_type, prefix)
    unexpected = _of_encoder(info["unexpected_keys"], source.model_type, prefix)
    mismatched = [str(key) for key in info.get("mismatched_keys", ())]
    for found, told in (
        (missing, "lacks weights of the encoder, which would stay random"),
        (unexpected, "has weights of an encoder that its config.json has no place for"),
        (mismatched, "has weights of other sizes than its config.json says"),
    ):
        if found:
            raise UserError(
                f"The encoder {source.label} {told}: {_listed(found)}. Accepted is a checkpoint that holds exactly "
                "the encoder's weights, with or without heads. Fetch it again, or name another."
            )


def _of_encoder(keys: Iterable[str], model_type: str, prefix: str) -> list[str]:
    """Those of *keys* that belong to the encoder; Whisper's are ``encoder.…``, with or without ``model.``."""
    parts = ("encoder.",) if model_type == "whisper" else _ENCODER_PARTS
    plain = {key: key.removeprefix("model.").removeprefix("data2vec_audio.").removeprefix(prefix) for key in keys}
    return sorted(key for key, name in plain.items() if name.startswith(parts))


def _random(source: EncoderSource) -> tuple[nn.Module, Any]:
    from transformers import AutoConfig, AutoFeatureExtractor

    if source.name == TINY:
        shape = _TINY_SHAPES.get(source.model_type, _TINY_WAVE_SHAPE)
        config = AutoConfig.for_model(source.model_type, **shape)
        kind = "WhisperFeatureExtractor" if source.model_type == "whisper" else "Wav2Vec2FeatureExtractor"
        extractor = _extractor({"feature_extractor_type": kind})
    else:
        config = AutoConfig.from_pretrained(source.name, revision=source.revision)
        extractor = AutoFeatureExtractor.from_pretrained(source.name, revision=source.revision)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(_RANDOM_SEED, "encoder"))
        return _from_config(config), extractor


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


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """No progress bars or notes about heads that are not loaded: what matters is checked here."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
