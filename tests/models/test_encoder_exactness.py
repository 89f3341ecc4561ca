"""Cached boundaries and padded batches give the numbers of unmodified transformers on each clip alone."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from ser_models.encoders.architectures import SplitEncoder
from ser_models.encoders.batches import EncoderInputs
from ser_models.encoders.data import pooled_ranges
from ser_models.encoders.head import LayerHead
from ser_models.encoders.model import EncoderClassifier
from ser_models.encoders.plan import INPUT, LAYER_MIXES, POOLINGS, EncoderPlan
from ser_models.encoders.prefix import POOLED, PrefixPass, PrefixSource, Rows, boundaries, boundary_name, computed_rows
from ser_models.pooling import frame_mask
from ser_models.prefix_cache import PrefixCache, Ragged
from tests.models.encoder_clips import (
    ARCHITECTURES,
    CLIP_SAMPLES,
    LABELS,
    LARGE,
    NO_MASKS,
    NUM_CLASSES,
    NUM_LAYERS,
    listed_corpus,
    logits_of_states,
    lone_states,
    plan_of,
    small_encoder,
    trainable_copy,
    whisper_by_hand,
    whisper_mel,
)

DEPTHS = range(NUM_LAYERS + 1)
CLIPS = np.arange(len(CLIP_SAMPLES))
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
# Below this share of all gradients together, one tensor's is rounding (the bias of the keys has none at all).
FLOORS = {torch.float64: 1e-6, torch.float32: 1e-2}
DTYPE_NAMES = {torch.float64: "fp64", torch.float32: "fp32"}

RowsOf = Callable[[str, torch.dtype], dict[str, Rows]]


@dataclass
class Numbers:
    """Logits of clips and the gradients of the sum of their losses, by the names of `EncoderClassifier`."""

    logits: torch.Tensor
    gradients: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def rows_of(tmp_path_factory: pytest.TempPathFactory) -> RowsOf:
    """Every boundary of the listed clips: frames out of a real cache, pooled layers as they are computed."""
    made: dict[tuple[str, torch.dtype], dict[str, Rows]] = {}

    def rows(architecture: str, dtype: torch.dtype) -> dict[str, Rows]:
        if (architecture, dtype) not in made:
            made[architecture, dtype] = all_rows(
                small_encoder(architecture, dtype), listed_corpus(), dtype, tmp_path_factory.mktemp("prefixes")
            )
        return made[architecture, dtype]

    return rows


def all_rows(encoder: SplitEncoder, corpus: Any, dtype: torch.dtype, folder: Any) -> dict[str, Rows]:
    source = PrefixSource(
        encoder=encoder,
        weights="0" * 64,
        corpus=corpus,
        cache=PrefixCache(folder, 10**8),
        frame_dtype=DTYPE_NAMES[dtype],
        precision="fp32",
    )
    names = [INPUT, *(boundary_name(layer) for layer in DEPTHS)]
    work = PrefixPass(encoder, corpus, "fp32", 5 * 16_000)
    # The cache keeps pooled layers in float32, which would be all that a comparison in float64 sees.
    pooled = computed_rows(work, [POOLED], np.arange(len(corpus.waveforms)))
    return {**source.get(names, max_clip_seconds=5.0), **pooled}


def network_of(encoder: SplitEncoder, plan: EncoderPlan) -> EncoderClassifier:
    """In eval mode, with a head that is not at its initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = EncoderClassifier(encoder, plan, num_classes=NUM_CLASSES).to(encoder.dtype)
        with torch.no_grad():
            for tensor in network.head.parameters():
                tensor.add_(0.3 * torch.randn(tensor.shape))
            if hasattr(network.head, "shift"):
                network.head.shift.normal_()
                network.head.scale.uniform_(0.5, 2.0)
    return network.eval()


def inputs_of(encoder: SplitEncoder, plan: EncoderPlan, rows: Mapping[str, Rows]) -> EncoderInputs:
    return EncoderInputs(
        frames=None if plan.start is None else rows[boundary_name(plan.start)],
        pooled=rows[POOLED] if plan.reads_pooled else None,
        pooled_ranges=pooled_ranges(plan, encoder.hidden_size, plan.frozen_states),
    )


