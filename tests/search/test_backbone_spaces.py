"""What the spaces over image backbones promise."""

from typing import Any

import pytest

from search.families import get_family
from search.space import Space, encoder_spaces, load_space
from ser_models.backbones.plan import IMAGE, BackbonePlan, read_plan
from ser_models.backbones.source import BACKBONE_TYPES

STAGES = 4  # of a ResNet-50
NAMES = ("mel_resnet50_frozen", "mel_resnet50_finetune")


def bound(name: str, **pins: str) -> Space:
    return load_space(name, pins).bound_to(STAGES)


def plans(configs: list[dict[str, Any]]) -> list[BackbonePlan]:
    return [read_plan(config, num_stages=STAGES, max_epochs=1) for config in configs]


@pytest.mark.parametrize("name", NAMES)
def test_both_take_any_backbone_and_images_of_128_by_130(name: str) -> None:
    space = bound(name)
    assert name in encoder_spaces()
    assert set(space.encoder_types) == set(BACKBONE_TYPES)
    assert (128, 130) in {plan.recipe.size for plan in plans(list(space.corners()))}
    assert get_family(space.family).prepare


def test_the_frozen_one_reads_pooled_vectors_alone_and_prepares_every_kind_of_image() -> None:
    space = bound("mel_resnet50_frozen")
    assert {plan.start for plan in plans(list(space.corners()))} == {None}
    prepared = {(plan.recipe.channels, plan.recipe.size) for plan in plans(space.to_prepare())}
    assert prepared == {(channels, size) for channels in (1, 3) for size in ((128, 130), (224, 224))}


def test_a_pin_leaves_passes_out() -> None:
    space = bound("mel_resnet50_frozen", image_size="native", channels="3")
    assert [(plan.recipe.channels, plan.recipe.size) for plan in plans(space.to_prepare())] == [(3, (128, 130))]
    space = bound("mel_resnet50_frozen", image_size="224")
    assert {plan.recipe.size for plan in plans(list(space.corners()))} == {(224, 224)}


def test_fine_tuning_reaches_every_stage_and_the_stem_and_prepares_every_boundary() -> None:
    space = bound("mel_resnet50_finetune")
    assert space.values_of("unfreeze_depth") == (1, 2, 3, 4, 5)
    for channels in (1, 3):
        starts = {plan.start for plan in plans(space.to_prepare()) if plan.recipe.channels == channels}
        assert starts == {3, 2, 1, 0, IMAGE}


def test_images_are_masked_only_where_nothing_of_them_is_cached() -> None:
    configs = list(bound("mel_resnet50_finetune").corners())
    masked = [config for config in configs if config["mask_at"] == "input"]
    assert masked
    assert {config["unfreeze_depth"] for config in masked} == {STAGES + 1}


@pytest.mark.parametrize("name", NAMES)
def test_frozen_and_fine_tuned_trials_have_rungs_of_their_own(name: str) -> None:
    group = get_family("mel_backbones").rung_group
    groups = {group(config) for config in bound(name).corners()}
    assert groups == {"frozen" if name.endswith("frozen") else "fine-tuned"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_to_be_good_fits_a_backbone_of_fewer_stages(name: str) -> None:
    space = load_space(name).bound_to(2)
    for known in space.start_configurations():
        assert known.get("unfreeze_depth", 0) <= 3
