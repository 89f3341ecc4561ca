"""A picture of what an autoencoder makes of a few clips, for its bundle."""

from collections.abc import Mapping
from pathlib import Path

import torch

from ser_models.mel.autoencoder import MelAutoencoder
from ser_models.pooling import frame_mask
from ser_models.training import Trainer
from ser_models.trial import BundleWriter

PICTURE_FILE = "reconstructions.png"
_CLIPS = 6


def draw_reconstructions(write_bundle: BundleWriter, trainer: Trainer) -> BundleWriter:
    """*write_bundle*, which then leaves a picture beside the bundle: validation clips above, what became of them below.

    What lies behind a clip's end was nothing to be learnt, and is left black. A decoder knows the encoder as it was
    before it was fine-tuned.

    Args:
        write_bundle: of the trial
        trainer: of the autoencoder, its data spectrograms as at the beginning
    """
    source, network = trainer.data.validation, trainer.model
    assert isinstance(network, MelAutoencoder)

    def write(weights: Mapping[str, torch.Tensor], folder: Path, provenance: Mapping[str, object]) -> None:
        write_bundle(weights, folder, provenance)
        network.load_state_dict(weights)
        network.eval()
        batch = next(iter(source.epoch(None)))
        with torch.no_grad():
            pictures = network.pictures(batch.arguments[0][:_CLIPS].to(trainer.device))
            inside = frame_mask(batch.arguments[1][:_CLIPS].to(trainer.device), network.num_frames)
            made = network.decode(network.encode(pictures)) * inside[:, None, None]
        _draw(pictures[:, 0].cpu(), made[:, 0].cpu(), folder / PICTURE_FILE)

    return write


def _draw(pictures: torch.Tensor, made: torch.Tensor, path: Path) -> None:
    """Two rows of (clips, bands, frames), low bands below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # past pyplot, which keeps figures and picks a display
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * len(pictures), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(pictures), squeeze=False)
    for row, (title, some) in enumerate((("clip", pictures), ("reconstruction", made))):
        for column, picture in enumerate(some):
            axes[row, column].imshow(picture.numpy(), origin="lower", aspect="auto", vmin=0, vmax=1, cmap="magma")
            axes[row, column].set_axis_off()
        axes[row, 0].set_title(title, loc="left")
    figure.savefig(path, dpi=100, metadata={"Software": None})
