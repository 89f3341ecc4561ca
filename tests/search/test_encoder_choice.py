"""From ``--encoder`` to a space with the ranges of the encoder at hand; what does not fit is refused."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from search.arguments import Arguments
from search.encoder_choice import open_space
from search.run_folder import check_same_search, create, load, stored_arguments
from search.space import load_space
from ser_data.errors import UserError
from tests.search.knob_search import knob_spaces


@dataclass(frozen=True)
class FakeSource:
    """An encoder that was found, as ``ser_models.encoders.source`` describes one."""

    name: str
    revision: str | None = None
    model_type: str = "wav2vec2"
    num_layers: int = 12
    pretrained: bool = True
    label: str = "some/encoder"
    spec: str = "spec"


LAYERED = Arguments(space="layered", fix={"fault": "none"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...], bool]]:
    """What was looked for; every name is an encoder, of three layers where it is called ``small``."""
    calls: list[tuple[str, tuple[str, ...], bool]] = []

    def find(name: str, *, types: tuple[str, ...], pretrained: bool) -> FakeSource:
        calls.append((name, types, pretrained))
        bare, _, revision = name.partition("@")
        return FakeSource(bare, revision or None, num_layers=3 if bare == "small" else 12, pretrained=pretrained)

    monkeypatch.setattr("search.encoder_choice._find", find)
    return calls


def test_a_space_has_its_own_encoder_and_the_ranges_of_it(asked: list[Any]) -> None:
    with knob_spaces():
        space, found = open_space(LAYERED)
    assert asked == [("tiny", ("wav2vec2",), True)]
    assert found is not None and (found["num_layers"], found["spec"]) == (12, "spec")
    assert space.values_of("depth") == tuple(range(13))


def test_another_encoder_and_random_weights_can_be_asked_for(asked: list[Any]) -> None:
    with knob_spaces():
        space, found = open_space(dataclasses.replace(LAYERED, encoder="small@abc", pretrained=False))
    assert asked == [("small@abc", ("wav2vec2",), False)]
    assert found is not None and (found["name"], found["revision"], found["pretrained"]) == ("small", "abc", False)
    assert space.values_of("depth") == (0, 1, 2, 3)
    json.dumps(found)


@pytest.mark.usefixtures("asked")
def test_a_depth_that_the_encoder_lacks_is_refused_with_its_range() -> None:
    pinned = dataclasses.replace(LAYERED, encoder="small", fix={"depth": "9"})
    with knob_spaces(), pytest.raises(UserError, match=r"--fix depth=9 is out of range: depth takes .* from 0 to 3"):
        open_space(pinned)


@pytest.mark.usefixtures("asked")
def test_a_parameter_that_is_asked_for_below_a_depth_only_can_be_pinned() -> None:
    with knob_spaces():
        space, _ = open_space(dataclasses.replace(LAYERED, fix={"rate": "1e-4"}))
        assert {config.get("rate") for config in space.corners()} == {None, 1e-4}
        with pytest.raises(UserError, match=r"no parameter 'depht'. It searches: depth, .*rate"):
            open_space(dataclasses.replace(LAYERED, fix={"depht": "2"}))


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"encoder": "tiny"}, "--encoder"),
        ({"pretrained": False}, "--pretrained"),
        ({"precision": "bf16"}, "--precision"),
        ({"cache_precision": "fp32"}, "--cache-precision"),
    ],
)
def test_options_of_encoders_are_refused_where_there_is_none(
    change: dict[str, Any], option: str, asked: list[Any]
) -> None:
    message = rf"{option} does nothing in the space plain, which has no pretrained network. Spaces with one: layered\."
    with knob_spaces(), pytest.raises(UserError, match=message):
        open_space(Arguments(space="plain", **change))
    assert asked == []


def test_a_space_without_an_encoder_asks_for_none(asked: list[Any]) -> None:
    space, found = open_space(Arguments())
    assert (space.name, found, asked) == ("quick", None, [])


def test_a_search_goes_on_with_the_encoder_that_it_began_with(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with knob_spaces():
        _, found = open_space(dataclasses.replace(LAYERED, encoder="some/encoder@abc"))
        open_space(LAYERED, stored=found)  # the space's default may be another one by now
        assert [name for name, *_ in asked] == ["some/encoder@abc"] * 2
        monkeypatch.setattr("search.encoder_choice._find", lambda name, **_: FakeSource(name, num_layers=24))
        with pytest.raises(UserError, match=r"some/encoder is not the one .* num_layers was 12, now it is 24\. Put"):
            open_space(LAYERED, stored=found)


def test_what_cannot_be_found_is_refused_before_data_and_folder(tmp_path: Path) -> None:
    from search.opening import open_search

    missing = str(tmp_path / "nowhere")
    arguments = dataclasses.replace(LAYERED, encoder=missing, data=str(tmp_path / "no data"), out=tmp_path / "run")
    with knob_spaces(), pytest.raises(UserError, match=rf"--encoder {missing}"):
        open_search(arguments, "")
    assert not (tmp_path / "run").exists()


def test_a_folder_of_before_there_were_encoders_is_gone_on_with(tmp_path: Path) -> None:
    create(tmp_path, Arguments(), load_space("quick"), "sample", "")
    config = load(tmp_path)
    for name in ("encoder", "pretrained", "precision", "cache_precision"):
        del config["arguments"][name]
    assert stored_arguments(config) == Arguments()
    check_same_search(tmp_path, stored_arguments(config), Arguments())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder": "tiny"}, r"encoder None there, 'tiny' now"),
        ({"pretrained": False}, r"pretrained True there, False now"),
        ({"precision": "fp32"}, r"precision 'auto' there, 'fp32' now"),
        ({"cache_precision": "fp32"}, r"cache_precision 'bf16' there, 'fp32' now"),
    ],
)
def test_another_encoder_is_another_search(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=rf"holds another search \({message}\)"):
        check_same_search(tmp_path, Arguments(), Arguments(**change))


def test_the_config_says_which_encoder(tmp_path: Path, asked: list[Any]) -> None:
    with knob_spaces():
        space, found = open_space(LAYERED)
    create(tmp_path, LAYERED, space, "sample", "", encoder=found)
    assert load(tmp_path)["plan"]["encoder"] == found
