"""Cached maps and pooled vectors give the numbers of unmodified transformers on the whole image."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ser_data.augment import SpecAugment
from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.batches import BackboneBatches, BackboneInputs, Images, Maps, PooledVectors
from ser_models.backbones.model import BackboneClassifier
from ser_models.backbones.plan import IMAGE, BackbonePlan
from ser_models.backbones.prefix import POOLED, PrefixPass, PrefixSource, map_name
from ser_models.prefix_cache import PrefixCache, Ragged
from tests.models.backbone_clips import (
    ARCHITECTURES,
    CLIPS,
    LABELS,
    NUM_CLASSES,
    NUM_STAGES,
    listed_frames,
    listed_images,
    plan_of,
    recipe_of,
    small_backbone,
    trained_parts,
)

EVERY_DEPTH = [(name, depth) for name in ARCHITECTURES for depth in range(NUM_STAGES[name] + 2)]
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
FLOORS = {torch.float64: 1e-6, torch.float32: 1e-2}  # below this share of all gradients, one tensor's is rounding
DTYPE_NAMES = {torch.float64: "fp64", torch.float32: "fp32"}
NO_MASKS = SpecAugment(blocks=3)  # in name only: they move the start of a plan to the image

PrefixesOf = Callable[[str, torch.dtype], Mapping[str, Ragged]]


@dataclass
class Numbers:
    """Logits of clips and the gradients of the sum of their losses, by the names of `BackboneClassifier`."""

    logits: torch.Tensor
    gradients: dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def prefixes_of(tmp_path_factory: pytest.TempPathFactory) -> PrefixesOf:
    """Every boundary of the listed clips: maps out of a real cache, pooled vectors as they are computed."""
    made: dict[tuple[str, torch.dtype], Mapping[str, Ragged]] = {}

    def prefixes(architecture: str, dtype: torch.dtype) -> Mapping[str, Ragged]:
        if (architecture, dtype) not in made:
            work = PrefixPass(small_backbone(architecture, dtype), listed_frames(), recipe_of(), "fp32")
            cache = PrefixCache(tmp_path_factory.mktemp("prefixes"), 10**8)
            source = PrefixSource(work, "0" * 64, "listed", cache, DTYPE_NAMES[dtype])
            names = [map_name(stage) for stage in range(NUM_STAGES[architecture] + 1)]
            # The cache keeps pooled vectors in float32, which would be all that a comparison in float64 sees.
            made[architecture, dtype] = {**source.get(names), **work.few(CLIPS, [POOLED])}
        return made[architecture, dtype]

    return prefixes


def network_of(backbone: SplitBackbone, plan: BackbonePlan) -> BackboneClassifier:
    """In eval mode, with a head that is not at its initialisation."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = BackboneClassifier(backbone, plan, num_classes=NUM_CLASSES).to(backbone.dtype)
        network.head.shift.normal_()
        network.head.scale.uniform_(0.5, 2.0)
    return network.eval()


def inputs_of(backbone: SplitBackbone, plan: BackbonePlan, prefixes: Mapping[str, Ragged]) -> BackboneInputs:
    if plan.start is None:
        return PooledVectors(prefixes[POOLED])
    if plan.start == IMAGE:
        return Images(listed_frames(), plan.recipe, plan.masks)
    _, height, width = backbone.map_shapes(*plan.recipe.size)[int(plan.start)]
    return Maps(prefixes[map_name(int(plan.start))], height, width)


def our_numbers(network: BackboneClassifier, plan: BackbonePlan, prefixes: Mapping[str, Ragged]) -> Numbers:
    network.zero_grad()
    inputs = inputs_of(network.backbone, plan, prefixes)
    batches = BackboneBatches(inputs, torch.tensor(LABELS).numpy(), CLIPS, batch_size=len(CLIPS), shuffle=False)
    (batch,) = batches.epoch(None)
    logits = network(*batch.arguments)
    functional.cross_entropy(logits, batch.labels, reduction="sum").backward()
    named = [(name, tensor) for name, tensor in network.named_parameters() if tensor.requires_grad]
    return Numbers(logits.detach(), {name: tensor.grad.clone() for name, tensor in named if tensor.grad is not None})


def transformers_numbers(architecture: str, plan: BackbonePlan, network: BackboneClassifier) -> Numbers:
    """The whole images through transformers' model, its trained parts in the mode of *network*, the others in eval."""
    backbone = network.backbone
    model, head = copy.deepcopy(backbone.model).requires_grad_(False).eval(), copy.deepcopy(network.head)
    head.zero_grad()
    parts = trained_parts(architecture, plan.depth)
    for theirs in parts:
        part = model.get_submodule(theirs).requires_grad_(True).train(network.training)
        for norm in part.modules():
            if isinstance(norm, nn.BatchNorm2d) and plan.batch_norm == "frozen":
                norm.requires_grad_(False).eval()
    pooled = model(listed_images(plan.recipe).to(backbone.dtype)).pooler_output
    logits = head(pooled.flatten(1))
    functional.cross_entropy(logits, torch.tensor(LABELS), reduction="sum").backward()
    gradients = {f"head.{name}": tensor.grad for name, tensor in head.named_parameters()}
    for theirs, ours in parts.items():
        gradients |= {
            f"{ours}.{name}": tensor.grad
            for name, tensor in model.get_submodule(theirs).named_parameters()
            if tensor.requires_grad
        }
    return Numbers(logits.detach(), {name: gradient for name, gradient in gradients.items() if gradient is not None})


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
    assert found.logits.dtype == expected.logits.dtype
    too_far = {name: share for name, share in distances(found, expected).items() if not share <= tolerance}
    assert not too_far
    assert expected.logits.std(dim=0).max() > 1e-2  # clips that all look alike would show nothing


