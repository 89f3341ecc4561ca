"""Prepare CREMA-D for a search: ``python -m crema_d.prepare SOURCE --out DIR``.

SOURCE is a folder or a zip of WAV, FLAC, MP3, Ogg or Opus files in CREMA-D's naming, nested or flat, any rate, mono or
stereo. DIR gets a manifest (one row per clip, left-out ones with the reason) and one packed file of 16 kHz samples.
"""

import argparse
import re
from collections import Counter
from pathlib import Path

from crema_d import EMOTIONS
from crema_d.defects import MISNAMED, label_conflicts, misnamed_reason
from crema_d.naming import EXAMPLE, parse_name
from crema_d.release_tables import NAMES, read_release_tables, tables_beside
from ser_data.command import run_command
from ser_data.corpus import GENERATED_MARKER, Corpus, is_prepared
from ser_data.errors import UserError
from ser_data.left_out import NothingLeftError, print_left_out, print_summary
from ser_data.prepare_corpus import FoundClip, Plan, is_current, prepare_planned
from ser_data.prepared_folder import Identity
from ser_data.sources import AUDIO_SUFFIXES, LOSSLESS_SUFFIXES, Source, SourceFile, open_source, source_fingerprint

_ADVICE = (
    f"Names must read like {EXAMPLE}.wav; for a corpus with other names write a table with the columns file, speaker, "
    f"emotion and give that (--data clips.csv)."
)


def prepare(source: Path, out: Path, *, jobs: int | None = None, progress: bool = True) -> Corpus:
    """Prepare *source* into *out*, or open *out* if it was made from the same files already.

    Speech is marked as generated where the source folder holds ``sample_corpus.json``.

    Args:
        source: folder or zip of clips; nothing is written to it
        out: folder for manifest and packed samples, 2 bytes per sample at 16 kHz (CREMA-D: 600 MB)
        jobs: threads, default one per core
        progress: show a progress bar on stderr

    Raises:
        UserError: if the source is missing, unreadable, empty, or none of its clips can be used; if the disk is full
    """
    source, out = Path(source), Path(out)
    listing = fingerprint(source)
    if out.resolve() == source.resolve():
        raise UserError(f"--out {out} is the source itself. Give a folder of its own, e.g. --out data/crema_d.")
    return prepare_planned(lambda: _plan(source), out, fingerprint=listing, jobs=jobs, progress=progress)


def prepare_once(source: Path, cache: Path, *, jobs: int | None = None, progress: bool = True) -> Path:
    """Prepare a raw folder or zip into a cache, once for all searches that use it.

    Args:
        source: folder or zip of clips
        cache: the corpus goes to ``cache/corpora/NAME-FINGERPRINT``; a changed source gets a folder of its own

    Returns:
        the prepared folder

    Raises:
        UserError: as `prepare`
    """
    source = Path(source)
    listing = fingerprint(source)
    name = re.sub(r"[^\w.-]+", "_", source.resolve().stem) or "corpus"
    out = Path(cache) / "corpora" / f"{name}-{listing}"
    if not is_current(out, listing):
        prepare_planned(lambda: _plan(source), out, fingerprint=listing, jobs=jobs, progress=progress)
    return out


def fingerprint(source: Path) -> str:
    """Fingerprint of everything a preparation depends on: clips, release tables, marker; stats only, opens no file.

    Raises:
        UserError: if *source* is missing, unreadable or a prepared corpus already
    """
    if is_prepared(source):
        raise UserError(
            f"{source} is a prepared corpus already. Use it as it is (--data {source}), or give the folder with the "
            f"audio."
        )
    return source_fingerprint(
        source,
        (*AUDIO_SUFFIXES, *map(str.lower, NAMES), GENERATED_MARKER.lower()),
        extra=tables_beside(source).values(),
    )


def _plan(root: Path) -> Plan:
    source = open_source(root)
    clips = _group(source)
    if not clips:
        raise _no_audio(source)
    tables = read_release_tables(source)
    generated = any(file.path.rpartition("/")[2] == GENERATED_MARKER for file in source.files)
    notes = list(tables.notes)
    other_copies = [file.path for files in clips.values() for file in files[1:]]
    if other_copies:
        notes.append(f"{len(other_copies)} files are other copies of a clip and were not used, e.g. {other_copies[0]}")
    found = []
    for clip in sorted(clips):
        name = parse_name(MISNAMED.get(clip, clip))
        row: dict[str, object] = {"clip": clip, "actor": "", "sentence": "", "emotion": "", "level": ""}
        if name is not None:
            row |= {"actor": name.actor, "sentence": name.sentence, "emotion": name.emotion, "level": name.level}
        row |= tables.columns(str(row["actor"]), MISNAMED.get(clip, clip))
        unknown = "" if name else f"unknown name: CREMA-D's names read like {EXAMPLE}"
        found.append(FoundClip(row, tuple(file.path for file in clips[clip]), misnamed_reason(clip) or unknown))
    identity = Identity("sample" if generated else "crema_d", "crema_d", generated, EMOTIONS, "tfds")
    return Plan(root, found, source.open, label_conflicts, lambda _: identity, _ADVICE, lambda _: notes)


def _group(source: Source) -> dict[str, list[SourceFile]]:
    """Files by clip, the preferred copy first.

    A release comes with the same clips in several folders (AudioWAV, AudioMP3). Lossless copies are preferred, then
    the folder with more clips, so that one corpus is not stitched together from two encodings without need. The other
    copies stand in where the preferred one cannot be used, e.g. where a clone fetched only one folder through Git LFS.
    """
    audio = [file for file in source.files if file.suffix in AUDIO_SUFFIXES]
    folder_sizes = Counter((file.folder, file.suffix) for file in audio)
    clips: dict[str, list[SourceFile]] = {}
    for file in audio:
        known = parse_name(file.stem) is not None or file.stem in MISNAMED
        # What is not named after a clip keeps its folder in the name: two files called "test" are not copies.
        clip = file.stem if known else file.path.removesuffix(file.path[-len(file.suffix) :])
        clips.setdefault(clip, []).append(file)
    for files in clips.values():
        files.sort(key=lambda f: (f.suffix not in LOSSLESS_SUFFIXES, -folder_sizes[f.folder, f.suffix], f.path))
    return clips


def _no_audio(source: Source) -> UserError:
    archives = [file.path for file in source.files if file.suffix == ".zip"]
    held = f"it holds {len(source.files)} other files" if source.files else "it is empty"
    step = (
        f"Give the archive in it: {source.root / archives[0]}."
        if archives
        else "Give the folder that holds the clips; `python -m crema_d.download --to DIR` fetches CREMA-D."
    )
    accepted = f"{', '.join(AUDIO_SUFFIXES)} files at any depth"
    return UserError(f"no audio in {source.root}: {held}. Accepted: {accepted}. {step}")


def main(arguments: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m crema_d.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, metavar="SOURCE", help="folder or zip with the clips; is only read")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write to (115 MB per hour of speech)"
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="threads (default: one per core)")
    options = parser.parse_args(arguments)
    try:
        corpus = prepare(options.source, options.out, jobs=options.jobs)
    except NothingLeftError as error:
        print_left_out(error.manifest)
        raise
    print_summary(corpus)
    return 0


if __name__ == "__main__":
    run_command(main)
