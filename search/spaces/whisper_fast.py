"""Whisper's encoder up to its four top layers, in minutes a trial: what is frozen is computed once.

``python search/run.py --space whisper_fast --data $CREMA_D_ROOT``

The pass over the frozen layers comes first, then a frozen encoder with a trained head takes seconds a trial. Where
layers are trained, the head is trained before them for ten epochs of the same price; then each layer adds to an epoch.
What it reached, and how long it took: docs/experiments.md. Clips run on their own frames, not padded to 30 s. The
default is openai/whisper-base at a fixed revision; --encoder takes any other Whisper, or several, separated by commas.
Where each range comes from: search/spaces/_encoder_ranges.py.
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as ranges

FAMILY = "encoders"
ENCODER = "openai/whisper-base@e37978b90ca9030d5170a5c07aadb050351a65bb"
ENCODER_TYPES = ("whisper",)
PREPARE = ("unfreeze_depth", "max_clip_seconds")
TRIALS = 40
MAX_EPOCHS = 40  # of a frozen encoder; where layers are trained, ten of the head alone and five of all
GRACE = 4  # rungs at 4, 12 and 36: a head that is no good costs seconds, and layers are judged after two epochs
KNOWN_GOOD = ranges.FAST_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for an encoder of *num_layers* layers."""
    return ranges.fast(trial, deepest=min(4, num_layers), frozen_epochs=MAX_EPOCHS, trained_epochs=5)
