"""Spaces: found by name, pinned inside their ranges, enumerated at their corners."""

from typing import Any

import pytest

from search.families import FAMILIES
from search.proposals import Proposer
from search.space import Parameters, Space, Value, _Corner, known_spaces, load_space, space_summary
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


@pytest.mark.parametrize("name", known_spaces())
def test_every_space_is_complete_and_its_known_good_configurations_are_evaluated_as_they_stand(name: str) -> None:
    space = load_space(name)
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

    space = load_space(name)
    for structure in space._structures():
        space._suggest(Ranges(_Corner(structure, high=False)))
    assert {name: found for name, found in ranges.items() if len(found) > 1} == {}
