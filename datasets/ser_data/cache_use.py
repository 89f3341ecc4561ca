"""How often this process found in a cache what it needed, and how often it had to compute it."""

from dataclasses import dataclass


@dataclass
class CacheUse:
    """Counts of whole arrays: features of a corpus, an augmented view of them, outputs of frozen layers.

    Attributes:
        hits: found on disk
        misses: computed, and written
    """

    hits: int = 0
    misses: int = 0

    def take(self) -> tuple[int, int]:
        """Hits and misses since the last call.

        >>> use = CacheUse(hits=2, misses=1)
        >>> use.take(), use.take()
        ((2, 1), (0, 0))
        """
        taken = self.hits, self.misses
        self.hits = self.misses = 0
        return taken


cache_use = CacheUse()  # of this process; a worker has one trial at a time
