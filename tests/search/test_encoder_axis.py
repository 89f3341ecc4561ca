"""A space over several encoders: which one is a parameter, and each is asked for its own ranges."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import TrialState

from search.encoder_axis import EncoderAxis
from search.parameters import Parameters, Value
from search.proposals import Past, Proposer, SpaceExhausted
from search.space import Space, encoder_spaces, load_space
from ser_data.errors import UserError

LAYERS = {"small": 2, "base": 4, "other base": 4}


def _suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    config: dict[str, Value] = {
        "depth": trial.suggest_int("depth", 0, num_layers),
        "seconds": trial.suggest_categorical("seconds", (5.0, 3.0)),
        "batch": trial.suggest_categorical("batch", (8, 16) if num_layers < 4 else (8,)),
        "rate": trial.suggest_float("rate", 1e-4, 1e-2 / num_layers, log=True),
    }
    if num_layers > 2:
        config["decay"] = trial.suggest_float("decay", 0.5, 1.0)
    return config


KNOWN_GOOD: tuple[dict[str, Value], ...] = (
    {"depth": 0, "seconds": 5.0, "rate": 1e-3},
    {"depth": 3, "seconds": 5.0},
    {"depth": 3, "seconds": 3.0},
)
SPACE = Space("over", "", "encoders", 3, 9, 1, KNOWN_GOOD, _suggest, encoder="x", prepare=("depth", "seconds"))


def axis(num_layers: Mapping[str, int] = LAYERS, **pins: str) -> EncoderAxis:
    return EncoderAxis.over(replace(SPACE, pins=pins), num_layers)


class Asked:
    """Answers with the first value, save for the encoder; notes the names that were asked for."""

    def __init__(self, encoder: str) -> None:
        self._encoder = encoder
        self.names: list[str] = []

    def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
        self.names.append(name)
        return self._encoder if name == "encoder" else choices[0]

    def suggest_int(self, name: str, low: int, high: int, **_: Any) -> int:
        self.names.append(name)
        return low

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        self.names.append(name)
        return low


def names_asked(space: Space, encoder: str) -> list[str]:
    asked = Asked(encoder)
    space.configure(asked)
    return asked.names


def test_a_range_that_differs_has_a_name_of_its_own_and_one_that_does_not_is_shared() -> None:
    assert names_asked(axis(), "small") == [
        "encoder", "depth_0_to_2", "seconds", "batch_of_8_16", "rate_0.0001_to_0.005_log",
    ]  # fmt: skip
    assert names_asked(axis(), "base") == names_asked(axis(), "other base") == [
        "encoder", "depth_0_to_4", "seconds", "batch_of_8", "rate_0.0001_to_0.0025_log", "decay",
    ]  # fmt: skip
    assert names_asked(axis({"base": 4, "other base": 4}), "base") == [
        "encoder", "depth", "seconds", "batch", "rate", "decay",
    ]  # fmt: skip


def test_a_configuration_has_plain_names_and_its_encoder() -> None:
    assert axis().configure(Asked("small")) == {
        "encoder": "small", "depth": 0, "seconds": 5.0, "batch": 8, "rate": 1e-4,
    }  # fmt: skip


def test_the_cheapest_known_good_is_tried_with_every_encoder_and_the_others_with_the_first() -> None:
    assert axis().start_configurations() == [
        {"encoder": "small", "depth_0_to_2": 0, "seconds": 5.0, "rate_0.0001_to_0.005_log": 1e-3},
        {"encoder": "base", "depth_0_to_4": 0, "seconds": 5.0, "rate_0.0001_to_0.0025_log": 1e-3},
        {"encoder": "other base", "depth_0_to_4": 0, "seconds": 5.0, "rate_0.0001_to_0.0025_log": 1e-3},
        {"encoder": "small", "depth_0_to_2": 2, "seconds": 5.0},  # all of its layers
        {"encoder": "small", "depth_0_to_2": 2, "seconds": 3.0},
    ]


def test_known_good_depths_are_those_of_the_encoder_although_a_pin_leaves_the_cheapest_out() -> None:
    pinned = axis({"base": 4, "small": 2}, seconds="3.0").start_configurations()
    assert pinned == [{"encoder": "base", "depth_0_to_4": 3}, {"encoder": "small", "depth_0_to_2": 2}]


def test_a_pin_holds_for_every_encoder() -> None:
    space = axis(depth="1", decay="0.75")
    assert names_asked(space, "small") == ["encoder", "seconds", "batch_of_8_16", "rate_0.0001_to_0.005_log"]
    assert {config["depth"] for config in space.corners()} == {1}
    assert {config["encoder"]: config.get("decay") for config in space.corners()} == {
        "small": None, "base": 0.75, "other base": 0.75,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ({"depth": "3"}, r"--fix depth=3 is out of range: .* whole number from 0 to 2\..* for the encoder small, and"),
        ({"dpeth": "3"}, r"no parameter 'dpeth'. It searches: batch, decay, depth, encoder, rate, seconds"),
        ({"depth_0_to_2": "1"}, r"no parameter 'depth_0_to_2'"),
        ({"encoder": "large"}, r"--fix encoder=large is out of range: encoder takes one of small, base, other base"),
    ],
)
def test_a_pin_that_does_not_fit_is_refused_with_what_is_accepted(pin: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        axis(**pin)


def test_one_of_several_encoders_can_be_pinned() -> None:
    space = axis(encoder="BASE")
    assert names_asked(space, "") == ["depth", "seconds", "batch", "rate", "decay"]
    for configs in (space.corners(), space.to_prepare(), space.smallest_and_largest()):
        assert {config["encoder"] for config in configs} == {"base"}
    assert [known.get("encoder") for known in space.start_configurations()] == [None] * 3


def test_corners_and_what_is_prepared_are_those_of_each_encoder_alone() -> None:
    for label, num_layers in LAYERS.items():
        alone = SPACE.bound_to(num_layers)
        for ours, theirs in (
            (axis().corners(), alone.corners()),
            (axis().to_prepare(), alone.to_prepare()),
            (axis().smallest_and_largest(), alone.smallest_and_largest()),
        ):
            of_label = [dict(config) for config in ours if config["encoder"] == label]
            assert of_label == [{"encoder": label, **config} for config in theirs]
    assert (axis().values_of("encoder"), axis().values_of("depth")) == (tuple(LAYERS), (0, 1, 2, 3, 4))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("name", encoder_spaces())
def test_every_space_over_encoders_serves_several_of_different_depths(name: str, sampler: str) -> None:
    layers = {"two": 2, "five": 5, "twelve": 12, "also twelve": 12}
    space = EncoderAxis.over(load_space(name), layers)
    proposer = Proposer(space, sampler=sampler, seed=0, study_name="t")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna's, of a value out of range
        proposals = [proposer.ask() for _ in range(24)]
        for proposal in proposals[:12]:
            proposer.tell(proposal.number, [0.1 * (proposal.number % 7), 0.5], TrialState.COMPLETE)
        proposals += [proposer.ask() for _ in range(6)]
    num_known = len(space.start_configurations())
    assert [proposal.origin for proposal in proposals] == ["known-good"] * num_known + [sampler] * (30 - num_known)
    assert [proposal.config["encoder"] for proposal in proposals[:4]] == list(layers)
    assert {proposal.config["encoder"] for proposal in proposals[num_known:]} == set(layers)
    for proposal in proposals:
        alone = load_space(name).bound_to(layers[str(proposal.config["encoder"])])
        assert int(proposal.config["unfreeze_depth"]) in {0, *_depths(alone)}
    ranges: dict[str, set[Any]] = {}
    for trial in proposer.frozen_trials:
        for parameter, distribution in trial.distributions.items():
            ranges.setdefault(parameter, set()).add(distribution)
    assert {parameter: found for parameter, found in ranges.items() if len(found) > 1} == {}

    again = Proposer(space, sampler=sampler, seed=0, study_name="t")
    past = [Past(each.params, [0.1 * (each.number % 7), 0.5], TrialState.COMPLETE) for each in proposals[:12]]
    past += [Past(each.params, [], TrialState.RUNNING) for each in proposals[12:24]]
    again.replay(past, [*range(24), *range(12)])
    assert [again.ask() for _ in range(6)] == proposals[24:]


def _depths(space: Space) -> tuple[Value, ...]:
    return space.values_of("unfreeze_depth") if "unfreeze_depth" in space._known() else ()


def test_a_grid_holds_every_encoder_with_its_own_depths() -> None:
    space = axis({"small": 2, "base": 4}, seconds="5.0", rate="0.001", batch="8", decay="1.0")
    proposer = Proposer(space, sampler="grid", seed=0, study_name="t")
    tried = set()
    with pytest.raises(SpaceExhausted):
        for _ in range(20):
            proposal = proposer.ask()
            tried.add((proposal.config["encoder"], proposal.config["depth"]))
            proposer.tell(proposal.number, [0.5], TrialState.COMPLETE)
    assert tried == {*(("small", depth) for depth in range(3)), *(("base", depth) for depth in range(5))}
