"""Where an encoder's weights come from: the hub, a folder, or nowhere (random). Imports neither torch nor transformers.

A search asks here before it touches any data, so that a wrong name costs a second; the weights themselves are read and
checked in :mod:`ser_models.encoders.loading`.
"""

import json
import os
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ser_data.errors import UserError

ENCODER_TYPES = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper")
TINY = "tiny"
TINY_LAYERS = 2
CONFIG_FILE = "config.json"
FEATURES_FILE = "preprocessor_config.json"
WEIGHT_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip
_LAYERS = {"whisper": "encoder_layers"}  # what a config calls its number of layers, where not the usual name


@dataclass(frozen=True)
class EncoderSource:
    """A pretrained encoder that was found, or random weights in its shape.

    Attributes:
        name: hub id, folder or ``"tiny"``, as it was given
        revision: of the hub's repository; None for its newest, and for what is no hub id
        model_type: one of :data:`ENCODER_TYPES`
        num_layers: transformer layers
        pretrained: False for random weights
    """

    name: str
    revision: str | None
    model_type: str
    num_layers: int
    pretrained: bool

    @property
    def is_folder(self) -> bool:
        """Whether the weights lie in a local folder."""
        return self.name != TINY and Path(self.name).is_dir()

    @property
    def label(self) -> str:
        """The name for boards, with a mark where the weights are random."""
        shown = Path(self.name).name if self.is_folder else self.name
        return shown if self.pretrained else f"{shown} (random weights)"

    @property
    def spec(self) -> str:
        """JSON from which :func:`source_from_spec` makes the same source in another process."""
        return json.dumps(self.__dict__, sort_keys=True)


def source_from_spec(spec: str) -> EncoderSource:
    """The source that :attr:`EncoderSource.spec` describes."""
    return EncoderSource(**json.loads(spec))


def find_encoder(name: str, *, types: tuple[str, ...] = ENCODER_TYPES, pretrained: bool = True) -> EncoderSource:
    """Find an encoder by what its ``config.json`` says; its weights are not read yet.

    Args:
        name: a hub id (``ID`` or ``ID@REVISION``), a local folder, or ``"tiny"``: random weights, two layers, in the
            shape of the first of *types*
        types: kinds of encoder that the search space is made for
        pretrained: False for random weights in the encoder's shape

    Raises:
        UserError: if there is no such folder or id, or it holds another kind of model, naming what was looked for
    """
    if name == TINY:
        return EncoderSource(TINY, None, types[0], TINY_LAYERS, pretrained=False)
    folder = Path(name).expanduser()
    if folder.is_dir():
        location, revision = str(folder.resolve()), None
        config = _folder_config(folder, name, pretrained)
    elif name.startswith((".", "~", os.sep)) or name.count("/") != 1 or folder.exists():
        raise UserError(
            f"--encoder {name}: there is no such folder, and it is no hub id. Accepted are a folder with "
            f"{CONFIG_FILE}, {FEATURES_FILE} and the weights, a hub id such as facebook/wav2vec2-base (a revision may "
            f"follow: ID@REVISION), or '{TINY}'."
        )
    else:
        location, _, revision = name.partition("@")
        config = _hub_config(location, revision or None)
    return _source(name, location, revision or None, config, types, pretrained)


def _source(
    name: str, location: str, revision: str | None, config: dict[str, Any], types: tuple[str, ...], pretrained: bool
) -> EncoderSource:
    model_type = str(config.get("model_type"))
    if model_type not in ENCODER_TYPES:
        raise UserError(
            f"--encoder {name} is a model of type '{model_type}'. Accepted are speech encoders of the types "
            f"{', '.join(ENCODER_TYPES)}. Name one of those."
        )
    if model_type not in types:
        fitting = "whisper_fast or whisper_full" if model_type == "whisper" else "wav2vec2_fast or wav2vec2_full"
        raise UserError(
            f"--encoder {name} is of type '{model_type}'; this space takes {', '.join(types)}. Use --space {fitting} "
            "for it, or name another encoder."
        )
    layers = config.get(_LAYERS.get(model_type, "num_hidden_layers"))
    if not isinstance(layers, int) or layers < 1:
        raise UserError(
            f"The {CONFIG_FILE} of --encoder {name} has {layers!r} for its number of layers. Accepted is a whole "
            "number from 1. Restore the file from where the encoder came from."
        )
    return EncoderSource(location, revision, model_type, layers, pretrained)


