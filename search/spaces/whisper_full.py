"""Whisper's encoder at every depth, with SpecAugment on its log-mel input, for GPUs.

``python search/run.py --space whisper_full --data $CREMA_D_ROOT``

As wav2vec2_full, with openai/whisper-base at a fixed revision (Radford et al. 2022, arXiv 2212.04356). Masks lie on the
log-mel frames, a hundred a second, up to eight bands wide each; nothing behind them can be computed once, so an epoch
costs a pass through the whole encoder.
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as ranges

FAMILY = "encoders"
ENCODER = "openai/whisper-base@e37978b90ca9030d5170a5c07aadb050351a65bb"
ENCODER_TYPES = ("whisper",)
PREPARE = ("unfreeze_depth", "max_clip_seconds")
TRIALS = 60
MAX_EPOCHS = 15
GRACE = 3  # rungs at 3 and 9
KNOWN_GOOD = ranges.FULL_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for an encoder of *num_layers* layers."""
    return ranges.full(trial, num_layers=num_layers, epochs=MAX_EPOCHS, feature_length=8)
