"""``search/predict.py``: which clips it finds, what it prints, and that one broken clip costs only itself."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from search.predict import Prediction, Unusable, find_clips, main, predict
from ser_data.errors import UserError
from tests.search.conftest import Search
from tests.search.knob_search import ROOT

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
#: The smallest network of the family; one epoch of it takes a moment.
TINY = (
    "--fix", "network=statistics_mlp", "--fix", "hidden_units=64", "--fix", "dropout=0.1",
    "--fix", "learning_rate=0.003", "--trials", "1", "--scheduler", "none", "--sampler", "random",
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(real_search: Search, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``best/`` of a real search over MFCC networks on generated tones."""
    folder = tmp_path_factory.mktemp("real") / "run"
    assert real_search(folder, "--space", "quick", *TINY).code == 0
    return folder / "best"


@pytest.fixture
def clips(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Path:
    """A folder of three tones in three formats and rates, one below the top, and something that is no audio."""
    folder = tmp_path / "clips"
    (folder / "deeper").mkdir(parents=True)
    soundfile.write(folder / "a.wav", tone(150.0, 0.6), 16_000)
    soundfile.write(folder / "b [red].flac", tone(220.0, 0.6, rate=44_100), 44_100)
    soundfile.write(folder / "deeper" / "c.ogg", tone(300.0, 0.6, rate=22_050), 22_050)
    (folder / "readme.txt").write_text("no audio")
    return folder


def test_a_folder_stands_for_the_audio_below_it_in_order(clips: Path) -> None:
    assert [path.relative_to(clips).as_posix() for path in find_clips([str(clips)])] == [
        "a.wav", "b [red].flac", "deeper/c.ogg",
    ]  # fmt: skip


def test_clips_and_folders_mix_in_the_order_given(clips: Path) -> None:
    names = [str(clips / "deeper"), str(clips / "a.wav")]
    assert [path.name for path in find_clips(names)] == ["c.ogg", "a.wav"]


def test_a_name_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.wav does not exist\. Name a clip or a folder of clips"):
        find_clips([str(tmp_path / "nowhere.wav")])


def test_a_folder_without_audio_is_refused_with_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"holds no audio\. Accepted are .*\.flac.*\.wav files: name a folder with some"
    ):
        find_clips([str(tmp_path)])


def test_a_folder_without_a_bundle_is_refused(clips: Path) -> None:
    with pytest.raises(UserError, match=r"bundle\.json cannot be read.*RUN/best"):
        list(predict(clips, [clips / "a.wav"]))


def test_probabilities_are_of_the_bundles_emotions_and_sum_to_one(bundle: Path, clips: Path) -> None:
    answers = list(predict(bundle, find_clips([str(clips)])))
    assert len(answers) == 3
    for answer in answers:
        assert isinstance(answer, Prediction)
        assert answer.emotions == EMOTIONS
        assert sum(answer.probabilities) == pytest.approx(1, abs=1e-5)
        assert answer.emotion == EMOTIONS[int(np.argmax(answer.probabilities))]


def test_a_clip_gets_the_same_answer_alone_and_among_others(bundle: Path, clips: Path) -> None:
    alone = next(predict(bundle, [clips / "deeper" / "c.ogg"]))
    among = list(predict(bundle, find_clips([str(clips)])))[2]
    assert isinstance(alone, Prediction) and isinstance(among, Prediction)
    assert alone.probabilities == among.probabilities


def test_the_bundle_holds_no_pickle(bundle: Path) -> None:
    assert sorted(path.name for path in bundle.iterdir()) == [
        "bundle.json", "model.safetensors", "speed.json",
    ]  # fmt: skip
    assert json.loads((bundle / "bundle.json").read_text())["provenance"]["judged_on_test"] is False


