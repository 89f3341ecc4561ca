"""ResNet-50 as a frozen feature extractor on log-mel spectrograms: heads on one vector a clip.

``python search/run.py --space mel_resnet50_frozen --data $CREMA_D_ROOT --fix image_size=native``

The vectors are computed once, in one pass for each kind of image: log-mel three times or with its deltas, at 128 × 130
or at 224 × 224, which takes three times as long. A pin leaves passes out, as above. Then a trial's epoch is the head
alone. The board begins with the linear probe on the first kind of image. Any ResNet or EfficientNet of transformers
goes with --encoder (microsoft/resnet-18, google/efficientnet-b0, a folder), or several, separated by commas: then the
backbone is searched too, and each has its own passes and its own probe. The default is microsoft/resnet-50 at a fixed
revision, pretrained on ImageNet. Where each range comes from: search/spaces/_backbone_ranges.py.
"""

from search.parameters import Parameters, Value
from search.spaces import _backbone_ranges as ranges

FAMILY = "mel_backbones"
ENCODER = "microsoft/resnet-50@34c2154c194f829b11125337b98c8f5f9965ff19"
ENCODER_TYPES = ("resnet", "efficientnet")
PREPARE = ("channels", "image_size")
TRIALS = 40
MAX_EPOCHS = 40
GRACE = 3  # rungs at 3, 9 and 27
KNOWN_GOOD = ranges.FROZEN_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration; of a frozen backbone's stages nothing depends on."""
    return ranges.frozen(trial, epochs=MAX_EPOCHS)
