"""A search as a W&B sweep: what its parameters are called there, and which ranges they have."""

import pytest
import yaml

from search.encoder_axis import EncoderAxis
from search.space import known_spaces, load_space
from search.tracking.sweep import create_sweep, describe_sweep, set_sweep_state, sweep_parameters, sweep_state
from tests.search.boards import config_json
from tests.search.test_encoder_axis import SPACE
from tests.search.wandb_server import WandbServer

SHAPES = {
    frozenset({"values"}),
    frozenset({"distribution", "min", "max"}),
    frozenset({"distribution", "min", "max", "q"}),
}


def test_choices_whole_numbers_and_rates_are_described_as_wandb_does() -> None:
    parameters = sweep_parameters(load_space("mfcc_full"))
    assert parameters["pooling"] == {"values": ["mean", "max", "statistics", "attention"]}
    assert parameters["blocks"] == {"distribution": "int_uniform", "min": 2, "max": 4}
    assert parameters["dropout"] == {"distribution": "uniform", "min": 0.0, "max": 0.6}
    assert parameters["learning_rate"] == {"distribution": "log_uniform_values", "min": 1e-4, "max": 5e-3}


def test_parameters_of_every_branch_are_there_and_pinned_ones_are_not() -> None:
    parameters = sweep_parameters(load_space("mfcc_full"))
    assert {"sgd_learning_rate", "recurrent_layers", "hidden_layers", "time_mask_frames"} <= set(parameters)
    pinned = sweep_parameters(load_space("mfcc_full", {"network": "cnn", "optimiser": "adamw"}))
    assert set(parameters) - set(pinned) == {
        "network", "optimiser", "sgd_learning_rate", "hidden_units", "hidden_layers", "recurrent_units",
        "recurrent_layers",
    }  # fmt: skip


@pytest.mark.parametrize("name", known_spaces())
def test_every_space_can_be_described(name: str) -> None:
    space = load_space(name)
    parameters = sweep_parameters(space if space.encoder is None else space.bound_to(6))
    assert parameters
    assert {frozenset(found) for found in parameters.values()} <= SHAPES
    assert all(found["min"] < found["max"] for found in parameters.values() if "min" in found)


def test_several_encoders_are_a_parameter_and_ranges_that_differ_become_one_under_the_plain_name() -> None:
    parameters = sweep_parameters(EncoderAxis.over(SPACE, {"small": 2, "base": 4}))
    assert parameters["encoder"] == {"values": ["small", "base"]}
    assert parameters["depth"] == {"distribution": "int_uniform", "min": 0, "max": 4}
    assert parameters["batch"] == {"values": [8, 16]}
    assert not [name for name in parameters if "_to_" in name]
    pinned = EncoderAxis.over(SPACE.__class__(**{**vars(SPACE), "pins": {"encoder": "small"}}), {"small": 2, "base": 4})
    assert "encoder" not in sweep_parameters(pinned)


def test_a_sweep_without_a_searched_parameter_has_the_seed() -> None:
    assert describe_sweep("run", config_json(), {})["parameters"] == {"seed": {"value": 3}}


def test_the_server_gets_the_metric_the_method_and_a_warning_against_agents(wandb_server: WandbServer) -> None:
    described = describe_sweep("my run", config_json(), sweep_parameters(load_space("quick")))
    name = create_sweep(described, project="p", entity="e", prior_runs=["before"])
    made = wandb_server.sweeps[name]
    config = yaml.safe_load(made.config)
    assert config["metric"] == {"name": "best_val_uar", "goal": "maximize"}
    assert (config["name"], config["method"]) == ("my run", "custom")
    assert "Do not start a W&B agent" in config["description"]
    assert config["parameters"]["network"] == {"values": ["statistics_mlp", "cnn"]}
    assert made.prior_runs == ("before",)
    where = {"project": "p", "entity": "e"}
    for state in ("RUNNING", "PAUSED", "RUNNING", "FINISHED", "FINISHED", "RUNNING"):
        set_sweep_state(name, state, **where)  # type: ignore[arg-type]
        assert sweep_state(name, **where) == state
    assert sweep_state("unknown", **where) is None
