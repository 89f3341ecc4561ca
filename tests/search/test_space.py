"""Spaces: found by name, pinned inside their ranges, enumerated at their corners."""

import warnings
from dataclasses import replace
from typing import Any

import pytest

from search.answers import Corner
from search.families import FAMILIES
from search.parameters import Parameters, Value
from search.proposals import Proposer
from search.space import Space, encoder_spaces, known_spaces, load_space, space_summary
from ser_data.errors import UserError


def _nested(trial: Parameters) -> dict[str, Value]:
    config: dict[str, Value] = {"outer": trial.suggest_categorical("outer", ("plain", "deep"))}
    if config["outer"] == "deep":
        config["inner"] = trial.suggest_categorical("inner", ("a", "b"))
        if config["inner"] == "b":
            config["width"] = trial.suggest_int("width", 1, 5)
    config["free"] = trial.suggest_categorical("free", (10, 20))
    config["rate"] = trial.suggest_float("rate", 0.1, 0.9)
    return config


NESTED = Space("nested", "", "mfcc", 3, 9, 1, ({"outer": "deep", "inner": "b", "width": 2},), _nested)


def test_corners_visit_every_combination_of_choices_that_change_what_is_asked() -> None:
    corners = list(NESTED.corners())
    assert {(c["outer"], c.get("inner"), c.get("width")) for c in corners} == {
        ("plain", None, None), ("deep", "a", None), ("deep", "b", 1), ("deep", "b", 5),
    }  # fmt: skip
    assert {(c["free"], c["rate"]) for c in corners} == {(10, 0.1), (20, 0.9)}


def test_an_unknown_space_lists_the_known_ones_and_says_how_to_add_one() -> None:
    with pytest.raises(
        UserError, match=r"'mfcc_fsat' is not known. Known spaces: .*mfcc_fast.*search/spaces/mfcc_fsat"
    ):
        load_space("mfcc_fsat")


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ({"netwrok": "cnn"}, r"no parameter 'netwrok'. It searches: .*network"),
        ({"network": "lstm"}, r"--fix network=lstm is out of range: network takes one of statistics_mlp, cnn"),
        ({"learning_rate": "7"}, r"learning_rate takes a number from 0.0003 to 0.005"),
        ({"learning_rate": "fast"}, r"learning_rate takes a number from"),
        ({"blocks": "2.5"}, r"blocks takes a whole number from 2 to 3"),
    ],
)
def test_a_pin_that_does_not_fit_is_refused_with_what_is_accepted(pin: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_space("mfcc_fast", pin)


def test_a_pinned_parameter_is_fixed_in_every_configuration_and_hidden_from_the_sampler() -> None:
    space = load_space("mfcc_fast", {"network": "cnn", "spec_augment": "false", "blocks": "3"})
    proposer = Proposer(space, sampler="random", seed=0, study_name="t")
    for _ in range(8):
        proposal = proposer.ask()
        assert (proposal.config["network"], proposal.config["spec_augment"], proposal.config["blocks"]) == (
            "cnn",
            False,
            3,
        )
        assert not {"network", "spec_augment", "blocks"} & set(proposal.params)


def test_known_good_configurations_that_contradict_a_pin_are_left_out() -> None:
    assert [known["network"] for known in load_space("mfcc_fast").start_configurations()] == ["statistics_mlp", "cnn"]
    pinned = load_space("mfcc_fast", {"network": "cnn"}).start_configurations()
    assert len(pinned) == 1 and "channels" in pinned[0]


def loaded(name: str) -> Space:
    """A space; one over encoders, with the ranges of a large one."""
    space = load_space(name)
    return space if space.encoder is None else space.bound_to(24)


@pytest.mark.parametrize("name", known_spaces())
def test_every_space_is_complete_and_its_known_good_configurations_are_evaluated_as_they_stand(name: str) -> None:
    space = loaded(name)
    assert space.family in FAMILIES
    assert 1 <= space.grace <= space.max_epochs
    assert space_summary(name)
    proposer = Proposer(space, sampler="tpe", seed=0, study_name="t")
    for known in space.known_good:
        proposal = proposer.ask()
        assert known.items() <= proposal.config.items() | proposal.params.items()
        assert proposal.origin == "known-good"


@pytest.mark.parametrize("name", known_spaces())
def test_a_parameter_has_one_range_wherever_a_space_asks_for_it(name: str) -> None:
    ranges: dict[str, set[Any]] = {}

    class Ranges:
        """Notes every question and leaves the answer to a corner."""

        def __init__(self, corner: Parameters) -> None:
            self._corner = corner

        def suggest_categorical(self, name: str, choices: tuple[Any, ...]) -> Any:
            ranges.setdefault(name, set()).add(choices)
            return self._corner.suggest_categorical(name, choices)

        def suggest_int(self, name: str, low: int, high: int, **how: Any) -> int:
            ranges.setdefault(name, set()).add((low, high, *how.items()))
            return self._corner.suggest_int(name, low, high, **how)

        def suggest_float(self, name: str, low: float, high: float, **how: Any) -> float:
            ranges.setdefault(name, set()).add((low, high, *how.items()))
            return self._corner.suggest_float(name, low, high, **how)

    space = loaded(name)
    for structure in space._structures():
        for high in (False, True):
            space._ask(Ranges(Corner(structure, high=high)))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}


