"""CREMA-D from its authors' Git repository: the list of clips from the archive, the clips from the LFS media."""

import errno
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from crema_d.fetch import Checksum, Fetcher, FetchError, NoConnectionError, Patience
from crema_d.release import CHECKSUMS_FILE, ArchiveError, read_checksums, unpack_archive, write_checksums
from ser_data.errors import UserError

_LIST_ATTEMPTS = 3  # fewer than for a clip: whoever has no network should hear of it within seconds
_FAILURES_IN_A_ROW = 20  # after so many the fault is not the single file's
_OTHER_WAYS = (
    "Other ways: `--source huggingface`; the authors' mirror at https://gitlab.com/cs-cooper-lab/crema-d-mirror; or, "
    "to try things out, generated speech (`python search/run.py --data sample`)."
)


@dataclass(frozen=True)
class Repository:
    """Where a Git repository with LFS files can be read without Git.

    Attributes:
        archive_url: ZIP of all files, LFS files as pointers
        media_url: folder of the LFS files themselves
    """

    archive_url: str
    media_url: str


OFFICIAL = Repository(
    archive_url="https://codeload.github.com/CheyneyComputerScience/CREMA-D/zip/refs/heads/master",
    media_url="https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master",
)


@dataclass
class Report:
    """What a download did.

    Attributes:
        num_there: clips that were complete before
        num_fetched: clips that came now
        num_bytes: received for them
        failed: reason by path, for every clip that could not be had
    """

    num_there: int = 0
    num_fetched: int = 0
    num_bytes: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def download_official(
    to: Path,
    *,
    jobs: int = 8,
    repository: Repository = OFFICIAL,
    patience: Patience | None = None,
    progress: bool = True,
) -> Report:
    """Fetch the clips and tables of the repository.

    Args:
        to: folder to fill; a clip that is there and has the right sha256 stays
        jobs: connections at once
        repository: where from
        patience: attempts, time limits and waits
        progress: show a bar on stderr, where that is a terminal

    Returns:
        what was done; single clips that could not be had are in ``failed``

    Raises:
        UserError: no network, no list of clips, no room on the disk, or one failure after another
    """
    patience = patience or Patience()
    try:
        to.mkdir(parents=True, exist_ok=True)
        checksums = read_checksums(to / CHECKSUMS_FILE) or _fetch_list(repository, to, patience)
        return _fetch_clips(Fetcher(patience), repository, to, checksums, jobs=jobs, progress=progress)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise UserError(f"the disk under {to} is full. Free some space; the same command then goes on.") from error
        raise UserError(f"{to} cannot be written: {error}. Give another folder with --to.") from error


def _fetch_list(repository: Repository, to: Path, patience: Patience) -> dict[str, Checksum]:
    """Clips and their checksums from the repository's archive; its tables are left in *to*."""
    archive = to / "repository.zip"
    try:
        fetcher = Fetcher(replace(patience, attempts=min(patience.attempts, _LIST_ATTEMPTS)))
        fetcher.fetch(repository.archive_url, archive, checksum=None)
        checksums = unpack_archive(archive, to)
    except NoConnectionError as error:
        raise UserError(
            f"{repository.archive_url} cannot be reached: {error}. Check the network, and HTTPS_PROXY if there is a "
            f"proxy; the same command then goes on. {_OTHER_WAYS}"
        ) from error
    except (FetchError, ArchiveError) as error:
        raise UserError(f"no list of clips from {repository.archive_url}: {error}. {_OTHER_WAYS}") from error
    finally:
        archive.unlink(missing_ok=True)
    write_checksums(checksums, to / CHECKSUMS_FILE)
    return checksums


def _fetch_clips(
    fetcher: Fetcher,
    repository: Repository,
    to: Path,
    checksums: Mapping[str, Checksum],
    *,
    jobs: int,
    progress: bool,
) -> Report:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        ThreadPoolExecutor(jobs) as pool,
        Progress(
            *columns, TimeRemainingColumn(), console=console, disable=not (progress and console.is_terminal)
        ) as bar,
    ):
        task = bar.add_task("checking", total=_num_bytes(checksums))

        def advance(name: str) -> None:
            bar.advance(task, checksums[name].size)

        missing = {name: checksums[name] for name in _missing(pool, to, checksums, advance)}
        _refuse_too_little_room(to, missing)
        bar.reset(task, total=_num_bytes(missing), description="fetching")
        for folder in {(to / name).parent for name in missing}:
            folder.mkdir(parents=True, exist_ok=True)

        def fetch(name: str) -> int:
            return fetcher.fetch(f"{repository.media_url}/{name}", to / name, checksum=missing[name])

        running = {pool.submit(fetch, name): name for name in missing}
        report = Report(num_there=len(checksums) - len(missing))
        try:
            _collect(running, report, advance, repository)
        except BaseException:
            fetcher.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return report


def _missing(
    pool: ThreadPoolExecutor, to: Path, checksums: Mapping[str, Checksum], advance: Callable[[str], None]
) -> list[str]:
    """Clips that are not there, or not as they should be (an LFS pointer of an earlier clone, say)."""
    right = pool.map(lambda name: checksums[name].matches(to / name), checksums)
    missing = []
    for name, is_right in zip(checksums, right, strict=True):
        advance(name)
        if not is_right:
            missing.append(name)
    return missing


def _collect(
    running: Mapping[Future[int], str], report: Report, advance: Callable[[str], None], repository: Repository
) -> None:
    in_a_row = 0
    for done in as_completed(running):
        name = running[done]
        try:
            report.num_bytes += done.result()
        except FetchError as error:
            report.failed[name] = str(error)
            in_a_row += 1
            if in_a_row == _FAILURES_IN_A_ROW:
                raise UserError(
                    f"{in_a_row} clips in a row could not be had from {repository.media_url}, the last one because: "
                    f"{error}. (GitHub serves LFS files within a monthly budget of the repository only.) What came is "
                    f"kept, and the same command goes on from there. {_OTHER_WAYS}"
                ) from error
        else:
            report.num_fetched += 1
            in_a_row = 0
            advance(name)


def _refuse_too_little_room(to: Path, missing: Mapping[str, Checksum]) -> None:
    needed, free = _num_bytes(missing), shutil.disk_usage(to).free
    if needed > free:
        raise UserError(
            f"{needed / 1e6:.0f} MB are to come, and {free / 1e6:.0f} MB are free under {to}. Free some space, or give "
            "another folder with --to."
        )


def _num_bytes(checksums: Mapping[str, Checksum]) -> int:
    return sum(checksum.size for checksum in checksums.values())
