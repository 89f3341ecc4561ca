"""From ``--encoder`` to a space with the ranges of the encoder at hand; what does not fit is refused."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from search.arguments import Arguments
from search.encoder_choice import open_space
from search.encoders import encoder_of, encoders_of
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

    @property
    def is_folder(self) -> bool:
        return self.name.startswith("/")


LAYERED = Arguments(space="layered", fix={"fault": "none"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...], bool]]:
    """What was looked for; every name is an encoder, of three layers where it is called ``small``."""
    calls: list[tuple[str, tuple[str, ...], bool]] = []

    def find(name: str, *, types: tuple[str, ...], pretrained: bool) -> FakeSource:
        calls.append((name, types, pretrained))
        bare, _, revision = name.partition("@")
        label = "some/encoder" if bare == "tiny" else Path(bare).name if bare.startswith("/") else bare
        layers = 3 if bare == "small" else 12
        return FakeSource(bare, revision or None, num_layers=layers, pretrained=pretrained, label=label)

    monkeypatch.setattr("search.encoder_choice._find", find)
    return calls


def test_a_space_has_its_own_encoder_and_the_ranges_of_it(asked: list[Any]) -> None:
    with knob_spaces():
        space, found = open_space(LAYERED)
    assert asked == [("tiny", ("wav2vec2",), True)]
    assert [(encoder["num_layers"], encoder["spec"]) for encoder in found] == [(12, "spec")]
    assert space.values_of("depth") == tuple(range(13))


def test_another_encoder_and_random_weights_can_be_asked_for(asked: list[Any]) -> None:
    with knob_spaces():
        space, found = open_space(dataclasses.replace(LAYERED, encoder="small@abc", pretrained=False))
    assert asked == [("small@abc", ("wav2vec2",), False)]
    assert [(each["name"], each["revision"], each["pretrained"]) for each in found] == [("small", "abc", False)]
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
    assert (space.name, found, asked) == ("quick", [], [])


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
    create(tmp_path, LAYERED, space, "sample", "", encoders=found)
    assert [load(tmp_path)["plan"]["encoder"]] == found == encoders_of(load(tmp_path)["plan"])


SEVERAL = dataclasses.replace(LAYERED, encoder="small,some/encoder@abc,other/encoder")


def test_several_encoders_are_found_each_and_the_search_chooses_among_them(asked: list[Any]) -> None:
    with knob_spaces():
        space, found = open_space(dataclasses.replace(SEVERAL, pretrained=False))
    assert asked == [(name, ("wav2vec2",), False) for name in ("small", "some/encoder@abc", "other/encoder")]
    assert [encoder["label"] for encoder in found] == ["small", "some/encoder", "other/encoder"]
    assert space.values_of("encoder") == ("small", "some/encoder", "other/encoder")
    assert {(config["encoder"], config["depth"]) for config in space.to_prepare()} == {
        *(("small", depth) for depth in range(4)),
        *((label, depth) for label in ("some/encoder", "other/encoder") for depth in range(13)),
    }


@pytest.mark.parametrize(
    ("named", "labels"),
    [
        ("a/encoder@abc,a/encoder,b/encoder", ["a/encoder@abc", "a/encoder", "b/encoder"]),
        ("/one/encoder,/two/encoder,/two/other", ["one/encoder", "two/encoder", "other"]),
        ("/one/x/encoder,/two/x/encoder", ["one/x/encoder", "two/x/encoder"]),
        ("/x/encoder,/one/x/encoder", ["/x/encoder", "one/x/encoder"]),
    ],
)
@pytest.mark.usefixtures("asked")
def test_encoders_of_one_label_have_as_much_more_as_tells_them_apart(named: str, labels: list[str]) -> None:
    with knob_spaces():
        _, found = open_space(dataclasses.replace(LAYERED, encoder=named))
    assert [encoder["label"] for encoder in found] == labels


def test_one_network_under_two_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder").mkdir()
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / "encoder" / file).write_text('{"model_type": "wav2vec2", "num_hidden_layers": 2}')
    (tmp_path / "link").symlink_to(tmp_path / "encoder")
    named = dataclasses.replace(LAYERED, encoder=f"{tmp_path}/encoder,{tmp_path}/link", pretrained=False)
    message = r"names one network twice: .*/encoder and .*/link are both .*/encoder\. .* Leave one of the two out\."
    with knob_spaces(), pytest.raises(UserError, match=message):
        open_space(named)


@pytest.mark.usefixtures("asked")
def test_a_depth_that_one_of_several_encoders_lacks_is_refused_by_its_name() -> None:
    pinned = dataclasses.replace(SEVERAL, fix={"depth": "9"})
    message = r"--fix depth=9 is out of range: .* from 0 to 3\..* its range for the encoder small, and a pin holds"
    with knob_spaces(), pytest.raises(UserError, match=message):
        open_space(pinned)


def test_a_search_over_several_goes_on_with_each_as_it_began_and_in_its_order(
    asked: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with knob_spaces():
        _, found = open_space(SEVERAL)
        found[2]["label"] = "as it was called"  # trials of the record have it
        asked.clear()
        space, again = open_space(LAYERED, stored=found)
        assert ([name for name, *_ in asked], again) == (["small", "some/encoder@abc", "other/encoder"], found)
        assert space.values_of("encoder") == ("small", "some/encoder", "as it was called")
        monkeypatch.setattr("search.encoder_choice._find", lambda name, **_: FakeSource(name, num_layers=3))
        with pytest.raises(UserError, match=r"some/encoder is not the one .* num_layers was 12, now it is 3\. Put"):
            open_space(LAYERED, stored=found)


@pytest.mark.usefixtures("asked")
def test_the_config_lists_several_encoders(tmp_path: Path) -> None:
    with knob_spaces():
        space, found = open_space(SEVERAL)
    create(tmp_path, SEVERAL, space, "sample", "", encoders=found)
    plan = load(tmp_path)["plan"]
    assert "encoder" not in plan
    assert plan["encoders"] == found == encoders_of(plan)
    assert [encoder_of(plan, label) for label in ("small", "other/encoder")] == [found[0], found[2]]


def test_the_same_encoders_in_another_order_are_the_same_search(tmp_path: Path) -> None:
    stored = Arguments(encoder="a/x,b/y")
    check_same_search(tmp_path, stored, Arguments(encoder="b/y,a/x"))
    for other in ("a/x", "a/x,b/y,c/z", None):
        with pytest.raises(UserError, match=r"holds another search \(encoder 'a/x,b/y' there, "):
            check_same_search(tmp_path, stored, Arguments(encoder=other))