def our_numbers(
    network: EncoderClassifier,
    plan: EncoderPlan,
    rows: Mapping[str, Rows],
    clips: Sequence[int] = tuple(CLIPS),
    labels: Sequence[int] = LABELS,
) -> Numbers:
    network.zero_grad()
    inputs = inputs_of(network.encoder, plan, rows)
    batch = inputs.batch(np.asarray(clips, dtype=np.int64), torch.tensor(labels))
    logits = network(*batch.arguments)
    functional.cross_entropy(logits, batch.labels, reduction="sum").backward()
    return Numbers(logits.detach(), gradients_of(network.named_parameters()))


def transformers_numbers(
    encoder: SplitEncoder,
    plan: EncoderPlan,
    head: LayerHead,
    states_of: Callable[[SplitEncoder, Any], tuple[torch.Tensor, ...]] = lone_states,
    corpus: Any = None,
    labels: Sequence[int] = LABELS,
) -> Numbers:
    """Each clip alone through unmodified transformers, with the weights of *encoder* and of *head*."""
    reference, head = trainable_copy(encoder, plan.depth), copy.deepcopy(head)
    reference.zero_grad()
    head.zero_grad()
    logits = []
    for clip, label in zip((corpus or listed_corpus()).waveforms.clips, labels, strict=True):
        logits.append(logits_of_states(head, plan, states_of(reference, clip)))
        functional.cross_entropy(logits[-1], torch.tensor(label), reduction="sum").backward()
    named = [(f"head.{name}", tensor) for name, tensor in head.named_parameters()]
    for number, layer in enumerate(list(reference.layers)[plan.first_trained :]):
        named += [(f"layers.{number}.{name}", tensor) for name, tensor in layer.named_parameters()]
    if plan.depth and reference.final_norm is not None:
        named += [(f"final_norm.{name}", tensor) for name, tensor in reference.final_norm.named_parameters()]
    return Numbers(torch.stack(logits).detach(), gradients_of(named))


def gradients_of(named: Any) -> dict[str, torch.Tensor]:
    found = {}
    for name, tensor in named:
        assert tensor.requires_grad, name
        found[name] = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.clone()
    return found


def distances(found: Numbers, expected: Numbers) -> dict[str, float]:
    """How far apart, by tensor, as a share of the expected one's norm."""
    assert found.gradients.keys() == expected.gradients.keys()
    everything = torch.stack([gradient.norm() for gradient in expected.gradients.values()]).norm()
    floor = FLOORS[expected.logits.dtype] * everything
    shares = {"logits": float((found.logits - expected.logits).norm() / expected.logits.norm())}
    for name, gradient in expected.gradients.items():
        shares[name] = float((found.gradients[name] - gradient).norm() / torch.maximum(gradient.norm(), floor))
    return shares


def assert_equal(found: Numbers, expected: Numbers) -> None:
    tolerance = TOLERANCES[expected.logits.dtype]
    too_far = {name: share for name, share in distances(found, expected).items() if not share <= tolerance}
    assert not too_far
    assert found.logits.dtype == expected.logits.dtype


def both(
    architecture: str, plan: EncoderPlan, rows: Mapping[str, Rows], dtype: torch.dtype = torch.float64
) -> tuple[Numbers, Numbers]:
    encoder = small_encoder(architecture, dtype)
    network = network_of(encoder, plan)
    return our_numbers(network, plan, rows), transformers_numbers(encoder, plan, network.head)


