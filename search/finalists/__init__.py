"""``--finalists``: the best of a search trained again with several seeds, and judged on test speakers, once."""
