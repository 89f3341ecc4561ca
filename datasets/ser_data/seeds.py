"""Named seeds: every generator of a run is derived from one number and its own name."""

import hashlib


def derive_seed(seed: int, *names: str | int) -> int:
    """Seed of the generator called *names*, independent of every other name's.

    Args:
        seed: the run's one seed
        names: what the generator is for, from general to particular, e.g. ``"trial", 7, "batches"``

    Returns:
        integer in [0, 2**31), which every generator in use accepts

    >>> derive_seed(0, "sampler", 3) == derive_seed(0, "sampler", 3)
    True
    >>> derive_seed(0, "sampler", 3) == derive_seed(0, "sampler", 4)
    False
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little") >> 1
