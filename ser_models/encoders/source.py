"""Which speech encoders there are, and how one is found. Imports neither torch nor transformers."""

from collections.abc import Mapping
from typing import Any

from ser_models.pretrained.source import CONFIG_FILE, FEATURES_FILE, Kind, PretrainedSource, find

ENCODER_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper")
TINY_LAYERS = 2


def _num_layers(config: Mapping[str, Any]) -> object:
    return config.get("encoder_layers" if config.get("model_type") == "whisper" else "num_hidden_layers")


ENCODERS = Kind(
    noun="speech encoder",
    types=ENCODER_TYPES,
    files=(CONFIG_FILE, FEATURES_FILE),
    saved="the model and for its feature extractor",
    example="facebook/wav2vec2-base",
    spaces={
        model_type: "whisper_fast or whisper_full" if model_type == "whisper" else "wav2vec2_fast or wav2vec2_full"
        for model_type in ENCODER_TYPES
    },
    tiny_layers=TINY_LAYERS,
    num_layers=_num_layers,
)


def find_encoder(name: str, *, types: tuple[str, ...] = ENCODER_TYPES, pretrained: bool = True) -> PretrainedSource:
    """As :func:`ser_models.pretrained.source.find`, of speech encoders."""
    return find(ENCODERS, name, types=types, pretrained=pretrained)