class TestOurPathEqualsTransformers:
    @pytest.mark.parametrize("depth", DEPTHS)
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_from_the_cached_boundary_at_every_depth(self, architecture: str, depth: int, rows_of: RowsOf) -> None:
        plan = plan_of(depth)
        assert plan.start == (None if depth == 0 else NUM_LAYERS - depth)
        assert_equal(*both(architecture, plan, rows_of(architecture, torch.float64)))

    @pytest.mark.parametrize("depth", [0, 2])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_in_float32_up_to_its_rounding(self, architecture: str, depth: int, rows_of: RowsOf) -> None:
        rows = rows_of(architecture, torch.float32)
        assert_equal(*both(architecture, plan_of(depth), rows, torch.float32))

    @pytest.mark.parametrize("depth", DEPTHS)
    @pytest.mark.parametrize("pooling", POOLINGS)
    @pytest.mark.parametrize("layer_mix", LAYER_MIXES)
    def test_with_every_mix_and_pooling(self, layer_mix: str, pooling: str, depth: int, rows_of: RowsOf) -> None:
        rows = rows_of("wav2vec2-large", torch.float64)
        assert_equal(*both("wav2vec2-large", plan_of(depth, layer_mix, pooling), rows))

    @pytest.mark.parametrize("pooling", ["statistics", "attention"])
    @pytest.mark.parametrize("architecture", ["wav2vec2", "wavlm", "whisper"])
    def test_with_other_poolings_of_other_encoders(self, architecture: str, pooling: str, rows_of: RowsOf) -> None:
        rows = rows_of(architecture, torch.float64)
        assert_equal(*both(architecture, plan_of(1, "concat", pooling), rows))

    @pytest.mark.parametrize("depth", [0, 1, NUM_LAYERS])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_from_the_input_where_it_is_masked(self, architecture: str, depth: int, rows_of: RowsOf) -> None:
        plan = plan_of(depth, masks=NO_MASKS, mask_at=INPUT)
        assert plan.start == INPUT
        assert_equal(*both(architecture, plan, rows_of(architecture, torch.float64)))

    @pytest.mark.parametrize("pooling", POOLINGS)
    @pytest.mark.parametrize("depth", [0, 1])
    @pytest.mark.parametrize("layer_mix", LAYER_MIXES)
    def test_from_the_input_with_every_mix_and_pooling(
        self, layer_mix: str, depth: int, pooling: str, rows_of: RowsOf
    ) -> None:
        plan = plan_of(depth, layer_mix, pooling, masks=NO_MASKS, mask_at=INPUT)
        assert_equal(*both("hubert-large", plan, rows_of("hubert-large", torch.float64)))

    @pytest.mark.parametrize("depth", [0, 2])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_from_the_lowest_state_where_attention_reads_a_mix(
        self, architecture: str, depth: int, rows_of: RowsOf
    ) -> None:
        plan = plan_of(depth, "weighted", "attention")
        assert plan.start == 0
        assert_equal(*both(architecture, plan, rows_of(architecture, torch.float64)))

    @pytest.mark.parametrize("start_at_input", [False, True])
    @pytest.mark.parametrize("architecture", ["wav2vec2", "wavlm-large", "whisper"])
    def test_in_train_mode_where_nothing_is_random(
        self, architecture: str, start_at_input: bool, rows_of: RowsOf
    ) -> None:
        plan = plan_of(2, masks=NO_MASKS, mask_at=INPUT if start_at_input else "boundary")
        encoder = small_encoder(architecture, torch.float64)
        network = network_of(encoder, plan).train()
        found = our_numbers(network, plan, rows_of(architecture, torch.float64))
        assert_equal(found, transformers_numbers(encoder, plan, network.head))

    @pytest.mark.parametrize("mask_at", ["boundary", INPUT])
    @pytest.mark.parametrize("depth", [0, 1, NUM_LAYERS])
    def test_whisper_on_odd_numbers_of_frames(self, depth: int, mask_at: str, tmp_path: Any) -> None:
        encoder = small_encoder("whisper", torch.float64)
        plan = plan_of(depth, masks=NO_MASKS if mask_at == INPUT else None, mask_at=mask_at)
        corpus = listed_corpus((6560, 9760, 9760 + 159, 8001))  # 41, 61, 61 and 50 frames
        network = network_of(encoder, plan)
        rows = all_rows(encoder, corpus, torch.float64, tmp_path)
        expected = transformers_numbers(
            encoder,
            plan,
            network.head,
            lambda reference, clip: whisper_by_hand(reference.model, whisper_mel(reference, clip).double()),
            corpus,
        )
        assert_equal(our_numbers(network, plan, rows), expected)


