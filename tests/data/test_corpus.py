"""Opening a prepared folder: what is refused, with which message."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from crema_d.prepare import prepare
from ser_data.corpus import Corpus, open_corpus
from ser_data.errors import UserError


@pytest.fixture
def corpus(write_folder: Callable[..., Path], tmp_path: Path) -> Corpus:
    return prepare(write_folder(tmp_path / "raw"), tmp_path / "prepared", jobs=1, progress=False)


def test_an_opened_corpus_is_the_prepared_one(corpus: Corpus) -> None:
    opened = open_corpus(corpus.folder)
    assert opened.manifest_hash == corpus.manifest_hash
    np.testing.assert_array_equal(opened.waveforms[4], corpus.waveforms[4])


def test_a_folder_that_was_moved_opens(corpus: Corpus, tmp_path: Path) -> None:
    moved = corpus.folder.rename(tmp_path / "elsewhere")
    assert len(open_corpus(moved).waveforms[5]) == 8_000


def test_a_pickled_corpus_carries_no_samples(corpus: Corpus) -> None:
    corpus.waveforms[0]
    content = pickle.dumps(corpus)
    assert len(content) < corpus.waveforms.path.stat().st_size / 2
    np.testing.assert_array_equal(pickle.loads(content).waveforms[0], corpus.waveforms[0])


def test_an_emotion_that_the_corpus_does_not_have_is_named(corpus: Corpus) -> None:
    with pytest.raises(UserError, match=r"emotion 'joy' is not in the corpus crema_d\. Its emotions: anger, disgust"):
        corpus.labels(["joy", "sad"])


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no corpus at .*nowhere: .*python -m crema_d\.prepare SOURCE --out .*nowhere"):
        open_corpus(tmp_path / "nowhere")


def test_a_raw_folder_is_named_with_the_command_that_prepares_it(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"raw is not a prepared corpus: .*python -m crema_d\.prepare .*raw --out DIR"):
        open_corpus(tmp_path / "raw")


@pytest.mark.parametrize("name", ["manifest.csv", "waveforms.i16"])
def test_a_lost_file_is_named(corpus: Corpus, name: str) -> None:
    (corpus.folder / name).unlink()
    with pytest.raises(UserError, match=rf"lacks {name}\. Prepare it again"):
        open_corpus(corpus.folder)


def test_an_edited_manifest_is_named(corpus: Corpus) -> None:
    path = corpus.folder / "manifest.csv"
    path.write_text(path.read_text().replace("happy", "anger"))
    with pytest.raises(UserError, match=r"manifest\.csv was changed after the corpus was prepared\. Prepare it again"):
        open_corpus(corpus.folder)


def test_cut_samples_are_named(corpus: Corpus) -> None:
    path = corpus.folder / "waveforms.i16"
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.raises(UserError, match=r"waveforms\.i16 has 1000 bytes, 96000 were written\. Prepare it again"):
        open_corpus(corpus.folder)


def test_a_damaged_header_is_named(corpus: Corpus) -> None:
    (corpus.folder / "corpus.json").write_text("{")
    with pytest.raises(UserError, match=r"corpus\.json is damaged .*Prepare the corpus again"):
        open_corpus(corpus.folder)


def test_another_format_version_is_named(corpus: Corpus) -> None:
    path = corpus.folder / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 0}))
    with pytest.raises(UserError, match=r"was prepared in format 0 at 16000 Hz; this version reads format 1"):
        open_corpus(corpus.folder)


def test_opening_a_corpus_imports_nothing_slow(corpus: Corpus) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom ser_data.corpus import open_corpus\n"
        f"open_corpus(Path({str(corpus.folder)!r})).waveforms[0]\n"
        "print([name for name in ('torch', 'librosa', 'sklearn', 'scipy', 'soundfile', 'soxr') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
