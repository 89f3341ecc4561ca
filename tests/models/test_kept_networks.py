"""Frozen networks in the memory of a process: as many as fit, the longest unused goes first."""

import weakref
from typing import Any

import pytest
from torch import nn

from ser_models.encoders.loading import load_encoder
from ser_models.encoders.source import find_encoder
from ser_models.pretrained.kept import KeptNetworks

BYTES = {"small": 100 * 4, "other": 100 * 4, "large": 300 * 4}


@pytest.fixture
def loaded() -> list[str]:
    return []


def networks(loaded: list[str], max_bytes: int) -> KeptNetworks[nn.Linear]:
    def load(spec: str) -> nn.Linear:
        loaded.append(spec)
        return nn.Linear(BYTES[spec] // 4, 1, bias=False)

    return KeptNetworks(load, max_bytes)


def test_networks_that_fit_are_read_once(loaded: list[str]) -> None:
    kept = networks(loaded, 1000)
    first = [kept("small"), kept("other")]
    assert [kept("small"), kept("other")] == first
    assert loaded == ["small", "other"]


def test_the_longest_unused_goes_before_another_is_read(loaded: list[str]) -> None:
    kept = networks(loaded, 1000)
    kept("small"), kept("other"), kept("small")
    kept("large")  # while it is read, half of the bytes at most are taken by others, and behind it all of them
    assert kept.specs == ["large"]
    kept("small")
    assert (kept.specs, loaded) == (["small"], ["small", "other", "large", "small"])


def test_one_that_is_too_large_is_kept_alone_and_nothing_refers_to_those_that_went(loaded: list[str]) -> None:
    kept = networks(loaded, 1000)
    gone = weakref.ref(kept("small"))
    large = kept("large")
    assert kept("large") is large
    assert (gone(), loaded) == (None, ["small", "large"])


def test_what_cannot_be_read_leaves_nothing_behind(loaded: list[str]) -> None:
    kept = networks(loaded, 1000)
    with pytest.raises(KeyError):
        kept("missing")
    assert kept.specs == []


def test_encoders_of_two_kinds_stay_for_the_next_trials_and_free_their_memory_when_they_go() -> None:
    specs = [find_encoder("tiny", types=(kind,)).spec for kind in ("wav2vec2", "hubert")]
    load_encoder.cache_clear()
    first: Any = load_encoder(specs[0])
    load_encoder(specs[1])
    assert load_encoder(specs[0]) is first
    gone = weakref.ref(first)
    del first
    load_encoder.cache_clear()
    assert gone() is None
