"""One file of a repository on the hub, from the cache or downloaded into it, and what to say where that fails."""

import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from ser_data.errors import UserError


class NotOnHubError(UserError):
    """The hub has no such file, as far as it lets one see."""


def hub_file(repository: str, revision: str | None, file: str, *, noun: str, example: str) -> Path:
    """Where a repository's *file* lies on this machine.

    Args:
        repository: hub id
        revision: branch, tag or commit; None for the newest
        file: its name in the repository
        noun: what messages call the repository's network
        example: a hub id of one

    Raises:
        NotOnHubError: if there is none
        UserError: if the hub cannot be reached and the cache does not have it
    """
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

    shown = _shown(repository, revision)
    try:
        if (cached := cached_file(repository, revision, file)) is not None:
            return cached
        _ask_hub(huggingface_hub.hf_hub_url(repository, file))
        return Path(huggingface_hub.hf_hub_download(repository, file, revision=revision))
    except (RepositoryNotFoundError, RevisionNotFoundError, RemoteEntryNotFoundError) as error:
        raise NotOnHubError(
            f"--encoder {shown}: the hub has no such repository, revision or {file} in it (or it is not open to "
            "you). Check the spelling on huggingface.co, or name a folder."
        ) from error
    except (LocalEntryNotFoundError, OSError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise UserError(unreachable(repository, revision, noun=noun)) from error
    except HFValidationError as error:
        raise UserError(
            f"--encoder {shown} is no hub id ({error}). Accepted is ID or ID@REVISION, e.g. {example}, or a folder."
        ) from error


def cached_file(repository: str, revision: str | None, file: str) -> Path | None:
    """Where a repository's *file* lies in the cache of this machine, None where it does not.

    Raises:
        huggingface_hub.errors.HFValidationError: *repository* is no hub id
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repository, file, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def _ask_hub(url: str) -> None:
    """Raise an OSError where the hub cannot be reached: its own client tries again for 23 s, and says so each time."""
    with suppress(urllib.error.HTTPError):  # it answers: what it answers is the client's business
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=10).close()


def unreachable(repository: str, revision: str | None, *, noun: str) -> str:
    """What to say where the hub does not answer and the network is not in its cache."""
    from huggingface_hub.constants import HF_HUB_CACHE

    pinned = "" if revision is None else f" --revision {revision}"
    return (
        f"The {noun} {_shown(repository, revision)} is not in the cache {HF_HUB_CACHE}, and the hub cannot be reached. "
        "Three ways out: run once where there is a network (the cache keeps it); fetch it elsewhere with `hf download "
        f"{repository}{pinned} --local-dir FOLDER`, copy the folder here and give --encoder FOLDER; or try the search "
        "with --encoder tiny (random weights, scores mean nothing)."
    )


def _shown(repository: str, revision: str | None) -> str:
    return repository if revision is None else f"{repository}@{revision}"
