"""The sample corpus as a folder: plan, one process per actor, tables, marker."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crema_d.naming import EMOTION_CODES, SENTENCES
from sample_corpus.cast import CAST, Actor
from sample_corpus.espeak import require_espeak
from sample_corpus.speaker import planned_clips
from ser_data.command import EXIT_USER_ERROR
from ser_data.errors import UserError

NAME = "sample"  # of the corpus, on boards
MARKER_FILE = "sample_corpus.json"  # written last; its presence says: generated speech
VERSION = 1  # of the clips: raised with any change that makes the same seed sound different

_AUDIO_FOLDER = "AudioWAV"  # as in CREMA-D
_DEMOGRAPHICS_FILE = "VideoDemographics.csv"  # as in CREMA-D
_DEFAULT_PER_EMOTION = 8
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def folder_name(*, seed: int = 0) -> str:
    """Name for a cache folder of the whole corpus, different for every version of it.

    >>> folder_name(seed=3)
    'sample-v1-seed3'
    """
    return f"{NAME}-v{VERSION}-seed{seed}"


def generate(
    out: Path,
    *,
    seed: int = 0,
    num_actors: int = len(CAST),
    sentences: Sequence[str] = tuple(SENTENCES),
    per_emotion: int | None = None,
    jobs: int = 2,
    progress: bool = True,
) -> Path:
    """Write the sample corpus to *out*; a second call with the same arguments finds it there and returns at once.

    The clips are WAV files, mono, 16 bit, 16 kHz, ``AudioWAV/ACTOR_SENTENCE_EMOTION_LEVEL.wav``. Equal arguments give
    equal bytes on one machine, whatever *jobs* is.

    Args:
        out: folder to make; its parents too
        seed: of everything that is drawn
        num_actors: 1 to 16; three or more fill all parts of the split ``tfds``
        sentences: codes as in CREMA-D, e.g. ``("DFA", "IEO")``
        per_emotion: how many of the sentences each actor says with each emotion; 8, or all if there are fewer
        jobs: processes at once
        progress: show a bar on stderr, where that is a terminal

    Returns:
        *out*

    Raises:
        UserError: espeak-ng is missing, an argument is out of range, *out* holds something else or cannot be written
    """
    request = _request(seed=seed, num_actors=num_actors, sentences=sentences, per_emotion=per_emotion)
    if jobs < 1:
        raise UserError(f"jobs = {jobs}: at least one process is needed. Give 1 or more.")
    out = Path(out)
    if _is_there(out, request):
        return out
    require_espeak()
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        (partial / _AUDIO_FOLDER).mkdir(parents=True)
        _speak_all(request, partial / _AUDIO_FOLDER, jobs=jobs, progress=progress)
        _write_tables(request, partial)
        _move(partial, out, request)
    except OSError as error:
        raise UserError(
            f"the sample corpus cannot be written to {out}: {error}. About 60 MB are needed; give another folder."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _request(*, seed: int, num_actors: int, sentences: Sequence[str], per_emotion: int | None) -> dict[str, Any]:
    """What makes one sample corpus different from another, checked."""
    unknown = [code for code in sentences if code not in SENTENCES]
    if unknown or not sentences or len(set(sentences)) < len(sentences):
        raise UserError(f"sentences = {list(sentences)}: give one or more of {', '.join(SENTENCES)}, each once.")
    if per_emotion is None:
        per_emotion = min(_DEFAULT_PER_EMOTION, len(sentences))
    for name, value, most in (("num_actors", num_actors, len(CAST)), ("per_emotion", per_emotion, len(sentences))):
        if not 1 <= value <= most:
            raise UserError(f"{name} = {value} is out of range: 1 to {most} are possible. Give a number in between.")
    return {
        "version": VERSION,
        "seed": seed,
        "num_actors": num_actors,
        "sentences": list(sentences),
        "per_emotion": per_emotion,
    }


def _is_there(out: Path, request: dict[str, Any]) -> bool:
    """Whether *out* holds exactly this corpus; UserError if it holds anything else."""
    try:
        if not out.exists() or (out.is_dir() and not any(out.iterdir())):
            return False
        marker = json.loads((out / MARKER_FILE).read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UserError(
            f"{out} is there and is no sample corpus. Give a folder that is empty or does not exist."
        ) from None
    except OSError as error:
        raise UserError(f"{out} cannot be read: {error.strerror}. Check its permissions.") from error
    found = {name: marker.get(name) for name in request}
    different = [f"{name} {found[name]}, not {request[name]}" for name in request if found[name] != request[name]]
    if different:
        raise UserError(
            f"{out} holds another sample corpus ({'; '.join(different)}). Delete that folder, or give another one."
        )
    return True


def _speak_all(request: dict[str, Any], folder: Path, *, jobs: int, progress: bool) -> None:
    # Only here: each speaker imports this package too, and has no use for them.
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar,
        ThreadPoolExecutor(jobs) as pool,
    ):
        total = request["num_actors"] * len(EMOTION_CODES) * request["per_emotion"]
        task = bar.add_task(f"generating {total} clips of speech", total=total)
        running = [pool.submit(_speak_one, actor, request, folder) for actor in CAST[: request["num_actors"]]]
        try:
            for done in as_completed(running):
                bar.advance(task, done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _speak_one(actor: Actor, request: dict[str, Any], folder: Path) -> int:
    """Let one actor speak in a fresh process; the number of clips."""
    names = planned_clips(actor, request["sentences"], per_emotion=request["per_emotion"], seed=request["seed"])
    order = {"actor": actor.number, "names": names, "folder": str(folder.resolve()), "seed": request["seed"]}
    search_path = os.pathsep.join(filter(None, [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    # -P: a module in the folder where the user happens to stand must not be taken for one of the library's.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sample_corpus.speaker"],
        input=json.dumps(order),
        env={**os.environ, "PYTHONPATH": search_path, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode == EXIT_USER_ERROR:
        raise UserError(done.stderr.strip())
    if done.returncode != 0:
        raise RuntimeError(f"speaking as {actor.number} ended with {done.returncode}: {done.stderr.strip()}")
    return len(names)


def _write_tables(request: dict[str, Any], folder: Path) -> None:
    with (folder / _DEMOGRAPHICS_FILE).open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ActorID", "Age", "Sex", "Race", "Ethnicity"])
        for actor in sorted(CAST[: request["num_actors"]], key=lambda actor: actor.number):
            table.writerow([actor.number, actor.age, actor.sex, "Generated", "Generated"])
    marker = {
        "note": "Speech generated by espeak-ng. The actors are not the people of CREMA-D who have these numbers.",
        "name": NAME,
        "espeakng_loader": version("espeakng-loader"),
        **request,
    }
    (folder / MARKER_FILE).write_text(json.dumps(marker, indent=2) + "\n")


def _move(partial: Path, out: Path, request: dict[str, Any]) -> None:
    try:
        partial.rename(out)
    except OSError:
        if not _is_there(out, request):  # another process may have been first with the same corpus
            raise
