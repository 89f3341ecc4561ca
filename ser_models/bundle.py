"""A trained model as a folder that anyone can load: ``model.safetensors`` and ``bundle.json``, no pickles.

What the network and its features are is the family's business: it writes a description (JSON) and tensors, and reads
them back.
"""

import hashlib
import importlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from ser_data.errors import UserError
from ser_models.messages import brief

FORMAT_VERSION = 1
SAMPLE_RATE = 16_000  # hertz, of the samples that a bundle takes
DESCRIPTION_FILE = "bundle.json"
TENSORS_FILE = "model.safetensors"

# Where each family's ``restore(description, tensors, num_classes)`` is. Bundles name a family, never a module.
FAMILY_MODULES = {
    "encoders": "ser_models.encoders.predictor",
    "mel": "ser_models.mel.predictor",
    "mel_backbones": "ser_models.backbones.predictor",
    "mfcc": "ser_models.mfcc.predictor",
}

LogitsOf = Callable[[np.ndarray], np.ndarray]


class BundleError(UserError):
    """A bundle that cannot be loaded."""


@dataclass(frozen=True)
class Bundle:
    """A model that was read from a folder.

    Attributes:
        folder: where it was read from
        family: the family that built it
        emotions: what the probabilities are of, in their order
        description: the family's settings of network and features
        provenance: where the model comes from, as it was written
        logits: the family's function from samples to logits
    """

    folder: Path
    family: str
    emotions: tuple[str, ...]
    description: Mapping[str, Any]
    provenance: Mapping[str, Any]
    logits: LogitsOf

    def probabilities(self, samples: np.ndarray) -> np.ndarray:
        """Probability of each emotion for one clip.

        Args:
            samples: mono float32 in [-1, 1], shape ``(num_samples,)``, 16 kHz

        Returns:
            float32, shape ``(num_emotions,)``, in the order of :attr:`emotions`, sum 1

        Raises:
            ValueError: if the samples are not of that shape, or not all finite
        """
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not samples.size or not np.isfinite(samples).all():
            raise ValueError(f"samples have shape {samples.shape}: they must be finite, mono, and at least one")
        return torch.softmax(torch.from_numpy(self.logits(samples)), dim=0).numpy()


def save_bundle(
    folder: Path,
    *,
    family: str,
    emotions: tuple[str, ...],
    description: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    provenance: Mapping[str, Any],
) -> None:
    """Write a bundle; one that is already in *folder* is replaced.

    Args:
        folder: where to; made if missing
        family: one of :data:`FAMILY_MODULES`
        emotions: order of the logits
        description: what the family's ``restore`` needs besides tensors, as values that JSON takes
        tensors: weights and scaler
        provenance: where the model comes from, as values that JSON takes

    Raises:
        UserError: if the folder cannot be written
    """
    content = safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    header = {
        "format_version": FORMAT_VERSION,
        "family": family,
        "emotions": list(emotions),
        "sample_rate": SAMPLE_RATE,
        "model": dict(description),
        "tensors_sha256": hashlib.sha256(content).hexdigest(),
        "provenance": _without_nan(dict(provenance)),
    }
    text = json.dumps(header, indent=2, allow_nan=False) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The description names its tensors by checksum and comes last: a half-written pair is noticed on loading.
        _write(folder / TENSORS_FILE, content)
        _write(folder / DESCRIPTION_FILE, text.encode())
    except OSError as error:
        raise UserError(
            f"The bundle {folder} cannot be written: {error.strerror}. Needed are {len(content) + len(text)} "
            "bytes and the permission to write. Free some space or name another folder with --out."
        ) from error


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises:
        BundleError: if a file is missing, damaged, of another version, or does not fit the network it describes
    """
    folder = Path(folder)
    header = _read_header(folder)
    content = _read(folder, TENSORS_FILE)
    if hashlib.sha256(content).hexdigest() != header["tensors_sha256"]:
        raise BundleError(
            f"{folder / TENSORS_FILE} is not the file that {DESCRIPTION_FILE} was written with: its checksum differs. "
            "Copy the whole folder again, or export the model anew."
        )
    try:
        tensors = safetensors.torch.load(content)
        module = importlib.import_module(FAMILY_MODULES[header["family"]])
        logits = module.restore(header["model"], tensors, len(header["emotions"]))
    except (SafetensorError, UserError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(
            f"The bundle {folder} does not fit the network that its {DESCRIPTION_FILE} describes: {brief(error)}. "
            "Accepted is a folder as it was exported. Export the model anew."
        ) from error
    return Bundle(
        folder=folder,
        family=header["family"],
        emotions=tuple(header["emotions"]),
        description=header["model"],
        provenance=header["provenance"],
        logits=logits,
    )


def tensors_under(tensors: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Those of a bundle's tensors whose names begin with *prefix*, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _without_nan(value: Any) -> Any:
    """JSON has no NaN; a score that is not known is null."""
    if isinstance(value, Mapping):
        return {str(name): _without_nan(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads(_read(folder, DESCRIPTION_FILE))
    except ValueError as error:
        raise BundleError(
            f"{folder / DESCRIPTION_FILE} is not JSON: {error}. Copy the whole folder again, or export the model anew."
        ) from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if version != FORMAT_VERSION:
        raise BundleError(
            f"The bundle {folder} has format version {version!r}; this program reads version {FORMAT_VERSION}. "
            "Load it with the program that wrote it, or export the model anew."
        )
    missing = {"family", "emotions", "model", "tensors_sha256", "provenance"} - set(header)
    if missing:
        raise BundleError(
            f"{folder / DESCRIPTION_FILE} lacks {', '.join(sorted(missing))}. Accepted is a file as it was exported. "
            "Copy the whole folder again, or export the model anew."
        )
    if header["family"] not in FAMILY_MODULES:
        raise BundleError(
            f"The bundle {folder} is of the family {header['family']!r}. Known families: "
            f"{', '.join(sorted(FAMILY_MODULES))}. Load it with the program that wrote it."
        )
    return dict(header)


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{folder / name} cannot be read: {error.strerror}. A bundle is a folder with {DESCRIPTION_FILE} and "
            f"{TENSORS_FILE}, as a search leaves in RUN/best. Name such a folder."
        ) from error


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