class TestOurPathEqualsTransformers:
    @pytest.mark.parametrize(("architecture", "depth"), EVERY_DEPTH)
    def test_from_the_cached_boundary_at_every_depth(
        self, architecture: str, depth: int, prefixes_of: PrefixesOf
    ) -> None:
        plan, num_stages = plan_of(architecture, depth), NUM_STAGES[architecture]
        assert plan.start == (None if depth == 0 else IMAGE if depth > num_stages else num_stages - depth)
        network = network_of(small_backbone(architecture, torch.float64), plan)
        found = our_numbers(network, plan, prefixes_of(architecture, torch.float64))
        assert_equal(found, transformers_numbers(architecture, plan, network))
        assert any(name.startswith("stem.") for name in found.gradients) == (depth > num_stages)

    @pytest.mark.parametrize(("architecture", "depth"), [entry for entry in EVERY_DEPTH if entry[1]])
    def test_with_trained_batch_norms_in_train_mode(
        self, architecture: str, depth: int, prefixes_of: PrefixesOf
    ) -> None:
        plan = plan_of(architecture, depth, batch_norm="trained")
        network = network_of(small_backbone(architecture, torch.float64), plan).train()
        found = our_numbers(network, plan, prefixes_of(architecture, torch.float64))
        assert_equal(found, transformers_numbers(architecture, plan, network))
        assert any("norm" in name or "_bn" in name for name in found.gradients)

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_with_frozen_batch_norms_in_train_mode(self, architecture: str, prefixes_of: PrefixesOf) -> None:
        plan = plan_of(architecture, 2)
        network = network_of(small_backbone(architecture, torch.float64), plan).train()
        found = our_numbers(network, plan, prefixes_of(architecture, torch.float64))
        assert_equal(found, transformers_numbers(architecture, plan, network))

    @pytest.mark.parametrize("depth", [1, 2])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_from_the_image_where_it_is_masked(self, architecture: str, depth: int, prefixes_of: PrefixesOf) -> None:
        plan = plan_of(architecture, depth, masks=NO_MASKS)
        assert plan.start == IMAGE
        network = network_of(small_backbone(architecture, torch.float64), plan)
        found = our_numbers(network, plan, prefixes_of(architecture, torch.float64))
        assert_equal(found, transformers_numbers(architecture, plan, network))

    @pytest.mark.parametrize("depth", [0, 1])
    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_in_float32_up_to_its_rounding(self, architecture: str, depth: int, prefixes_of: PrefixesOf) -> None:
        plan = plan_of(architecture, depth)
        network = network_of(small_backbone(architecture), plan)
        found = our_numbers(network, plan, prefixes_of(architecture, torch.float32))
        assert_equal(found, transformers_numbers(architecture, plan, network))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_boundary_planted_one_stage_too_low_is_noticed(architecture: str, prefixes_of: PrefixesOf) -> None:
    plan = plan_of(architecture, NUM_STAGES[architecture] - 1)
    prefixes = prefixes_of(architecture, torch.float64)
    assert plan.start == 1
    planted = {**prefixes, map_name(1): prefixes[map_name(0)]}  # of one shape
    assert planted[map_name(1)].values.shape == prefixes[map_name(1)].values.shape
    network = network_of(small_backbone(architecture, torch.float64), plan)
    with pytest.raises(AssertionError):
        assert_equal(our_numbers(network, plan, planted), transformers_numbers(architecture, plan, network))


@pytest.mark.parametrize("image_size", ["native", 64])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pooled_vectors_are_transformers_pooler_output(architecture: str, image_size: str | int, tmp_path: Any) -> None:
    backbone, recipe = small_backbone(architecture), recipe_of(image_size=image_size)
    source = PrefixSource(
        PrefixPass(backbone, listed_frames(), recipe, "fp32"), "0" * 64, "listed", PrefixCache(tmp_path, 10**8), "bf16"
    )
    found = source.get([POOLED])[POOLED].values
    with torch.no_grad():
        expected = backbone.model(listed_images(recipe)).pooler_output.flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.shape == (len(CLIPS), backbone.dim)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_clip_does_not_see_what_shares_its_batch_in_the_pass(architecture: str) -> None:
    work = PrefixPass(small_backbone(architecture, torch.float64), listed_frames(), recipe_of(), "fp32")
    names = [map_name(1), POOLED]
    together = work.compute(CLIPS, names)
    for clip in CLIPS:
        alone = work.compute(CLIPS[clip : clip + 1], names)
        for name in names:
            torch.testing.assert_close(alone[name][0], together[name][clip], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("architecture", "stride"), [("basic", 16), ("bottleneck", 8), ("efficientnet", 8)])
def test_the_total_stride_is_that_of_the_last_map(architecture: str, stride: int) -> None:
    backbone = small_backbone(architecture)
    assert backbone.total_stride == stride
    assert backbone.map_shapes(4 * stride, 3 * stride)[-1][1:] == (4, 3)
    assert backbone.map_shapes(stride, stride)[-1][1:] == (1, 1)
