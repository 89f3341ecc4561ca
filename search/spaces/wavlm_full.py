"""WavLM at every depth, with SpecAugment on its input, for GPUs.

``python search/run.py --space wavlm_full --data $CREMA_D_ROOT``

As wav2vec2_full, with microsoft/wavlm-base-plus at a fixed revision (Chen et al. 2022, arXiv 2110.13900).
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as ranges

FAMILY = "encoders"
ENCODER = "microsoft/wavlm-base-plus@4c66d4806a428f2e922ccfa1a962776e232d487b"
ENCODER_TYPES = ("wavlm", "wav2vec2", "hubert", "data2vec-audio")
PREPARE = ("unfreeze_depth", "max_clip_seconds")
TRIALS = 60
MAX_EPOCHS = 15
GRACE = 3  # rungs at 3 and 9
KNOWN_GOOD = ranges.FULL_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for an encoder of *num_layers* layers."""
    return ranges.full(trial, num_layers=num_layers, epochs=MAX_EPOCHS, feature_length=32)
