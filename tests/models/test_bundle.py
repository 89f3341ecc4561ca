"""A bundle is two plain files, and what is wrong with one is said."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

from ser_models.bundle import BundleError, load_bundle, save_bundle
from ser_models.mfcc.family import build
from ser_models.task import Task


@pytest.fixture
def folder(tmp_path: Path, configuration: Callable[..., dict[str, Any]], task: Task) -> Path:
    trial = build(configuration("cnn"), task, seed=0, max_epochs=1, probe_clips=4)
    next(trial.trainer.run())
    trial.export(tmp_path / "best", {"seed": 0, "val_uar": float("nan")})
    return tmp_path / "best"


def change(folder: Path, **fields: Any) -> None:
    path = folder / "bundle.json"
    values = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))


def test_it_is_a_json_and_a_safetensors_file(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["bundle.json", "model.safetensors"]
    header = json.loads((folder / "bundle.json").read_text())
    assert header["emotions"] == ["anger", "disgust", "fear", "happy", "neutral", "sad"]
    assert header["model"]["architecture"]["network"] == "cnn"
    assert header["model"]["features"]["kind"] == "mfcc"
    assert header["model"]["max_clip_seconds"] == 4.0
    assert header["provenance"] == {"seed": 0, "val_uar": None}
    assert {"scaler.mean", "scaler.std", "columns"} < set(safetensors.torch.load_file(folder / "model.safetensors"))


def test_probabilities_sum_to_one_for_any_length(folder: Path) -> None:
    bundle = load_bundle(folder)
    for num_samples in (1, 400, 30_000, 200_000):
        samples = np.random.default_rng(0).normal(size=num_samples).astype(np.float32) * 0.1
        probabilities = bundle.probabilities(samples)
        assert probabilities.shape == (6,)
        assert probabilities.dtype == np.float32
        assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)


def test_what_comes_after_the_longest_duration_does_not_matter(folder: Path) -> None:
    bundle = load_bundle(folder)
    samples = np.random.default_rng(0).normal(size=16_000 * 8).astype(np.float32) * 0.1
    other = samples.copy()
    other[16_000 * 6 :] = samples[: 16_000 * 2]
    np.testing.assert_allclose(bundle.probabilities(samples), bundle.probabilities(other), atol=1e-6)


@pytest.mark.parametrize(
    "samples", [np.zeros(0, np.float32), np.zeros((2, 100), np.float32), np.full(100, np.nan, np.float32)]
)
def test_samples_that_are_no_clip_are_refused(folder: Path, samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="they must be finite, mono, and at least one"):
        load_bundle(folder).probabilities(samples)


def test_a_bundle_can_be_replaced(folder: Path) -> None:
    bundle = load_bundle(folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    save_bundle(
        folder,
        family="mfcc",
        emotions=bundle.emotions,
        description=bundle.description,
        tensors=tensors,
        provenance={"second": True},
    )
    assert load_bundle(folder).provenance == {"second": True}
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("name", ["bundle.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} cannot be read: No such file.*RUN/best. Name such a folder"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format_version": 9}, "has format version 9; this program reads version 1. Load it with the program"),
        ({"format_version": ...}, "has format version None"),
        ({"emotions": ..., "family": ...}, "bundle.json lacks emotions, family. Accepted is a file as it was exported"),
        ({"family": "quantum"}, "is of the family 'quantum'. Known families: encoders, .*mfcc"),
        ({"tensors_sha256": "0"}, "its checksum differs. Copy the whole folder again"),
        ({"emotions": ["sad", "happy"]}, "the network has 6 outputs for 2 emotions. Accepted is a folder"),
        ({"model": {}}, "does not fit the network that its bundle.json describes: 'architecture'"),
    ],
)
def test_a_changed_description_is_refused(folder: Path, fields: dict[str, Any], message: str) -> None:
    change(folder, **fields)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


@pytest.mark.parametrize("content", ["{", "[1]", "null"])
def test_a_description_that_is_no_object_is_refused(folder: Path, content: str) -> None:
    (folder / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match=r"is not JSON|has format version None"):
        load_bundle(folder)


def test_a_damaged_tensor_file_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"model.safetensors is not the file that bundle.json was written with"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("network.convolutions.stem.weight", "size mismatch for convolutions.stem.weight"),
        ("scaler.mean", r"scaler.mean has shape \(7,\), the network reads 40 columns"),
    ],
)
def test_tensors_of_another_shape_are_refused(folder: Path, name: str, message: str) -> None:
    bundle = load_bundle(folder)
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    tensors[name] = tensors[name].flatten()[:7].clone()
    save_bundle(
        folder,
        family="mfcc",
        emotions=bundle.emotions,
        description=bundle.description,
        tensors=tensors,
        provenance={},
    )
    with pytest.raises(BundleError, match=f"does not fit the network that its bundle.json describes: .*{message}"):
        load_bundle(folder)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError.__base__, match=r"file/best cannot be written: .*name another folder with --out"):
        save_bundle(
            tmp_path / "file" / "best", family="mfcc", emotions=("a", "b"), description={}, tensors={}, provenance={}
        )
