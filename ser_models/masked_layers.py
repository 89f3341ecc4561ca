"""Layers that leave padding out: a clip's output does not depend on what shares its batch."""

import torch
from torch import nn

from ser_models.pooling import frame_mask

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "elu": nn.ELU}


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics come from real frames alone.

    torch's own would count the padding as zeros, so that its running statistics would depend on how clips were
    batched; it also refuses a batch of one value, as the last batch of an epoch may be.
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.running_mean: torch.Tensor
        self.running_var: torch.Tensor
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, frames: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Normalise.

        Args:
            frames: (batch, channels, frames) or (batch, channels, bands, frames), 0 in the padding
            mask: (batch, 1, frames) or (batch, 1, 1, frames), 1 inside and 0 in the padding

        Returns:
            of the shape of *frames*, in float32 at least; 0 in the padding
        """
        frames = frames.float() if frames.dtype in (torch.bfloat16, torch.float16) else frames
        if self.training:
            others = [dim for dim in range(frames.ndim) if dim != 1]
            count = mask.sum(dtype=frames.dtype) * (frames[0, 0].numel() // frames.shape[-1])
            mean = frames.sum(dim=others) / count
            var = (frames.square().sum(dim=others) / count - mean.square()).clamp_min(0.0)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(var, self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        along = (-1, *[1] * (frames.ndim - 2))
        return torch.addcmul(
            frames * scale.view(along), shift.view(along), mask.to(frames.dtype)
        )  # padding: 0 + shift * 0


def halve_time(frames: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of each two neighbouring frames of (batch, …, frames); a clip's odd last frame stands alone."""
    if frames.shape[-1] % 2:
        frames = nn.functional.pad(frames, (0, 1))
    halved = (frames[..., ::2] + frames[..., 1::2]) * 0.5
    lengths_halved = (lengths + 1) // 2
    # Where the length is odd, the last pair holds one frame of padding, which is 0: undo its half.
    last = torch.arange(halved.shape[-1], device=lengths.device) == (lengths_halved - 1)[:, None]
    alone = last & (lengths % 2 == 1)[:, None]
    return halved * _along(1.0 + alone, frames.ndim), lengths_halved


def conv_mask(frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """1 inside, 0 in the padding of (batch, channels, …, frames): (batch, 1, …, frames), in the frames' dtype."""
    return _along(frame_mask(lengths, frames.shape[-1]), frames.ndim).to(frames.dtype)


def _along(values: torch.Tensor, ndim: int) -> torch.Tensor:
    """(batch, frames) as (batch, 1, …, frames) of *ndim* dimensions."""
    return values.view(len(values), *[1] * (ndim - 2), -1)
