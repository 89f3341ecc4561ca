"""Splits: parts by actor, declared and undeclared leaks, and what a split could not use."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_d import EMOTIONS, SPLITS_FOLDER
from ser_data.errors import UserError
from ser_data.split_rules import speaker_kfold_parts
from ser_data.splits import PARTS, check_split_name, known_splits, resolve_split


@dataclass
class FakeCorpus:
    """The two attributes of a corpus that a split reads, besides its name."""

    clips: pd.DataFrame
    manifest: pd.DataFrame
    name: str = "fake"


def corpus_of(rows: pd.DataFrame) -> FakeCorpus:
    return FakeCorpus(clips=rows.reset_index(drop=True), manifest=rows)


def crema_d_rows(actors: list[str]) -> pd.DataFrame:
    """Twelve clips of each actor: two sentences, six emotions."""
    codes = dict(zip(EMOTIONS, ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD"), strict=True))
    rows = [
        {"clip": f"{actor}_{sentence}_{code}_XX", "actor": actor, "emotion": emotion}
        for actor in actors
        for sentence in ("DFA", "WSI")
        for emotion, code in codes.items()
    ]
    frame = pd.DataFrame(rows)
    frame["sha256"] = frame["clip"]  # any text that differs from clip to clip
    return frame


def table_rows(**columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    frame["clip"] = [f"clip{number}" for number in range(len(frame))]
    if "sha256" not in frame:
        frame["sha256"] = frame["clip"]
    if "emotion" not in frame:
        frame["emotion"] = "happy"
    return frame


EMO_SUPERB_COUNTS = [(55, 18, 18), (55, 18, 18), (55, 18, 18), (54, 19, 18), (54, 18, 19)]
ALL_ACTORS = [str(number) for number in range(1001, 1092)]
FULL = corpus_of(crema_d_rows(ALL_ACTORS))


def resolve(name: str, corpus: FakeCorpus = FULL, *, named: Path | None = SPLITS_FOLDER, seed: int = 0):
    return resolve_split(name, corpus, named=named, seed=seed)


@pytest.mark.parametrize(
    ("name", "counts"),
    [("tfds", (63, 9, 19)), ("audeering", (56, 18, 17))]
    + [(f"emo_superb:{fold}", counts) for fold, counts in enumerate(EMO_SUPERB_COUNTS, start=1)],
)
def test_committed_splits_put_every_actor_into_one_part(name, counts):
    split = resolve(name)
    assert tuple(len(split.actors(part)) for part in PARTS) == counts
    assert set.union(*(set(split.actors(part)) for part in PARTS)) == set(ALL_ACTORS)
    assert not split.leaky
    assert split.notes() == ()


def test_tfds_validates_on_its_nine_actors():
    expected = ("1015", "1020", "1021", "1030", "1050", "1070", "1079", "1089", "1090")
    assert resolve("tfds").actors("validation") == expected


def test_emo_superb_tests_every_actor_in_exactly_one_fold():
    tested = [actor for fold in range(1, 6) for actor in resolve(f"emo_superb:{fold}").actors("test")]
    assert sorted(tested) == ALL_ACTORS


def test_indices_are_rows_of_the_kept_clips():
    split = resolve("tfds")
    rows = split.indices("validation")
    assert rows.dtype == np.int64
    assert set(FULL.clips["actor"].iloc[rows]) == set(split.actors("validation"))
    assert sum(len(split.indices(part)) for part in PARTS) == len(FULL.clips)


def test_missing_actors_are_reported_and_an_absent_test_part_still_splits():
    tfds = resolve("tfds")
    corpus = corpus_of(crema_d_rows([*tfds.actors("train"), *tfds.actors("validation")]))
    split = resolve("tfds", corpus)
    assert split.missing_actors == tfds.actors("test")
    assert len(split.indices("test")) == 0
    notes = "\n".join(split.notes())
    assert "19 of its actors are not in this corpus (1010, 1013" in notes
    assert "nothing can be judged on test" in notes


@pytest.mark.real_data
@pytest.mark.skipif("CREMA_D_ROOT" not in os.environ, reason="CREMA_D_ROOT is not set")
def test_tfds_fits_the_names_of_real_clips():
    names = pd.Series(sorted(path.stem for path in Path(os.environ["CREMA_D_ROOT"]).rglob("*_*_*_*.*")))
    rows = pd.DataFrame({"clip": names, "actor": names.str[:4], "emotion": names.str[9:12], "sha256": names})
    split = resolve("tfds", corpus_of(rows))
    assert len(split.actors("train")) + len(split.actors("validation")) + len(split.missing_actors) >= 91 - 19
    assert split.unlisted_actors == ()
    assert split.actors("validation") == resolve("tfds").actors("validation")


def test_actors_that_a_split_does_not_list_are_unused_and_reported():
    corpus = corpus_of(pd.concat([FULL.clips, crema_d_rows(["2001"])]))
    split = resolve("tfds", corpus)
    assert split.unlisted_actors == ("2001",)
    assert set(split.parts[corpus.clips["actor"] == "2001"]) == {""}
    assert any("1 actors of this corpus are not in it and stay unused (2001)" in note for note in split.notes())


def test_emobox_is_declared_leaky_and_says_how_many_actors_are_on_both_sides():
    names = pd.read_csv(SPLITS_FOLDER / "emobox.csv")["clip"]
    codes = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
    emotions = [codes[name.split("_")[2]] for name in names]
    rows = pd.DataFrame({"clip": names, "actor": names.str[:4], "emotion": emotions, "sha256": names})
    split = resolve("emobox", corpus_of(rows))
    assert split.leaky
    assert "91 of 91 actors are on both sides" in split.leak_note
    assert split.leak_note in split.notes()
    assert len(split.indices("test")) == 1856
    assert len(split.indices("validation")) == pytest.approx(0.1 * 5586, abs=6)  # rounded once for each emotion
    assert np.array_equal(split.parts, resolve("emobox", corpus_of(rows)).parts)
    assert not np.array_equal(split.parts, resolve("emobox", corpus_of(rows), seed=1).parts)


def test_by_clip_split_counts_clips_that_the_manifest_lacks_but_not_excluded_ones():
    names = pd.read_csv(SPLITS_FOLDER / "emobox.csv")["clip"].iloc[:500]
    rows = pd.DataFrame({"clip": names, "actor": names.str[:4], "emotion": "sad", "sha256": names})
    corpus = FakeCorpus(clips=rows.iloc[1:].reset_index(drop=True), manifest=rows)
    assert resolve("emobox", corpus).missing_clips == 7442 - 500


def test_random_is_leaky_stratified_and_depends_on_the_seed_alone():
    split = resolve("random")
    assert split.leaky
    assert "of 91 actors are on both sides" in split.leak_note
    for emotion in EMOTIONS:
        parts = split.parts[FULL.clips["emotion"] == emotion]
        assert [np.mean(parts == part) for part in PARTS] == pytest.approx([0.70, 0.15, 0.15], abs=0.01)
    backwards = corpus_of(FULL.clips.iloc[::-1])
    assert np.array_equal(resolve("random", backwards).parts[::-1], split.parts)
    assert not np.array_equal(resolve("random", seed=1).parts, split.parts)


@given(st.lists(st.integers(1, 40), min_size=3, max_size=30), st.integers(3, 8), st.randoms())
def test_speaker_folds_are_disjoint_balanced_and_independent_of_row_order(sizes, num_folds, random):
    num_folds = min(num_folds, len(sizes))
    actors = [f"speaker{number}" for number, size in enumerate(sizes) for _ in range(size)]
    tested: list[str] = []
    sizes_of_folds = []
    for fold in range(1, num_folds + 1):
        name = f"speaker_kfold:{num_folds}:{fold}"
        parts = speaker_kfold_parts(name, np.array(actors), corpus_name="fake")
        by_actor = {actor: {part for a, part in zip(actors, parts, strict=True) if a == actor} for actor in set(actors)}
        assert all(len(found) == 1 for found in by_actor.values())
        assert set(parts) == set(PARTS)
        tested += [actor for actor, found in by_actor.items() if found == {"test"}]
        sizes_of_folds.append(int(np.sum(parts == "test")))
        order = list(range(len(actors)))
        random.shuffle(order)
        shuffled = speaker_kfold_parts(name, np.array(actors)[order], corpus_name="fake")
        assert np.array_equal(shuffled, parts[order])
    assert sorted(tested) == sorted(set(actors))
    assert max(sizes_of_folds) - min(sizes_of_folds) <= max(sizes)


def test_fold_after_the_test_fold_validates():
    validation = resolve("speaker_kfold:5:5").actors("validation")
    assert validation == resolve("speaker_kfold:5:1").actors("test")


@pytest.mark.parametrize(
    "name",
    [
        "speaker_kfold",
        "speaker_kfold:5",
        "speaker_kfold:5:6",
        "speaker_kfold:2:1",
        "speaker_kfold:5:0",
        "speaker_kfold:five:1",
        "speaker_kfold:5:1:1",
    ],
)
def test_malformed_fold_names_the_accepted_form(name):
    with pytest.raises(UserError, match=rf"--split '{name}': .*3 <= K and 1 <= i <= K.*speaker_kfold:5:1"):
        check_split_name(name, named=None)


def test_more_folds_than_actors_says_how_many_there_are():
    with pytest.raises(UserError, match=r"9 folds need as many actors, and fake has 4\. Use at most speaker_kfold:4:i"):
        resolve("speaker_kfold:9:1", corpus_of(crema_d_rows(ALL_ACTORS[:4])))
    with pytest.raises(UserError, match=r"fake has 2\. A split by actor needs three at least"):
        resolve("speaker_kfold:3:1", corpus_of(crema_d_rows(ALL_ACTORS[:2])))


@pytest.mark.parametrize("name", ["tdfs", "", "random:1", "../tfds", "table:1"])
def test_unknown_split_lists_the_known_ones(name):
    known = r"audeering, emo_superb:1\.\.5, emobox, tfds, speaker_kfold:K:i, random"
    with pytest.raises(UserError, match=rf"is not known\. Known splits: {known}\. Add one as .*NAME\.csv"):
        resolve(name)


def test_table_corpus_knows_its_own_splits_only():
    assert known_splits(None) == ("table", "speaker_kfold:K:i", "random")
    with pytest.raises(UserError, match=r"'tfds' is not known\. Known splits: table, speaker_kfold:K:i, random\."):
        resolve("tfds", named=None)


def test_split_with_folds_asks_for_one_and_one_without_refuses_it():
    with pytest.raises(UserError, match=r"emo_superb has the folds 1, 2, 3, 4, 5\. Choose one, e\.g\. --split emo_sup"):
        resolve("emo_superb")
    with pytest.raises(UserError, match="emo_superb has the folds"):
        resolve("emo_superb:6")
    with pytest.raises(UserError, match=r"tfds has no folds\. Write --split tfds\."):
        resolve("tfds:1")


def test_empty_part_says_who_is_there_and_who_is_missing():
    corpus = corpus_of(crema_d_rows(["1001", "1002"]))
    with pytest.raises(
        UserError,
        match=r"leaves no validation clips of fake, which has 24 clips of 2 actors \(1001, "
        r"1002\)\. 89 actors of the split are not there .*speaker_kfold:5:1",
    ):
        resolve("tfds", corpus)
    with pytest.raises(UserError, match="leaves no train clips"):
        resolve("tfds", corpus_of(crema_d_rows(["1015"])))


def test_table_column_may_use_the_words_of_other_toolkits():
    rows = table_rows(actor=["a", "b", "c", "d"], split=["Train", "dev", " test ", ""])
    split = resolve("table", corpus_of(rows), named=None)
    assert split.parts.tolist() == ["train", "validation", "test", ""]


def test_table_column_with_another_word_names_it():
    rows = table_rows(actor=["a", "b"], split=["train", "holdout"])
    with pytest.raises(UserError, match=r"column split of fake holds 'holdout'; accepted are train, .*dev.*test"):
        resolve("table", corpus_of(rows), named=None)


def test_table_without_the_column_says_what_to_use_instead():
    with pytest.raises(UserError, match=r"fake has no column split\. .* use --split speaker_kfold:5:1"):
        resolve("table", corpus_of(table_rows(actor=["a", "b"])), named=None)


def test_actor_on_two_undeclared_sides_stops_with_the_name():
    rows = table_rows(actor=["a", "b", "b", "c"], split=["train", "train", "dev", "dev"])
    with pytest.raises(UserError, match=r"puts 1 actors on both sides: b in train and validation\..*emobox, random"):
        resolve("table", corpus_of(rows), named=None)


def test_same_audio_on_two_undeclared_sides_stops_with_both_names():
    rows = table_rows(actor=["a", "b", "c"], split=["train", "dev", "test"], sha256=["same", "other", "same"])
    with pytest.raises(UserError, match=r"1 recordings on both sides.*clip0 \(train\) = clip2 \(test\)"):
        resolve("table", corpus_of(rows), named=None)


def test_same_audio_inside_one_part_is_no_leak():
    rows = table_rows(actor=["a", "a", "b"], split=["train", "train", "dev"], sha256=["same", "same", "other"])
    assert not resolve("table", corpus_of(rows), named=None).leaky


def test_declared_leak_counts_shared_recordings():
    rows = crema_d_rows(ALL_ACTORS[:4])
    rows["sha256"] = "same"
    assert "4 of 4 actors and 1 recordings are on both sides" in resolve("random", corpus_of(rows)).leak_note


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("actor,split\n1001,train\n1001,test\n", r"same actor into two parts: 1001 in train and test"),
        ("actor,split\n1001,dev\n", r"actor 1001 is in 'dev'; parts are train, validation, test"),
        ("speaker,part\n1001,train\n", r"its columns are part, speaker; needed are split and either actor or clip"),
        ("", r"its columns are none; needed are split"),
    ],
)
def test_faulty_split_file_is_named_with_its_fault(tmp_path, content, message):
    (tmp_path / "mine.csv").write_text(content)
    with pytest.raises(UserError, match=rf"mine\.csv .*{message}|mine\.csv: {message}"):
        resolve("mine", named=tmp_path)


def test_own_split_file_is_found_by_its_name(tmp_path):
    (tmp_path / "mine.csv").write_text("actor,split\n1001,train\n1002,validation\n")
    split = resolve("mine", corpus_of(crema_d_rows(["1001", "1002"])), named=tmp_path)
    assert split.actors("train") == ("1001",)
    assert "mine" in known_splits(tmp_path)


def test_undeclared_split_by_clip_may_not_share_an_actor(tmp_path):
    (tmp_path / "mine.csv").write_text("clip,split\n1001_DFA_ANG_XX,train\n1001_DFA_SAD_XX,validation\n")
    with pytest.raises(UserError, match="1 actors on both sides: 1001 in train and validation"):
        resolve("mine", corpus_of(crema_d_rows(["1001"])), named=tmp_path)
