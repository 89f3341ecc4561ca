"""``--encoder`` of any space: which kind of pretrained network it can be, and where it is. Light, as its parts are."""

from ser_models.backbones.source import BACKBONES
from ser_models.encoders.source import ENCODERS
from ser_models.pretrained.source import PretrainedSource, find

KINDS = (ENCODERS, BACKBONES)


def find_pretrained(name: str, *, types: tuple[str, ...], pretrained: bool = True) -> PretrainedSource:
    """The network called *name*, of the kind that *types* belong to.

    Args:
        name: a hub id (``ID`` or ``ID@REVISION``), a local folder, or ``"tiny"``
        types: what the space takes, all of one kind
        pretrained: False for random weights in the network's shape

    Raises:
        UserError: if it cannot be used, naming what was looked for, and the space for it where another one takes it
        ValueError: if no kind has all of *types*
    """
    kinds = [kind for kind in KINDS if set(types) <= set(kind.types)]
    if not kinds or not types:
        raise ValueError(f"no kind of pretrained network has the types {types}")
    return find(kinds[0], name, types=types, pretrained=pretrained, others=KINDS)
