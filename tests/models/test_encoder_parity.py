"""The same weights give the logits of transformers' own classifiers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    HubertForSequenceClassification,
    Wav2Vec2ForSequenceClassification,
    WavLMForSequenceClassification,
    WhisperForAudioClassification,
)

from ser_models.encoders.architectures import SplitEncoder
from ser_models.encoders.loading import load_encoder
from ser_models.encoders.model import EncoderClassifier
from ser_models.encoders.plan import EncoderPlan
from ser_models.encoders.prefix import boundaries, boundary_name, pooled_columns
from ser_models.encoders.source import find_encoder
from tests.models.encoder_clips import (
    NUM_CLASSES,
    NUM_LAYERS,
    clip_samples,
    config_of,
    extractor_of,
    plan_of,
    randomise,
)

MODELS: dict[str, Any] = {
    "wav2vec2": Wav2Vec2ForSequenceClassification,
    "wav2vec2-large": Wav2Vec2ForSequenceClassification,
    "hubert": HubertForSequenceClassification,
    "hubert-large": HubertForSequenceClassification,
    "wavlm": WavLMForSequenceClassification,
    "wavlm-large": WavLMForSequenceClassification,
    "whisper": WhisperForAudioClassification,
}


def classifier_of(architecture: str, folder: Path, *, weighted: bool, **changes: Any) -> tuple[Any, SplitEncoder]:
    """transformers' classifier with random weights, and the encoder that we load from where it was saved."""
    # What transformers 4 did and 5 does not: the last of the mixed states has passed the last norm of large models.
    config = config_of(architecture, use_weighted_layer_sum=weighted, tie_last_hidden_states=True, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = MODELS[architecture](config)
    randomise(model)
    model.eval().save_pretrained(folder)
    extractor_of(architecture).save_pretrained(folder)
    return model, load_encoder(find_encoder(str(folder)).spec)


def network_with_head_of(model: Any, encoder: SplitEncoder, plan: EncoderPlan) -> EncoderClassifier:
    """Their two linear maps, with the mean over frames between them, are our one behind the mean."""
    network = EncoderClassifier(encoder, plan, num_classes=NUM_CLASSES).eval()
    linear = network.head.classifier[-1]
    with torch.no_grad():
        linear.weight.copy_(model.classifier.weight @ model.projector.weight)
        linear.bias.copy_(model.classifier.weight @ model.projector.bias + model.classifier.bias)
        if plan.head.layer_mix == "weighted":
            network.head.layer_weights.copy_(model.layer_weights)
    return network


@torch.no_grad()
def our_logits(network: EncoderClassifier, plan: EncoderPlan, samples: np.ndarray) -> torch.Tensor:
    encoder = network.encoder
    names = [boundary_name(state) for state in plan.frozen_states]
    starts = [] if plan.start is None else [boundary_name(plan.start)]
    made = boundaries(encoder, encoder.features(samples)[None], [*names, *starts])
    frames = made[starts[0]] if starts else torch.zeros(1, 0)
    pooled = torch.zeros(1, 0)
    if plan.reads_pooled:
        pooled = pooled_columns([made[name] for name in names])[:, : len(names) * encoder.hidden_size]
    logits: torch.Tensor = network(frames, torch.tensor([max(1, frames.shape[1])]), pooled)
    return logits


@pytest.mark.parametrize("weighted", [False, True], ids=["last layer", "weighted layers"])
@pytest.mark.parametrize("architecture", [name for name in MODELS if name != "whisper"])
def test_logits_of_one_clip_are_those_of_the_sequence_classifier(
    architecture: str, weighted: bool, tmp_path: Path
) -> None:
    model, encoder = classifier_of(architecture, tmp_path, weighted=weighted)
    samples = clip_samples(12_345, seed=1)
    with torch.no_grad():
        expected = model(encoder.extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values).logits
    for depth in (0, 1, NUM_LAYERS):
        plan = plan_of(depth, "weighted" if weighted else "last")
        found = our_logits(network_with_head_of(model, encoder, plan), plan, samples)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True], ids=["last layer", "weighted layers"])
def test_logits_of_thirty_seconds_are_those_of_whispers_audio_classifier(weighted: bool, tmp_path: Path) -> None:
    model, encoder = classifier_of("whisper", tmp_path, weighted=weighted)
    samples = clip_samples(30 * 16_000, seed=1)
    mel = encoder.extractor(samples, sampling_rate=16_000, return_tensors="pt").input_features
    assert mel.shape[-1] == 3000
    with torch.no_grad():
        expected = model(mel).logits
    for depth in (0, 1):
        plan = plan_of(depth, "weighted" if weighted else "last", max_clip_seconds=30.0)
        found = our_logits(network_with_head_of(model, encoder, plan), plan, samples)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_weight_that_differs_shows_in_the_logits(tmp_path: Path) -> None:
    model, encoder = classifier_of("wav2vec2", tmp_path, weighted=False)
    samples, plan = clip_samples(12_345, seed=1), plan_of(0, "last")
    before = our_logits(network_with_head_of(model, encoder, plan), plan, samples)
    with torch.no_grad():
        model.wav2vec2.encoder.layers[0].feed_forward.output_dense.weight[0, 0] += 0.5
        expected = model(encoder.extractor(samples, sampling_rate=16_000, return_tensors="pt").input_values).logits
    assert float((before - expected).abs().max()) > 1e-3
