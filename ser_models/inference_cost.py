"""What a network costs to use: multiply-adds per second of audio, counted in a forward pass, the same on any machine.

Counted are products of matrices, convolutions, attention and recurrent layers, by torch's own counter. Features, norms
and activations are not: they are small beside these, or the same for all networks that read the same features.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

CLIP_SECONDS = 3.0  # of the clip that is counted, about a sentence of CREMA-D
_DIGITS = 3


@torch.no_grad()
def gmacs_per_second(forward: Callable[[], object]) -> float:
    """Multiply-adds of *forward*, which reads a clip of :data:`CLIP_SECONDS`, per second of it.

    Returns:
        in 10^9, three significant digits
    """
    with FlopCounterMode(display=False, custom_mapping=_LACKING) as counter:
        forward()
    counted = counter.get_total_flops() / 2 / 1e9 / CLIP_SECONDS
    return round(counted, _DIGITS - 1 - math.floor(math.log10(counted))) if counted else 0.0


def _of_one_layer(inputs: Any, of_inputs: Any, of_state: Any, *_: object, out_shape: Any = None, **__: object) -> int:
    """FLOPs of one direction of a recurrent layer, as a CPU runs it, from the shapes of its arguments."""
    return _recurrent(inputs, (of_inputs, of_state))


def _of_all_layers(inputs: Any, weights: Any, *_: object, out_shape: Any = None, **__: object) -> int:
    """FLOPs of all recurrent layers at once, as a GPU runs them."""
    return _recurrent(inputs, weights)


def _recurrent(inputs: Sequence[int], shapes: Iterable[Sequence[int]]) -> int:
    """All matrices are read at every step; what has one dimension is a bias."""
    return 2 * math.prod(inputs[:-1]) * sum(math.prod(shape) for shape in shapes if len(shape) == 2)


def _of_attention(query: Any, key: Any, value: Any, *_: object, out_shape: Any = None, **__: object) -> int:
    """FLOPs of the two products of attention."""
    return int(sdpa_flop_count(query, key, value))


# torch's own counter lacks them, and lets them pass for free
_LACKING: Mapping[Any, Any] = {
    torch.ops.aten.mkldnn_rnn_layer: _of_one_layer,
    torch.ops.aten._cudnn_rnn: _of_all_layers,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _of_attention,
}
