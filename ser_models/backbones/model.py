"""The network of a trial: the trained stages and the head, on top of frozen ones that belong to the backbone."""

import copy

import torch
from torch import nn

from ser_models.backbones.architectures import SplitBackbone
from ser_models.backbones.plan import IMAGE, BackbonePlan
from ser_models.classifier import mlp_classifier

# Share of a batch in the running statistics, torch's own. transformers hands EfficientNets TensorFlow's .99, which in
# torch means the opposite: statistics of the last batch alone.
_MOMENTUM = 0.1


class VectorHead(nn.Module):
    """Brings vectors to mean 0 and deviation 1 over the training clips, and classifies them.

    Attributes:
        shift: (dim,), means over the training clips
        scale: likewise, inverse standard deviations
    """

    shift: torch.Tensor
    scale: torch.Tensor

    def __init__(self, dim: int, classifier: nn.Module) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.classifier = classifier

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_classes) of vectors (batch, dim)."""
        logits: torch.Tensor = self.classifier((vectors - self.shift) * self.scale)
        return logits


class BackboneClassifier(nn.Module):
    """Logits from pooled vectors, from a stage's map, or from images.

    Its parameters and its state are the trained stages, the stem where that is trained, and the head. The frozen
    stages are the backbone's own, shared by all trials of a process, and always in eval mode. Frozen batch norms are in
    eval mode too, whatever ``train()`` says.

    Args:
        backbone: frozen, on the device where this will be
        plan: what is trained, and where it starts
        num_classes: logits
    """

    def __init__(self, backbone: SplitBackbone, plan: BackbonePlan, *, num_classes: int) -> None:
        super().__init__()
        self._backbone = (backbone,)  # in a tuple: no submodule, so neither trained, nor saved, nor put in train mode
        self._plan = plan
        trained = backbone.stages[plan.first_trained :] if plan.depth else []
        self.stem = copy.deepcopy(backbone.stem).requires_grad_(True) if plan.trains_stem else None
        self.stages = nn.ModuleList(copy.deepcopy(stage).requires_grad_(True) for stage in trained)
        for norm in self._norms():
            norm.momentum = _MOMENTUM
            norm.requires_grad_(plan.batch_norm == "trained")
        head = plan.head
        self.head = VectorHead(
            backbone.dim,
            mlp_classifier(
                backbone.dim,
                hidden_layers=head.hidden_layers,
                hidden_units=head.hidden_units,
                dropout=head.dropout,
                num_classes=num_classes,
            ),
        )

    @property
    def backbone(self) -> SplitBackbone:
        """The frozen backbone."""
        return self._backbone[0]

    def train(self, mode: bool = True) -> "BackboneClassifier":
        """As torch's, save for frozen batch norms."""
        super().train(mode)
        if self._plan.batch_norm == "frozen":
            for norm in self._norms():
                norm.eval()
        return self

    def backbone_layers(self) -> list[list[nn.Parameter]]:
        """Trained parameters of each part of the backbone, bottom first: the stem where it is trained, then stages."""
        parts = [*([self.stem] if self.stem is not None else []), *self.stages]
        return [[parameter for parameter in part.parameters() if parameter.requires_grad] for part in parts]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits (batch, num_classes).

        Args:
            inputs: by the plan's start: pooled vectors (batch, dim), maps (batch, height, width, channels) or images
                (batch, 3, height, width)
        """
        plan, backbone = self._plan, self.backbone
        if plan.start is None:
            return self.head(inputs)
        hidden = inputs.to(backbone.dtype)
        if plan.start == IMAGE:
            hidden = self.stem(hidden) if self.stem is not None else self._frozen_stages(hidden)
        else:
            hidden = hidden.permute(0, 3, 1, 2)  # rows of pixels are torch's channels_last layout as they lie
        for stage in self.stages:
            hidden = stage(hidden)
        return self.head(backbone.pool(hidden))

    @torch.no_grad()
    def _frozen_stages(self, images: torch.Tensor) -> torch.Tensor:
        """The map that enters the first trained stage."""
        hidden: torch.Tensor = self.backbone.stem(images)
        for stage in self.backbone.stages[: self._plan.first_trained]:
            hidden = stage(hidden)
        return hidden

    def _norms(self) -> list[nn.BatchNorm2d]:
        """Batch norms of the trained parts."""
        return [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