@pytest.mark.parametrize("name", known_spaces())
def test_a_trial_is_never_longer_than_its_space_says(name: str) -> None:
    space = loaded(name)
    assert all(1 <= int(config.get("epochs", 1)) <= space.max_epochs for config in space.corners())


@pytest.mark.parametrize("name", encoder_spaces())
@pytest.mark.parametrize("num_layers", [2, 4, 6, 12, 24])
def test_a_space_over_encoders_serves_small_and_large_ones(name: str, num_layers: int) -> None:
    space = load_space(name).bound_to(num_layers)
    proposer = Proposer(space, sampler="tpe", seed=0, study_name="t")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Optuna's, of a value out of range
        origins = [proposer.ask().origin for _ in space.start_configurations()]
    assert set(origins) == {"known-good"}
    prepared = space.to_prepare()
    assert prepared and all(config in prepared for config in space.to_prepare())
    assert FAMILIES[space.family].prepare == bool(space.prepare)


def _over_encoder(trial: Parameters, num_layers: int) -> dict[str, Value]:
    config: dict[str, Value] = {
        "depth": trial.suggest_int("depth", 0, num_layers),
        "seconds": trial.suggest_categorical("seconds", (5.0, 3.0)),
        "rate": trial.suggest_float("rate", 0.1, 0.9),
    }
    if config["depth"] != 0:
        config["mask"] = trial.suggest_categorical("mask", ("input", "boundary"))
        if config["mask"] == "boundary":
            config["span"] = trial.suggest_int("span", 2, 6, step=2)
    return config


ENCODER = Space(
    "over", "", "encoders", 3, 9, 1, ({"depth": 9, "seconds": 3.0}, {"depth": 3, "seconds": 3.0}, {"depth": 0}),
    _over_encoder, encoder="some/encoder", prepare=("depth", "seconds", "mask"),
)  # fmt: skip


def pinned(num_layers: int = 3, **pins: str) -> Space:
    return replace(ENCODER, pins=pins).bound_to(num_layers)


def test_a_whole_number_that_decides_what_is_asked_is_visited_on_both_sides() -> None:
    corners = list(pinned(12).corners())
    assert {(c["depth"], c.get("mask"), c.get("span")) for c in corners} == {
        (0, None, None), (1, "input", None), (12, "input", None), (1, "boundary", 2), (1, "boundary", 6),
        (12, "boundary", 2), (12, "boundary", 6),
    }  # fmt: skip


def test_all_values_of_a_parameter_can_be_listed() -> None:
    space = pinned()
    assert (space.values_of("depth"), space.values_of("seconds")) == ((0, 1, 2, 3), (5.0, 3.0))
    assert (space.values_of("mask"), space.values_of("span")) == (("input", "boundary"), (2, 4, 6))
    assert load_space("quick").values_of("network") == ("statistics_mlp", "cnn")


def test_a_pinned_parameter_has_one_value_and_one_that_is_not_asked_for_none() -> None:
    assert pinned(depth="2", rate="0.5").values_of("depth") == (2,)
    assert pinned(rate="0.5").values_of("rate") == (0.5,)
    assert pinned(depth="0").values_of("span") == ()


def test_values_that_cannot_be_listed_are_refused() -> None:
    with pytest.raises(ValueError, match="'rate' of the space over is continuous"):
        pinned().values_of("rate")
    with pytest.raises(ValueError, match="over has no parameter 'dpeth'"):
        pinned().values_of("dpeth")


def test_what_is_prepared_is_every_combination_once_with_all_else_at_its_first_value() -> None:
    configs = pinned().to_prepare()
    assert [(c["depth"], c["seconds"], c.get("mask")) for c in configs if c["seconds"] == 5.0] == [
        (0, 5.0, None), *((depth, 5.0, mask) for depth in (1, 2, 3) for mask in ("input", "boundary")),
    ]  # fmt: skip
    assert len(configs) == 14
    assert {(c["rate"], c.get("span", 2)) for c in configs} == {(0.1, 2)}
    only = pinned(depth="0", seconds="3.0").to_prepare()
    assert only == [{"depth": 0, "seconds": 3.0, "rate": 0.1}]


def test_a_known_good_depth_that_an_encoder_lacks_stands_for_all_of_its_layers() -> None:
    assert pinned(3).start_configurations() == [{"depth": 3, "seconds": 3.0}, {"depth": 0}]
    assert pinned(12).start_configurations()[:2] == [{"depth": 9, "seconds": 3.0}, {"depth": 3, "seconds": 3.0}]
    assert pinned(3, depth="3").start_configurations() == [{"seconds": 3.0}]
