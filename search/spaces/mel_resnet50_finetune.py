"""ResNet-50 on log-mel spectrograms, fine-tuned from the top stage down to the stem.

``python search/run.py --space mel_resnet50_finetune --data $CREMA_D_ROOT``

The last one to all stages trained, and then the stem too, with rates of their own for head and backbone. The map that
enters the first trained stage is computed once, so that an epoch is the trained stages alone; images are masked where
all is trained. For a GPU, or for --fix unfreeze_depth=1 on a CPU. The maps of all depths take 8.2 GB on disk for
CREMA-D, twice that for both kinds of image: --fix channels=1 halves it, --fix unfreeze_depth=2 keeps one map alone.
Any ResNet or EfficientNet of transformers goes with --encoder, or several, separated by commas: then the backbone is
searched too, each with its own depths (of four stages and of five) and its own maps on disk. The default is
microsoft/resnet-50 at a fixed revision, pretrained on ImageNet. Where each range comes from:
search/spaces/_backbone_ranges.py.
"""

from search.parameters import Parameters, Value
from search.spaces import _backbone_ranges as ranges

FAMILY = "mel_backbones"
ENCODER = "microsoft/resnet-50@34c2154c194f829b11125337b98c8f5f9965ff19"
ENCODER_TYPES = ("resnet", "efficientnet")
PREPARE = ("unfreeze_depth", "channels")
TRIALS = 30
MAX_EPOCHS = 12
GRACE = 3  # rungs at 3 and 9
KNOWN_GOOD = ranges.FINE_TUNED_KNOWN_GOOD


def suggest(trial: Parameters, num_layers: int) -> dict[str, Value]:
    """One configuration for a backbone of *num_layers* stages."""
    return ranges.fine_tuned(trial, num_stages=num_layers, epochs=MAX_EPOCHS)
