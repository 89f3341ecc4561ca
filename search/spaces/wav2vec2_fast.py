"""wav2vec 2.0 up to its four top layers, in minutes a trial: what is frozen is computed once.

``python search/run.py --space wav2vec2_fast --data $CREMA_D_ROOT``

A frozen encoder with a trained head takes seconds a trial. Where layers are trained, the head is trained before them
for ten epochs of the same price; then each layer adds to an epoch. The pass over the frozen layers comes first;
docs/experiments.md says how long it and the trials take. Any encoder of the same build goes with --encoder (HuBERT,
WavLM, data2vec-audio, larger wav2vec 2.0), or several, separated by commas: then the encoder is searched too. The
default is facebook/wav2vec2-base at a fixed revision. Where each range comes from: search/spaces/_encoder_ranges.py.
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as ranges

FAMILY = "encoders"
ENCODER = "facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"
ENCODER_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
PREPARE = ("unfreeze_depth", "max_clip_seconds")
TRIALS = 40
MAX_EPOCHS = 40  # of a frozen encoder; where layers are trained, ten of the head alone and five of all
GRACE = 4  # rungs at 4, 12 and 36: a head that is no good costs seconds, and layers are judged after two epochs
KNOWN_GOOD = ranges.FAST_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for an encoder of *num_layers* layers."""
    return ranges.fast(trial, deepest=min(4, num_layers), frozen_epochs=MAX_EPOCHS, trained_epochs=5)
