"""One rule from log-mel frames to images: the clip's own range, silence behind it, ImageNet's scale."""

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ser_data.augment import SpecAugment
from ser_data.features.settings import LogMelSettings
from ser_models.backbones.images import CHANNELS, ImageRecipe

SETTINGS = LogMelSettings(num_mels=20)
FRAMES = 44  # of one second
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def recipe(channels: int = 3, image_size: str | int = "native") -> ImageRecipe:
    settings = dataclasses.replace(SETTINGS, deltas=channels - 1)
    return ImageRecipe(settings, max_clip_seconds=1.0, image_size=image_size)


def clip(num_frames: int, seed: int = 0) -> NDArray[np.float16]:
    """Levels of -70 to -10 dB, and changes of both signs."""
    rng = np.random.default_rng([seed, num_frames])
    levels = rng.uniform(-70, -10, (num_frames, 20))
    changes = rng.normal(0.3, 2.0, (num_frames, 40))
    return np.concatenate([levels, changes], axis=1).astype(np.float16)


def unit(images: torch.Tensor) -> NDArray[np.float64]:
    """Back to [0, 1], (clips, 3, bands, frames)."""
    scaled: NDArray[np.float64] = images.double().numpy() * STD[:, None, None] + MEAN[:, None, None]
    return scaled


def test_three_seconds_at_128_bands_are_the_128_by_130_of_the_notebooks() -> None:
    assert ImageRecipe(LogMelSettings(), 3.0, "native").size == (128, 130)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("num_frames", [10, FRAMES, 60])
def test_each_channel_of_a_clips_own_frames_spans_0_to_1(channels: int, num_frames: int) -> None:
    frames = clip(num_frames)
    (image,) = unit(recipe(channels).images([frames]))
    assert image.shape == (3, 20, FRAMES)
    own = frames[:FRAMES].astype(np.float64)
    for number, plane in enumerate(image):
        block = own[:, :20] if channels == 1 else own[:, 20 * number : 20 * (number + 1)]
        expected = (block - block.min()) / (block.max() - block.min())
        np.testing.assert_allclose(plane[:, : len(own)], expected.T, atol=1e-5)


def test_padding_is_the_quietest_level_and_no_change() -> None:
    frames = clip(10)
    level, delta, delta_delta = unit(recipe().images([frames]))[0, :, :, 10:]
    np.testing.assert_allclose(level, 0.0, atol=1e-6)
    for padding, block in ((delta, frames[:, 20:40]), (delta_delta, frames[:, 40:])):
        low, high = float(block.min()), float(block.max())
        np.testing.assert_allclose(padding, -low / (high - low), atol=1e-5)
        assert 0.2 < padding.mean() < 0.8


def test_padding_is_never_loud_though_a_spectrogram_scaled_to_its_maximum_calls_that_0_db() -> None:
    frames = clip(10)
    frames[:, :20] -= frames[:, :20].max()  # its loudest is now 0
    (image,) = unit(recipe(1).images([frames]))
    assert image[:, :, 10:].max() < 1e-6
    assert image[:, :, :10].max() == pytest.approx(1.0)


def test_a_long_clip_shows_its_start_alone() -> None:
    frames = clip(100)
    assert torch.equal(recipe().images([frames]), recipe().images([frames[:FRAMES]]))


def test_a_clip_does_not_see_what_shares_its_batch() -> None:
    clips = [clip(10), clip(60), clip(30)]
    together = recipe().images(clips)
    for number, frames in enumerate(clips):
        assert torch.equal(recipe().images([frames])[0], together[number])


def test_one_channel_is_three_times_the_same() -> None:
    red, green, blue = unit(recipe(1).images([clip(50)]))[0]
    np.testing.assert_allclose(green, red, atol=1e-6)
    np.testing.assert_allclose(blue, red, atol=1e-6)


def test_the_lowest_band_is_the_first_row() -> None:
    frames = clip(FRAMES)
    frames[:, :20] = np.arange(20)
    (image,) = unit(recipe(1).images([frames]))
    np.testing.assert_allclose(image[0, :, 0], np.arange(20) / 19, atol=1e-6)


def test_a_clip_that_stands_still_has_no_range_and_becomes_dark() -> None:
    (image,) = unit(recipe().images([np.full((20, 60), -100.0, dtype=np.float16)]))
    assert np.isfinite(image).all()
    np.testing.assert_allclose(image[0], 0.0, atol=1e-6)


def test_another_size_is_the_bilinear_picture_of_the_native_one() -> None:
    native, resized = (recipe(image_size=size).images([clip(30), clip(50)]) for size in ("native", 32))
    assert resized.shape == (2, 3, 32, 32)
    assert torch.equal(resized, functional.interpolate(native, size=(32, 32), mode="bilinear", align_corners=False))


class TestMasks:
    MASKS = SpecAugment(time_masks=1, time_width_frames=8, feature_masks=1, feature_width=6, blocks=3)

    def masked(self, seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return recipe().images([clip(30), clip(60)], masks=self.MASKS, generator=generator)

    def test_they_are_imagenets_mean_in_all_channels_alike(self) -> None:
        plain, masked = recipe().images([clip(30), clip(60)]), self.masked(0)
        changed = masked != plain
        assert changed.any()
        assert (masked[changed] == 0).all()
        assert torch.equal(changed[:, 0], changed[:, 1]) and torch.equal(changed[:, 0], changed[:, 2])

    def test_one_seed_gives_one_picture(self) -> None:
        assert torch.equal(self.masked(0), self.masked(0))
        assert not torch.equal(self.masked(0), self.masked(1))


def test_the_key_tells_every_two_recipes_apart() -> None:
    recipes = [
        recipe(),
        recipe(1),
        recipe(image_size=64),
        dataclasses.replace(recipe(), max_clip_seconds=2.0),
        dataclasses.replace(recipe(), settings=LogMelSettings(num_mels=24)),
    ]
    assert len({str(one.key()) for one in recipes}) == len(recipes)