def test_the_bundle_gives_the_validation_score_that_the_board_shows(
    bundle: Path, tone_corpus: Path, prepared_tone_corpus: Path
) -> None:
    from sklearn.metrics import balanced_accuracy_score

    from ser_data.corpus import open_corpus

    corpus = open_corpus(prepared_tone_corpus)
    config = json.loads((bundle.parent / "config.json").read_text())
    speakers = config["data"]["val_speakers"]
    rows = corpus.clips[corpus.clips["actor"].isin(speakers)]
    answers = predict(bundle, [tone_corpus / f"{clip}.wav" for clip in rows["clip"]])
    found = [answer.emotion for answer in answers if isinstance(answer, Prediction)]
    provenance = json.loads((bundle / "bundle.json").read_text())["provenance"]
    assert balanced_accuracy_score(list(rows["emotion"]), found) == pytest.approx(provenance["val_uar"])


def run_main(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_csv_has_the_promised_header_and_a_row_per_clip(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_main(capsys, bundle, clips, "--format", "csv")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "clip,emotion,anger,disgust,fear,happy,neutral,sad"
    assert "\r" not in out
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["clip"] for row in rows] == [str(path) for path in find_clips([str(clips)])]
    for row in rows:
        shares = {name: float(row[name]) for name in EMOTIONS}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
        assert shares[row["emotion"]] == max(shares.values())


def test_json_holds_full_numbers(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_main(capsys, bundle, clips / "a.wav", "--format", "json")
    (answer,) = json.loads(out)
    assert (code, answer["clip"]) == (0, str(clips / "a.wav"))
    assert tuple(answer["probabilities"]) == EMOTIONS
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-6)


def test_the_table_shows_names_as_they_are(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run_main(capsys, bundle, clips)
    assert code == 0
    for text in (*EMOTIONS, "[red].flac"):  # no markup of the terminal's
        assert text in "".join(out.split("\n"))


@pytest.fixture
def broken(clips: Path) -> Iterator[Path]:
    """The folder with a clip cut in half and a silent one."""
    data = (clips / "a.wav").read_bytes()
    (clips / "cut.wav").write_bytes(data[: len(data) // 2])
    soundfile.write(clips / "mute.wav", np.zeros(8000, dtype=np.float32), 16_000)
    yield clips


def test_broken_clips_are_named_with_reasons_and_the_others_printed(
    bundle: Path, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run_main(capsys, bundle, broken, "--format", "csv")
    assert code == 1
    assert [Path(row["clip"]).name for row in csv.DictReader(io.StringIO(out))] == ["a.wav", "b [red].flac", "c.ogg"]
    lines = err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"error: {broken / 'cut.wav'}: truncated")
    assert lines[1].startswith(f"error: {broken / 'mute.wav'}: silent")


def test_an_unusable_clip_keeps_its_place_among_the_answers(bundle: Path, broken: Path) -> None:
    kinds = [type(answer) for answer in predict(bundle, find_clips([str(broken)]))]
    assert kinds == [Prediction, Prediction, Unusable, Prediction, Unusable]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{bundle}", "nowhere"], "error: nowhere does not exist. Name a clip or a folder of clips.\n"),
        (["{clips}", "{clips}"], "RUN/best"),
        (["{bundle}"], "required: CLIP|FOLDER"),
        (["{bundle}", "{clips}", "--format", "xml"], "invalid choice: 'xml' (choose from"),
    ],
)
def test_the_command_exits_with_2_on_bad_input(bundle: Path, clips: Path, arguments: list[str], message: str) -> None:
    command = [text.format(bundle=bundle, clips=clips) for text in arguments]
    run = subprocess.run(
        [sys.executable, ROOT / "search" / "predict.py", *command], capture_output=True, text=True, cwd=clips
    )
    assert run.returncode == 2
    assert message in run.stderr
    assert "Traceback" not in run.stderr


def test_a_bundle_works_wherever_it_is_copied(bundle: Path, clips: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "elsewhere")
    run = subprocess.run(
        [sys.executable, ROOT / "search" / "predict.py", tmp_path / "elsewhere", clips / "a.wav", "--format", "csv"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("clip,emotion,anger,")
