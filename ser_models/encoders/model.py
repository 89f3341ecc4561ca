"""The network of a trial: the trained layers and the head, on top of frozen ones that belong to the encoder."""

import copy

import torch
from torch import nn

from ser_models.encoders.architectures import SplitEncoder, run_layers
from ser_models.encoders.head import LayerHead
from ser_models.encoders.lora import add_adapters
from ser_models.encoders.plan import INPUT, EncoderPlan


class EncoderClassifier(nn.Module):
    """Logits from a boundary's frames, from pooled frozen layers, or from both.

    Its parameters and its state are the trained layers and the head alone. The frozen layers are the encoder's own,
    shared by all trials of a process, and always in eval mode: no dropout, no layer drop.

    Args:
        encoder: frozen, on the device where this will be
        plan: what is trained, and where it starts
        num_classes: logits

    Attributes:
        thawed: whether the trained layers are run; while they are not, pooled layers stand for them
    """

    def __init__(self, encoder: SplitEncoder, plan: EncoderPlan, *, num_classes: int) -> None:
        super().__init__()
        self._encoder = (encoder,)  # in a tuple: no submodule, so neither trained, nor saved, nor put in train mode
        self._plan = plan
        self.thawed = True
        trained = list(encoder.layers)[plan.first_trained :]
        self.layers = nn.ModuleList(copy.deepcopy(layer).requires_grad_(plan.lora is None) for layer in trained)
        if plan.lora is not None:
            add_adapters(self.layers, plan.lora)
        self.final_norm: nn.Module | None = None
        if plan.depth and encoder.final_norm is not None:
            self.final_norm = copy.deepcopy(encoder.final_norm).requires_grad_(plan.lora is None)
        self.head = LayerHead(
            plan.head, num_states=len(plan.mixed_states), hidden_size=encoder.hidden_size, num_classes=num_classes
        )

    @property
    def encoder(self) -> SplitEncoder:
        """The frozen encoder."""
        return self._encoder[0]

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """Trained parameters of the encoder's layers, bottom first; the final norm counts to the top layer."""
        layers = [[p for p in layer.parameters() if p.requires_grad] for layer in self.layers]
        if self.final_norm is not None:
            layers[-1] += [parameter for parameter in self.final_norm.parameters() if parameter.requires_grad]
        return layers

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_classes).

        Args:
            frames: (batch, frames, dim) at the plan's start; unused where it has none
            lengths: int64 (batch,), frames of each clip
            pooled: (batch, columns) of the pooled frozen layers, of all that the head mixes while nothing is thawed;
                unused where the plan reads none
        """
        plan, head = self._plan, self.head
        if plan.start is None or not self.thawed:
            return head.classify_pooled(self._pooled_states(pooled))
        states, lengths = self._frozen_states(frames, lengths)
        hidden = states[-1]
        if self.training and plan.masks is not None and plan.mask_at != INPUT:
            hidden = plan.masks(hidden, lengths)
        trained = self._run_trained(hidden, lengths)
        if head.pools_frames_of_mix:
            all_states = [*states, *trained]
            mixed = all_states[-1:] if plan.head.layer_mix == "last" else all_states
            return head.classify_frames(mixed, lengths)
        if plan.head.layer_mix == "last":
            return head.classify_pooled(head.pool([*states, *trained][-1], lengths)[:, None])
        vectors = torch.stack([head.pool(state, lengths) for state in trained], dim=1) if trained else None
        if plan.reads_pooled:
            frozen = self._pooled_states(pooled)
        else:
            frozen = torch.stack([head.pool(state, lengths) for state in states], dim=1)
        return head.classify_pooled(frozen if vectors is None else torch.cat([frozen.to(vectors.dtype), vectors], 1))

    def _pooled_states(self, pooled: torch.Tensor) -> torch.Tensor:
        """(batch, states, columns of a state): means, and with statistics pooling deviations beside them."""
        blocks = 2 if self._plan.head.pooling == "statistics" else 1
        parts = pooled.view(len(pooled), blocks, -1, self.encoder.hidden_size)  # (batch, blocks, states, hidden)
        return parts.transpose(1, 2).flatten(2)

    @torch.no_grad()
    def _frozen_states(self, frames: torch.Tensor, lengths: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Hidden states from the start's to the one that enters the trained layers, and their lengths."""
        plan, encoder = self._plan, self.encoder
        hidden = frames.to(encoder.dtype)
        start = plan.start
        if start == INPUT:
            if self.training and plan.masks is not None:
                hidden = plan.masks(hidden, lengths, encoder.mask_vector)
            hidden = encoder.embed(hidden, lengths)
            lengths = encoder.hidden_frames(lengths)
            start = 0
        assert isinstance(start, int)
        frozen = list(encoder.layers)[start : plan.first_trained]
        states = [hidden, *run_layers(encoder, frozen, hidden, lengths)]
        if frozen and plan.depth == 0 and encoder.final_norm is not None:
            states[-1] = encoder.final_norm(states[-1])
        return states, lengths

    def _run_trained(self, hidden: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        if not len(self.layers):
            return []
        states = run_layers(
            self.encoder,
            list(self.layers),
            hidden,
            lengths,
            first_layer=self.layers[0] if self._plan.first_trained == 0 else None,
            checkpointed=self._plan.gradient_checkpointing and self.training,
        )
        if self.final_norm is not None:
            states[-1] = self.final_norm(states[-1])
        return states