def _folder_config(folder: Path, name: str, pretrained: bool) -> dict[str, Any]:
    if (folder / CONFIG_FILE).is_file():
        config = _parsed(folder / CONFIG_FILE, name)
        if config.get("model_type") not in ENCODER_TYPES:
            return config  # what kind it is says more than what it lacks
    missing = [file for file in (CONFIG_FILE, FEATURES_FILE) if not (folder / file).is_file()]
    if pretrained and not any((folder / file).is_file() for file in WEIGHT_FILES):
        missing.append("the weights (one of " + ", ".join(WEIGHT_FILES) + ")")
    if missing:
        raise UserError(
            f"The folder --encoder {name} lacks {' and '.join(missing)}. An encoder's folder is what transformers' "
            "save_pretrained writes for the model and for its feature extractor. Copy the whole folder, or download "
            "it again."
        )
    return _parsed(folder / CONFIG_FILE, name)


def _parsed(path: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"The {CONFIG_FILE} of --encoder {name} cannot be read ({error}). Accepted is the JSON that transformers "
            "writes. Copy or download it again."
        ) from error
    if not isinstance(config, dict):
        raise UserError(f"The {CONFIG_FILE} of --encoder {name} is no JSON object. Copy or download it again.")
    return config


def _hub_config(repository: str, revision: str | None) -> dict[str, Any]:
    # 0.3 s, and only where the hub is asked
    import huggingface_hub
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    shown = repository if revision is None else f"{repository}@{revision}"
    try:
        cached = huggingface_hub.try_to_load_from_cache(repository, CONFIG_FILE, revision=revision)
        if isinstance(cached, str):
            return _parsed(Path(cached), shown)
        _ask_hub(huggingface_hub.hf_hub_url(repository, CONFIG_FILE))
        path = huggingface_hub.hf_hub_download(repository, CONFIG_FILE, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError) as error:
        raise UserError(
            f"--encoder {shown}: the hub has no such repository, revision or {CONFIG_FILE} in it (or it is not open to "
            "you). Check the spelling on huggingface.co, or name a folder."
        ) from error
    except (LocalEntryNotFoundError, OSError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise UserError(unreachable(repository, revision)) from error
    except HFValidationError as error:
        raise UserError(
            f"--encoder {shown} is no hub id ({error}). Accepted is ID or ID@REVISION, e.g. facebook/wav2vec2-base, "
            "or a folder."
        ) from error
    return _parsed(Path(path), shown)


def _ask_hub(url: str) -> None:
    """Raise an OSError where the hub cannot be reached: its own client tries again for 23 s, and says so each time."""
    with suppress(urllib.error.HTTPError):  # it answers: what it answers is the client's business
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()


def unreachable(repository: str, revision: str | None) -> str:
    """What to say where the hub does not answer and the encoder is not in its cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    pinned = "" if revision is None else f" --revision {revision}"
    shown = repository if revision is None else f"{repository}@{revision}"
    return (
        f"The encoder {shown} is not in the cache {HF_HUB_CACHE}, and the hub cannot be reached. Three ways out: run "
        f"once where there is a network (the cache keeps it); fetch it elsewhere with `hf download {repository}"
        f"{pinned} --local-dir FOLDER`, copy the folder here and give --encoder FOLDER; or try the search with "
        f"--encoder {TINY} (random weights, scores mean nothing)."
    )
