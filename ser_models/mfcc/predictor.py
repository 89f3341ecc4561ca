"""How a bundle of the MFCC family answers for one clip."""

from functools import partial

from ser_models import frame_predictor
from ser_models.mfcc.networks import NETWORKS

restore = partial(frame_predictor.restore, networks=NETWORKS)
