"""Low-rank adapters from ``peft`` in the layers of an encoder."""

from collections.abc import Iterable

from torch import nn

from ser_models.encoders.plan import Lora

# Linear maps that take adapters, by the names of transformers. WavLM's attention reads its projections' weights past
# their modules, where an adapter would have no effect: its feed-forward maps alone have them.
_ATTENTION = ("q_proj", "v_proj")
_FEED_FORWARD = ("fc1", "fc2", "intermediate_dense", "output_dense")


def add_adapters(layers: Iterable[nn.Module], lora: Lora) -> None:
    """Put adapters into *layers* and freeze all else in them."""
    import peft  # 4 s, and only where it is used

    for layer in layers:
        names = {name.rpartition(".")[2] for name, module in layer.named_modules() if isinstance(module, nn.Linear)}
        targets = [name for name in _FEED_FORWARD if name in names]
        if type(layer).__name__.startswith("WavLM"):
            attention: list[str] = []
        else:
            attention = [name for name in _ATTENTION if name in names]
        config = peft.LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets + attention
        )
        peft.inject_adapter_in_model(config, layer)
