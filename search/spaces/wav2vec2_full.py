"""wav2vec 2.0 at every depth, with SpecAugment on its input: the real thing, for GPUs.

``python search/run.py --space wav2vec2_full --data $CREMA_D_ROOT``

All depths from a frozen encoder to every layer trained, whole or through low-rank adapters, full schedules. Masks lie
on the projected features, as in the papers, so that only the convolutions before them are computed once. For a GPU: 60
trials of up to 15 epochs. Several encoders, separated by commas, go with --encoder; those of 12 layers share one range
of depths, those of 24 have another. The default encoder is facebook/wav2vec2-base at a fixed revision. Where each
range comes from: search/spaces/_encoder_ranges.py.
"""

from search.parameters import Parameters, Value
from search.spaces import _encoder_ranges as ranges

FAMILY = "encoders"
ENCODER = "facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8"
ENCODER_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio")
PREPARE = ("unfreeze_depth", "max_clip_seconds")
TRIALS = 60
MAX_EPOCHS = 15
GRACE = 3  # rungs at 3 and 9
KNOWN_GOOD = ranges.FULL_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for an encoder of *num_layers* layers."""
    return ranges.full(trial, num_layers=num_layers, epochs=MAX_EPOCHS, feature_length=32)
