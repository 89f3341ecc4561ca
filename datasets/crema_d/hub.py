"""CREMA-D from a mirror on the Hugging Face Hub, through ``huggingface_hub``.

The library resumes, retries and runs connections in parallel; it compares sizes. Content is compared here, with the
sha256 (large files) or the Git blob id (small ones) that the Hub states. That proves a faithful copy of the mirror;
whether the mirror is a faithful copy of CREMA-D, only the official checksums can tell.
"""

import hashlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from crema_d.naming import EXAMPLE, parse_name
from ser_data.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import RepoFile
    from huggingface_hub.hf_api import RepoFolder

# 7,442 audio files under ODbL, uploaded by a third party. Most other copies on the Hub are parquet files, in which the
# clips have lost their files, and some of them their names.
DEFAULT_MIRROR = "silky1708/CREMA-D"

_AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus")
_PATTERNS = [*(f"*{suffix}" for suffix in _AUDIO_SUFFIXES), "*.csv"]


def download_mirror(to: Path, *, mirror: str = DEFAULT_MIRROR, jobs: int = 8, endpoint: str | None = None) -> int:
    """Fetch the clips, and the tables if there are any, of a dataset on the Hub.

    Args:
        to: folder to fill; what is there and complete stays
        mirror: dataset id, ``OWNER/NAME``
        jobs: connections at once
        endpoint: another address of the Hub; by default that of ``HF_ENDPOINT``, else https://huggingface.co

    Returns:
        number of clips in the mirror, all of them now in *to*

    Raises:
        UserError: no network, no such dataset, no audio files under CREMA-D's names, no room, or damaged files
    """
    # A slow import that the other source does not need.
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # The library's HTTP client changes between its major versions; its errors are what HfHubHTTPError builds on.
    client_error = cast("type[Exception]", HfHubHTTPError.__bases__[0])
    source = f"the dataset {mirror} on the Hugging Face Hub"
    other_ways = "Give another dataset with --repo OWNER/NAME, or use --source official."
    try:
        api = HfApi(endpoint=endpoint)
        revision = api.dataset_info(mirror).sha  # also finds out quickly whether anybody is there
        clips = _clips(api.list_repo_tree(mirror, repo_type="dataset", revision=revision, recursive=True))
        if clips:
            snapshot_download(
                mirror,
                repo_type="dataset",
                revision=revision,
                local_dir=to,
                allow_patterns=_PATTERNS,
                max_workers=jobs,
                endpoint=endpoint,
            )
    except (HfHubHTTPError, HFValidationError) as error:
        raise UserError(f"{source} cannot be read: {_one_line(error)}. {other_ways}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, client_error) as error:
        raise UserError(
            f"{source} cannot be reached: {_one_line(error)}. Check the network, HTTPS_PROXY if there is a proxy, and "
            "that HF_HUB_OFFLINE is not set; the same command then goes on."
        ) from error
    except OSError as error:
        raise UserError(f"{to} cannot be written: {error}. Give another folder with --to.") from error
    if not clips:
        raise UserError(f"{source} has no audio files named like {EXAMPLE}.wav. {other_ways}")
    damaged = _damaged(to, clips, jobs=jobs)
    if damaged:
        raise UserError(
            f"{len(damaged)} clips came damaged from {source} and were removed, e.g. {damaged[0]}. Run the same "
            "command again: it fetches these only."
        )
    return len(clips)


def _clips(entries: "Iterable[RepoFile | RepoFolder]") -> "list[RepoFile]":
    """The audio files under CREMA-D's names."""
    from huggingface_hub import RepoFile

    def is_clip(path: PurePosixPath) -> bool:
        return path.suffix.lower() in _AUDIO_SUFFIXES and parse_name(path.stem) is not None

    return [entry for entry in entries if isinstance(entry, RepoFile) and is_clip(PurePosixPath(entry.path))]


def _damaged(to: Path, clips: "Sequence[RepoFile]", *, jobs: int) -> list[str]:
    """Paths of clips whose content is not what the Hub states; their files are removed."""
    with ThreadPoolExecutor(jobs) as pool:
        right = list(pool.map(lambda clip: _is_right(to / clip.path, clip), clips))
    damaged = [clip.path for clip, is_right in zip(clips, right, strict=True) if not is_right]
    for path in damaged:
        (to / path).unlink(missing_ok=True)
    return damaged


def _is_right(path: Path, clip: "RepoFile") -> bool:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return False
    if clip.lfs is not None:
        return hashlib.sha256(data).hexdigest() == clip.lfs.sha256
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest() == clip.blob_id


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(".")
