"""No parameter of a configuration is ignored, and every refusal says what to do."""

import numpy as np
import pytest

from ser_models.config import ConfigError, ReadConfig


def read(**values: object) -> ReadConfig:
    return ReadConfig(values, owner="mfcc")


def test_what_was_read_is_recorded_with_its_value() -> None:
    config = read(channels=32, dropout=0.3, pooling="mean", class_weights=True)
    assert config.integer("channels", low=8, high=64) == 32
    assert config.number("dropout", low=0.0, high=0.7) == 0.3
    assert config.choice("pooling", ("mean", "max")) == "mean"
    assert config.flag("class_weights") is True
    assert config.finish() == {"channels": 32, "dropout": 0.3, "pooling": "mean", "class_weights": True}


def test_numpy_scalars_become_pythons_own() -> None:
    config = read(channels=np.int64(32), dropout=np.float32(0.5), class_weights=np.bool_(True))
    values = [
        config.integer("channels", low=8, high=64),
        config.number("dropout", low=0.0, high=0.7),
        config.flag("class_weights"),
    ]
    assert [type(value) for value in values] == [int, float, bool]


def test_a_whole_float_is_a_whole_number() -> None:
    value = read(channels=32.0).integer("channels", low=8, high=64)
    assert value == 32
    assert isinstance(value, int)


def test_unread_parameters_are_named() -> None:
    config = read(channels=32, kernal_size=5, extra=1)
    config.take("channels")
    with pytest.raises(ConfigError, match=r"holds 'kernal_size', 'extra', which this trial does not read.*Remove them"):
        config.finish()


def test_a_misspelt_parameter_is_recognised() -> None:
    config = read(kernal_size=5, kernel_size=5)
    config.take("kernel_size")
    with pytest.raises(ConfigError, match=r"'kernal_size': did you mean 'kernel_size'\?"):
        config.finish()


def test_a_missing_parameter_is_named_with_what_it_accepts() -> None:
    with pytest.raises(ConfigError, match=r"lacks 'dropout'. It holds 'channels'. Add 'dropout'.*from 0 to 0.7"):
        read(channels=32).number("dropout", low=0.0, high=0.7)
    with pytest.raises(ConfigError, match=r"lacks 'pooling'.*one of 'mean', 'max'"):
        read().choice("pooling", ("mean", "max"))


@pytest.mark.parametrize("value", [7, 65, 8.5, float("nan"), float("inf"), "32", True, None])
def test_a_whole_number_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"channels = .*Accepted is .*from 8 to 64.*Change the range of 'channels'"):
        read(channels=value).integer("channels", low=8, high=64)


@pytest.mark.parametrize("value", [-0.1, 0.71, float("nan"), "0.3", False])
def test_a_number_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"dropout = .*Accepted is a number from 0 to 0.7"):
        read(dropout=value).number("dropout", low=0.0, high=0.7)


@pytest.mark.parametrize("value", ["median", 1, True])
def test_a_choice_that_is_not_offered_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"pooling = .*Accepted is one of 'mean', 'max'"):
        read(pooling=value).choice("pooling", ("mean", "max"))


def test_true_is_not_one() -> None:
    with pytest.raises(ConfigError, match="kernel_size = True"):
        read(kernel_size=True).take("kernel_size", choices=(1, 3))


@pytest.mark.parametrize("value", [1, "true", None])
def test_a_flag_is_true_or_false(value: object) -> None:
    with pytest.raises(ConfigError, match=r"class_weights = .*Accepted is True or False"):
        read(class_weights=value).flag("class_weights")


def test_a_list_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is \[1, 2\] of type list. Accepted are text, numbers"):
        read(channels=[1, 2]).take("channels")
