"""HuBERT at every depth, with SpecAugment on its input, for GPUs.

``python search/run.py --space hubert_full --data $CREMA_D_ROOT``

As wav2vec2_full, with facebook/hubert-base-ls960 at a fixed revision (Hsu et al. 2021, arXiv 2106.07447).
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as ranges

FAMILY = "encoders"
ENCODER = "facebook/hubert-base-ls960@dba3bb02fda4248b6e082697eee756de8fe8aa8a"
ENCODER_TYPES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
PREPARE = ("unfreeze_depth", "max_clip_seconds")
TRIALS = 60
MAX_EPOCHS = 15
GRACE = 3  # rungs at 3 and 9
KNOWN_GOOD = ranges.FULL_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for an encoder of *num_layers* layers."""
    return ranges.full(trial, num_layers=num_layers, epochs=MAX_EPOCHS, feature_length=32)