def test_the_loop_by_hand_over_whispers_modules_is_its_encoder() -> None:
    encoder = small_encoder("whisper", torch.float64)
    clip = listed_corpus().waveforms.clips[0]
    by_hand = whisper_by_hand(encoder.model, whisper_mel(encoder, clip).double())
    for state, expected in zip(by_hand, lone_states(trainable_copy(encoder, 0), clip), strict=True):
        torch.testing.assert_close(state, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_cached_boundary_is_transformers_hidden_state_of_the_clip_alone(
    architecture: str, rows_of: RowsOf
) -> None:
    rows, encoder = rows_of(architecture, torch.float64), small_encoder(architecture, torch.float64)
    for index, clip in enumerate(listed_corpus().waveforms.clips):
        for layer, state in enumerate(lone_states(trainable_copy(encoder, 0), clip)):
            torch.testing.assert_close(
                rows[boundary_name(layer)].item(index), state[0], rtol=1e-9, atol=1e-9, msg=f"layer {layer}"
            )


@pytest.mark.parametrize("architecture", ["wav2vec2", "wavlm", "whisper"])
def test_pooled_layers_out_of_the_cache_are_the_computed_ones_in_float32(
    architecture: str, rows_of: RowsOf, tmp_path: Any
) -> None:
    encoder = small_encoder(architecture, torch.float64)
    source = PrefixSource(encoder, "0" * 64, listed_corpus(), PrefixCache(tmp_path, 10**8), "fp64", "fp32")
    cached = source.get([POOLED], max_clip_seconds=5.0)[POOLED].vectors(CLIPS)
    computed = rows_of(architecture, torch.float64)[POOLED].vectors(CLIPS)
    assert torch.equal(cached, computed.float())


@pytest.mark.parametrize(
    ("depth", "layer_mix", "pooling", "mask_at"),
    [(2, "weighted", "mean", "boundary"), (3, "concat", "attention", INPUT)],
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_clip_does_not_see_what_shares_its_batch(
    architecture: str, depth: int, layer_mix: str, pooling: str, mask_at: str, rows_of: RowsOf
) -> None:
    masks = NO_MASKS if mask_at == INPUT else None
    plan = plan_of(depth, layer_mix, pooling, masks=masks, mask_at=mask_at)
    rows = rows_of(architecture, torch.float64)
    network = network_of(small_encoder(architecture, torch.float64), plan)
    together = our_numbers(network, plan, rows).logits
    for companions in ([0], [2, 0], [0, 1, 2], [1, 3], [1, 3, 2, 0]):
        logits = our_numbers(network, plan, rows, companions).logits
        torch.testing.assert_close(logits, together[companions], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("start_at_input", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_stands_in_the_padding_does_not_matter(architecture: str, start_at_input: bool, rows_of: RowsOf) -> None:
    plan = plan_of(1, masks=NO_MASKS, mask_at=INPUT if start_at_input else "boundary")
    rows, encoder = rows_of(architecture, torch.float64), small_encoder(architecture, torch.float64)
    network = network_of(encoder, plan)
    batch = inputs_of(encoder, plan, rows).batch(CLIPS, torch.tensor(LABELS))
    outside = ~frame_mask(batch.lengths, batch.frames.shape[1])[:, :, None]
    filled = batch.frames.masked_fill(outside, 50.0)
    expected = network(*batch.arguments)
    torch.testing.assert_close(network(filled, batch.lengths, batch.pooled), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("architecture", ["wavlm", "wavlm-large"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_wavlms_relative_positions_train_at_full_depth_alone(architecture: str, depth: int, rows_of: RowsOf) -> None:
    plan = plan_of(depth)
    network = network_of(small_encoder(architecture, torch.float64), plan)
    gradients = our_numbers(network, plan, rows_of(architecture, torch.float64)).gradients
    found = [gradient for name, gradient in gradients.items() if "rel_attn_embed" in name]
    assert len(found) == (depth == NUM_LAYERS)
    assert all(gradient.norm() > 1e-6 for gradient in found)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_norm_trains_with_the_layers_where_there_is_one(architecture: str, rows_of: RowsOf) -> None:
    for depth in DEPTHS:
        network = EncoderClassifier(small_encoder(architecture), plan_of(depth), num_classes=NUM_CLASSES)
        assert (network.final_norm is not None) == (architecture in LARGE and depth > 0)


class TestAPlantedFaultIsSeen:
    """The comparisons above would fail, by far, if one of these went wrong."""

    FAR = 1e-4  # a hundred thousand times the tolerance in float64

    @pytest.mark.parametrize("depth", range(1, NUM_LAYERS))
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_frames_of_the_layer_below(self, architecture: str, depth: int, rows_of: RowsOf) -> None:
        boundary = NUM_LAYERS - depth
        rows = rows_of(architecture, torch.float64)
        wrong = {**rows, boundary_name(boundary): rows[boundary_name(boundary - 1)]}
        found, expected = both(architecture, plan_of(depth), wrong)
        assert distances(found, expected)["logits"] > self.FAR
        with pytest.raises(AssertionError):
            assert_equal(found, expected)

    @pytest.mark.parametrize("architecture", LARGE)
    def test_a_last_state_without_the_last_norm(self, architecture: str, rows_of: RowsOf) -> None:
        rows = rows_of(architecture, torch.float64)
        wrong = {**rows, boundary_name(NUM_LAYERS): rows[boundary_name(NUM_LAYERS - 1)]}
        found, expected = both(architecture, plan_of(0, "last", "attention"), wrong)
        assert distances(found, expected)["logits"] > self.FAR

    @pytest.mark.parametrize("depth", [1, 2, 3])
    def test_a_prefix_of_padded_batches_where_a_group_norm_sees_the_padding(self, depth: int, rows_of: RowsOf) -> None:
        encoder = small_encoder("wav2vec2", torch.float64)
        rows = rows_of("wav2vec2", torch.float64)
        features = [encoder.features(clip) for clip in listed_corpus().waveforms.clips]
        name = boundary_name(NUM_LAYERS - depth)
        made = boundaries(encoder, pad_sequence(features, batch_first=True), [name])[name]
        offsets, whole = rows[name].whole.offsets, rows[name]
        values = torch.cat([frames[: len(whole.item(clip))] for clip, frames in enumerate(made)])
        wrong = {**rows, name: replace(whole, whole=Ragged(offsets, values))}
        found, expected = both("wav2vec2", plan_of(depth), wrong)
        assert distances(found, expected)["logits"] > self.FAR
        with pytest.raises(AssertionError):
            assert_equal(found, expected)

    @pytest.mark.parametrize("start_at_input", [False, True])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_padding_that_counts_as_frames(self, architecture: str, start_at_input: bool, rows_of: RowsOf) -> None:
        plan = plan_of(1, masks=NO_MASKS, mask_at=INPUT if start_at_input else "boundary")
        rows = rows_of(architecture, torch.float64)
        encoder = small_encoder(architecture, torch.float64)
        network = network_of(encoder, plan)
        batch = inputs_of(encoder, plan, rows).batch(CLIPS, torch.tensor(LABELS))
        longest = torch.full_like(batch.lengths, int(batch.lengths.max()))
        right = network(batch.frames, batch.lengths, batch.pooled)
        wrong = network(batch.frames, longest, batch.pooled)
        assert float((wrong - right).detach().norm() / right.detach().norm()) > self.FAR

    @pytest.mark.parametrize("architecture", ["wavlm", "wavlm-large"])
    def test_a_bias_for_positions_of_another_layer(self, architecture: str, rows_of: RowsOf) -> None:
        """At full depth the bias is of the trained first layer, not of the frozen one it was copied from."""
        plan, encoder = plan_of(NUM_LAYERS), small_encoder(architecture, torch.float64)
        network = network_of(encoder, plan)
        rows = rows_of(architecture, torch.float64)
        before = our_numbers(network, plan, rows).logits
        with torch.no_grad():
            network.layers[0].attention.rel_attn_embed.weight.mul_(-2.0)
        after = our_numbers(network, plan, rows).logits
        assert float((after - before).norm() / before.norm()) > self.FAR
