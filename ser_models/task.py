"""What all trials of a search share: the data, the split, the labels and the place for cached features."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from ser_data.errors import UserError


@dataclass(frozen=True)
class Task:
    """One learning task, the same for every trial that is compared.

    Attributes:
        corpus_folder: a prepared corpus
        split: the split's name, e.g. ``"tfds"`` or ``"speaker_kfold:5:1"``
        emotions: the classes, in the order of the model's outputs
        seed: the seed of the split, where the split is drawn
        cache_dir: folder of the cached features on this node
        cache_gb: how many gigabytes (10**9 bytes) the cache may hold
        device: torch's name of where to train, e.g. ``"cpu"`` or ``"cuda"``
        encoder: which pretrained network, in the words of ``ser_models.pretrained.source``; empty where none is used.
            Of a search over several, that of the trial at hand
        precision: of that network's arithmetic: ``"fp32"``, ``"bf16"``, or ``"auto"`` for bf16 where the device
            computes it fast
        cache_precision: in which frozen layers' outputs are kept on disk: ``"bf16"`` or ``"fp32"``
        judged: the part of the split that networks are judged on after each epoch: ``"validation"``; or ``"test"``, for
            networks that are trained already
    """

    corpus_folder: str
    split: str
    emotions: tuple[str, ...]
    seed: int
    cache_dir: str
    cache_gb: float
    device: str
    encoder: str = ""
    precision: str = "auto"
    cache_precision: str = "bf16"
    judged: str = "validation"

    def __post_init__(self) -> None:
        if len(self.emotions) < 2 or len(set(self.emotions)) != len(self.emotions):
            raise UserError(
                f"The emotions of a task are {list(self.emotions)}. Accepted are two different ones or more. "
                "Name them with --emotions, separated by commas."
            )

    def without_network(self) -> "Task":
        """This task as it is under any pretrained network: what is opened for one then serves the others."""
        return dataclasses.replace(self, encoder="", precision="auto", cache_precision="bf16")

    def to_dict(self) -> dict[str, object]:
        """The task as values that JSON takes; :meth:`from_dict` reads it back."""
        return {**dataclasses.asdict(self), "emotions": list(self.emotions)}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Task":
        """The task that :meth:`to_dict` wrote.

        Raises:
            UserError: if a field is missing or not known
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if set(values) != set(names):
            raise UserError(
                f"A stored task holds the fields {sorted(values)}. Accepted are exactly {sorted(names)}. "
                "It was written by another version: start the search in a new folder."
            )
        return cls(**{**values, "emotions": tuple(values["emotions"])})  # type: ignore[arg-type]  # the fields are checked above
