"""The classifier on top of a pretrained network."""

from torch import nn


def mlp_classifier(
    dim: int, *, hidden_layers: int, hidden_units: int, dropout: float, num_classes: int
) -> nn.Sequential:
    """From vectors (batch, dim) to logits (batch, num_classes).

    Args:
        dim: columns of a vector
        hidden_layers: 0 for a linear classifier
        hidden_units: of each hidden layer
        dropout: share of units, before each linear map
        num_classes: logits
    """
    modules: list[nn.Module] = []
    for _ in range(hidden_layers):
        modules += [nn.Dropout(dropout), nn.Linear(dim, hidden_units), nn.GELU()]
        dim = hidden_units
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(dim, num_classes))
