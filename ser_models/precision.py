"""The number format in which a network computes: float32, or bfloat16 under autocast."""

import contextlib
from contextlib import AbstractContextManager

import torch

from ser_data.errors import UserError

PRECISIONS = ("auto", "fp32", "bf16")

_BF16_CAPABILITY = (8, 0)  # CUDA compute capability: Ampere, the first whose tensor cores multiply bfloat16


class PrecisionError(UserError):
    """A precision that does not exist, or that the device cannot compute in."""


def resolve_precision(name: str, device: str) -> str:
    """The precision that *name* means on *device*.

    Args:
        name: one of :data:`PRECISIONS`. ``auto`` is bf16 where the device multiplies bfloat16 in hardware: GPUs from
            compute capability 8.0 on, CPUs with AMX-BF16 or AVX512-BF16; fp32 elsewhere
        device: torch's name of where to train

    Returns:
        ``"fp32"`` or ``"bf16"``

    Raises:
        PrecisionError: if the name is not known, or is bf16 and the device a GPU without it. A CPU without it is
            allowed: slow, and without torch's LSTM, which has no bfloat16 there
    """
    if name not in PRECISIONS:
        raise PrecisionError(
            f"Precision {name!r} is not known. Known are {', '.join(PRECISIONS)}. Take auto if you are in doubt."
        )
    if name == "fp32":
        return name
    place = torch.device(device)
    native = _multiplies_bf16(place)
    if name == "auto":
        return "bf16" if native else "fp32"
    if place.type == "cuda" and not native:
        raise PrecisionError(
            f"Precision 'bf16' was asked for, but the GPU {device} does not compute in bfloat16. That takes compute "
            "capability 8.0 (Ampere) or newer. Take fp32, or auto, which is fp32 on this GPU."
        )
    return "bf16"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass.

    Args:
        precision: as :func:`resolve_precision` gave it
        device: where the model is
    """
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        if not torch.cuda.is_available():
            return False
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _BF16_CAPABILITY
    if device.type == "cpu":
        capabilities = _cpu_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def _cpu_capabilities() -> dict[str, object]:
    """What torch knows of this CPU; nothing where its version does not tell."""
    try:
        return dict(torch.cpu.get_capabilities())
    except (AttributeError, RuntimeError):
        return {}
