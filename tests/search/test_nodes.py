"""What keeps a node from working on a search, in words that say what to do."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

from search.cluster.node_reports import DISTRIBUTIONS, PACKAGES, look_around, told_of, what_does_not_fit


@pytest.fixture(scope="module")
def own() -> dict[str, Any]:
    """The report of this machine."""
    return look_around(PACKAGES, DISTRIBUTIONS, (), False)


def changed(own: Mapping[str, Any], part: str, **new: object) -> dict[str, Any]:
    """The report of a node that differs from this machine in *part*; None takes a name away."""
    report = copy.deepcopy(dict(own))
    report[part] = {name: value for name, value in (report[part] | new).items() if value is not None}
    return report


def test_a_node_like_this_machine_fits(own: dict[str, Any]) -> None:
    assert own["versions"]["ray"] == ray.__version__
    assert "search/cluster/node_reports.py" in own["files"] and "ser_data/errors.py" in own["files"]
    assert what_does_not_fit(own, own) == []


@pytest.mark.parametrize("name", ["python", "ray", "torch"])
def test_a_node_with_another_version_is_named_with_both_and_with_what_to_do(own: dict[str, Any], name: str) -> None:
    (told,) = what_does_not_fit(own, changed(own, "versions", **{name: "0.1"}))
    assert told.startswith(f"has {name} 0.1; here it is {name} {own['versions'][name]}.")
    assert "same constraints.txt" in told and "sh build_venv.sh" in told


@pytest.mark.parametrize("digest", ["another", None])
def test_a_node_with_another_copy_of_the_project_is_told_by_its_file(own: dict[str, Any], digest: str | None) -> None:
    (told,) = what_does_not_fit(own, changed(own, "files", **{"search/trial.py": digest}))
    assert told.startswith("has another version of search/trial.py than this machine.") and "`ray up`" in told


def test_a_file_that_only_the_node_has_counts_too(own: dict[str, Any]) -> None:
    found = changed(own, "files", **{"search/spaces/zz_old.py": "left over", "search/trial.py": "another"})
    (told,) = what_does_not_fit(own, found)
    assert told.startswith("has another version of search/spaces/zz_old.py (and of 1 more files)")


def test_a_node_without_the_project_was_started_by_another_python(own: dict[str, Any]) -> None:
    (told,) = what_does_not_fit(own, {**own, "files": {}})
    assert "another Python than the project's" in told and ".venv/bin/ray" in told


def test_a_folder_that_the_node_does_not_see_is_named(own: dict[str, Any], tmp_path: Path) -> None:
    missing = str(tmp_path / "run")
    report = look_around((), (), [str(tmp_path), missing], False)
    assert report["unseen"] == [missing]
    (told,) = what_does_not_fit(own, {**own, "unseen": report["unseen"]})
    assert told.startswith(f"does not see {missing}.") and "--out, or give a --storage" in told


def test_a_node_that_cannot_use_the_storage_is_told_with_its_own_reason(own: dict[str, Any], tmp_path: Path) -> None:
    there = tmp_path / "there"
    assert look_around((), (), [], False, there.as_uri())["storage"] == ""
    (tmp_path / "file").write_text("")
    report = look_around((), (), [], False, (tmp_path / "file" / "there").as_uri())
    (told,) = what_does_not_fit(own, {**own, "storage": report["storage"]})
    assert told.startswith("cannot use the storage as this machine does. --storage: file:///") and "policy" in told


def test_a_gpu_that_torch_cannot_use_is_refused(own: dict[str, Any]) -> None:
    (told,) = what_does_not_fit(own, {**own, "cuda": "the driver is too old"})
    assert "cannot use: the driver is too old" in told and "--num-gpus=0" in told


def test_nodes_with_the_same_trouble_are_named_together() -> None:
    told = told_of({"b": ["has ray 2.0"], "a": ["has ray 2.0", "does not see /data"]})
    assert told.splitlines() == [
        "the cluster has nodes that cannot work on this search:",
        "  a, b: has ray 2.0",
        "  a: does not see /data",
    ]
