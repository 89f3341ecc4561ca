"""Reads pretrained weights and checks them: nothing is ever trained on a network that is silently random."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from ser_data.errors import UserError
from ser_data.seeds import derive_seed
from ser_models.pretrained.hub import unreachable
from ser_models.pretrained.source import PretrainedSource, indefinite

_RANDOM_SEED = 0  # of random weights: they stand for one network, the same for every trial and process
_COUNTER = "num_batches_tracked"  # of a batch norm: older checkpoints lack it, and no output depends on it


def read_weights(
    loader: Any, source: PretrainedSource, *, noun: str, is_part: Callable[[str], bool], **options: Any
) -> Any:
    """A model of transformers with the weights of *source*, in float32, every one of them from the checkpoint.

    Args:
        loader: a class of transformers with ``from_pretrained``
        source: where the weights are
        noun: what messages call the network
        is_part: whether a tensor of this name in a checkpoint is the network's; heads and decoders are not
        options: more for ``from_pretrained``

    Raises:
        UserError: if weights are missing, left over, of other sizes, or cannot be read or reached
    """
    with explained(source, noun=noun):
        model, info = loader.from_pretrained(
            source.name,
            revision=source.revision,
            dtype=torch.float32,  # else it is the checkpoint's, which may be float16
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
            **options,
        )
    _check_complete(source, info, noun, is_part)
    return model


@contextmanager
def explained(source: PretrainedSource, *, noun: str) -> Iterator[None]:
    """Say of what transformers raises while it reads *source* which network it was and what to do."""
    try:
        yield
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError, UnpicklingError, EOFError) as error:
        if not source.is_folder and isinstance(error, OSError):
            raise UserError(unreachable(source.name, source.revision, noun=noun)) from error
        raise UserError(
            f"The {noun} {source.label} cannot be loaded: {str(error).splitlines()[0] if str(error) else error!r}. "
            "Accepted is what transformers' save_pretrained writes, with weights of the sizes that its config.json "
            "says. Fetch it again."
        ) from error


def _check_complete(
    source: PretrainedSource, info: Mapping[str, Any], noun: str, is_part: Callable[[str], bool]
) -> None:
    """Refuse a checkpoint that leaves a part of the network at random, or has parts for which there is no place."""
    mismatched = [str(entry[0] if isinstance(entry, tuple) else entry) for entry in info.get("mismatched_keys", ())]
    for keys, told in (
        (info["missing_keys"], f"lacks weights of the {noun}, which would stay random"),
        (info["unexpected_keys"], f"has weights of {indefinite(noun)} that its config.json has no place for"),
        (mismatched, "has weights of other sizes than its config.json says"),
    ):
        found = sorted(key for key in keys if is_part(key) and not key.endswith(_COUNTER))
        if found:
            raise UserError(
                f"The {noun} {source.label} {told}: {_listed(found)}. Accepted is a checkpoint that holds exactly "
                f"the weights of the {noun}, with or without heads. Fetch it again, or name another."
            )


def check_finite(tensors: Mapping[str, torch.Tensor], *, label: str, noun: str) -> None:
    """Raise a UserError that names the *tensors* that hold NaN or infinity, if any does."""
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise UserError(
            f"The {noun} {label} has weights that are not finite (NaN or infinity), in {_listed(broken)}. Accepted "
            f"are finite weights. Fetch the {noun} again."
        )


def random_weights(make: Callable[[], nn.Module]) -> nn.Module:
    """What *make* gives with weights from a seed of their own: the same in every trial and process."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(_RANDOM_SEED, "encoder"))
        return make()


def tensors_hash(settings: object, tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over a network's settings and all its tensors, which are on the CPU.

    Args:
        settings: what its outputs depend on besides, as values that JSON takes
        tensors: its state
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.contiguous().reshape(-1)  # the same bytes in any memory format
        digest.update(flat.view(torch.uint8).numpy().tobytes() if tensor.ndim else b"scalar")
    return digest.hexdigest()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars or notes about heads that are not loaded: what matters is checked here."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
