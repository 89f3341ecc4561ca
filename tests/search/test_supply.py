"""What nodes get of the driver's data: in place, as copies, from one another's caches, and nothing on one machine."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pandas as pd
import pytest
from rich.console import Console

from search.cluster import supply
from search.cluster.depot import DepotSource, bytes_sent, close_depot, open_depot
from search.cluster.joining import Cluster
from search.cluster.supply import Good, Supply, supplied
from search.families import get_family
from search.record import read_events
from search.space import load_space
from search.study import trials_of
from search.trial import epochs_of_trial, export_trial
from search.trial_plan import TrialPlan, plan_here
from search.tune_adapters import SittingStopper, StudyScheduler
from ser_data import staging
from ser_data.cache_use import cache_use
from ser_data.consignment import Chunk, Consignment, digest_of, pack, read_chunk
from ser_data.corpus import WAVEFORMS_FILE, open_corpus
from ser_data.errors import UserError
from ser_data.features.settings import MfccSettings
from ser_models.encoders.data import cached_rows
from ser_models.encoders.source import find_encoder
from ser_models.frame_data import cached_features
from ser_models.pretrained import files, hub
from ser_models.pretrained.files import files_of
from ser_models.pretrained.source import PretrainedSource, source_from_spec
from ser_models.task import Task
from tests.models.test_encoder_loading import saved_wav2vec2
from tests.search.conftest import Search
from tests.search.knob_search import ROOT

CORPUS_FILES = ("corpus.json", "manifest.csv", "waveforms.i16")


@dataclasses.dataclass(frozen=True)
class Folders:
    """A source for tests: folders by digest."""

    folders: dict[str, str]
    called: str = "the test"
    advice: str = "Mend it."

    def read(self, consignment: Consignment, chunk: Chunk) -> bytes:
        return read_chunk(Path(self.folders[consignment.digest]), chunk)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_wav2vec2(tmp_path_factory.mktemp("encoders") / "my_wav2vec2")


@pytest.fixture(autouse=True)
def new_process() -> Iterator[None]:
    """This process has looked for nothing yet, and uses no copy."""
    supply._here.clear()
    yield
    supply._here.clear()
    staging._in_use.clear()


def plan_with(corpus: Path, encoder: Path, cache: Path, run_folder: Path, *, seen: bool) -> TrialPlan:
    """A plan of the driver's, whose folders nodes find under the same path, or not."""
    spec = find_encoder(str(encoder)).spec
    found_here = files_of(source_from_spec(spec))
    assert found_here is not None
    packed = {
        pack(corpus, CORPUS_FILES, called="corpus tones"): corpus,
        pack(encoder, found_here[1], called=encoder.name): encoder,
    }
    goods = [Good(each, str(folder) if seen else "/nowhere", True) for each, folder in packed.items()]
    source = Folders({each.digest: str(folder) for each, folder in packed.items()})
    task = Task(str(corpus), "tfds", open_corpus(corpus).emotions, 0, "/nowhere/cache", 1.0, "cpu", encoder=spec)
    found = Supply(goods[0], {spec: goods[1]}, str(cache), source)
    module = get_family("encoders").module
    return TrialPlan(str(run_folder), module, task.to_dict(), 0, 1, threads=1, supply=found)


def test_a_node_that_sees_the_drivers_folders_uses_them_in_place(
    prepared_tone_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    plan = plan_with(prepared_tone_corpus, encoder, tmp_path / "cache", tmp_path, seen=True)
    here = plan_here(plan)
    assert here.task == {**plan.task, "cache_dir": str(tmp_path / "cache")}
    assert not (tmp_path / "cache").exists()


def test_a_network_of_the_hub_is_loaded_from_the_commit_that_was_compared(
    prepared_tone_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    plan = plan_with(prepared_tone_corpus, encoder, tmp_path / "cache", tmp_path, seen=True)
    assert plan.supply is not None
    good = plan.supply.networks[plan.task["encoder"]]
    spec = PretrainedSource("a/b", None, "wav2vec2", 3, True).spec
    named = dataclasses.replace(good, consignment=dataclasses.replace(good.consignment, name="a/b"))
    of_hub = dataclasses.replace(plan.supply, networks={spec: named})
    plan = dataclasses.replace(plan, task={**plan.task, "encoder": spec}, supply=of_hub)
    found = source_from_spec(plan_here(plan).task["encoder"])
    assert (found.name, found.revision, found.label) == (str(encoder), None, "a/b")


def test_copies_hit_the_caches_of_the_originals(prepared_tone_corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """Keys of features and prefixes are of what the files hold, and of no folder."""
    cache = tmp_path / "cache"

    def fill(plan: TrialPlan) -> tuple[int, int]:
        cache_use.take()
        task = Task.from_dict(plan_here(plan).task)
        cached_rows(task, ("pooled", "layer-1"), 4.0)
        cached_features(task.without_network(), MfccSettings(), 1)
        return cache_use.take()

    assert fill(plan_with(prepared_tone_corpus, encoder, cache, tmp_path, seen=True)) == (0, 3)
    made = sorted(path for path in cache.rglob("*") if path.suffix in (".rows", ".frames"))
    assert fill(plan_with(prepared_tone_corpus, encoder, cache, tmp_path, seen=False)) == (3, 0)
    assert len(list((cache / "staged").glob("*/"))) == 2
    assert sorted(path for path in cache.rglob("*") if path.suffix in (".rows", ".frames")) == made


def test_a_trial_on_copies_leaves_no_path_of_its_node(
    prepared_tone_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    node = tmp_path / "node-of-its-own"
    plan = plan_with(prepared_tone_corpus, encoder, node, tmp_path / "run", seen=False)
    config = load_space("wav2vec2_fast").bound_to(3).smallest_and_largest()[0]
    reports = list(epochs_of_trial(0, config, plan_here(plan)))
    export_trial(0, config, plan, tmp_path / "run" / "best", {"encoder": encoder.name})
    left = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert reports and {"checkpoint.pt", "model.safetensors"} <= {path.name for path in left}
    for path in left:
        assert node.name.encode() not in path.read_bytes(), path


def test_a_copy_of_a_network_keeps_its_name(tmp_path: Path) -> None:
    for name, pretrained in (("facebook/wav2vec2-base", True), (str(tmp_path), False)):
        source = PretrainedSource(name, None, "wav2vec2", 12, pretrained)
        called = name if pretrained else tmp_path.name
        copy = source_from_spec(source.copied_to(tmp_path / "staged" / "digest", called).spec)
        assert copy.label == source.label and copy.name == str(tmp_path / "staged" / "digest")
        assert "called" not in json.loads(source.spec)  # what config.json says stays as it was


def test_one_machine_is_left_as_it_was(prepared_tone_corpus: Path, tmp_path: Path) -> None:
    with supplied(SimpleNamespace(joined=False), [], open_corpus(prepared_tone_corpus), None, Console()) as found:  # type: ignore[arg-type]
        assert found is None
    plan = TrialPlan(str(tmp_path), "", {}, 0, 1, 1)
    assert plan_here(plan) is plan


def test_what_a_node_cannot_get_ends_the_sitting_with_its_words_and_blames_no_trial() -> None:
    stopper = SittingStopper(None)
    scheduler = StudyScheduler(SimpleNamespace(), stopper)  # type: ignore[arg-type]
    scheduler.on_trial_result(None, SimpleNamespace(), {"node_problem": "node b has no room"})  # type: ignore[arg-type]
    assert isinstance(stopper.failure, UserError)
    assert str(stopper.failure) == "node b has no room\nNo trial is lost: mend it, then go on with --resume."


class TestFilesOfANetwork:
    def test_of_a_folder_they_are_those_that_it_is_loaded_from(self, encoder: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(encoder, tmp_path / "own"))
        for name in ("README.md", "pytorch_model.bin", "optimizer.pt"):
            (own / name).write_text("not needed")
        source = find_encoder(str(own))
        assert files_of(source) == (own, ["config.json", "preprocessor_config.json", "model.safetensors"])
        random = dataclasses.replace(source, pretrained=False)
        assert files_of(random) == (own, ["config.json", "preprocessor_config.json"])
        assert files_of(find_encoder("tiny")) is None

    def test_weights_in_several_files_are_all_named(self, encoder: Path, tmp_path: Path) -> None:
        own = Path(shutil.copytree(encoder, tmp_path / "own"))
        (own / "model.safetensors").unlink()
        index = own / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "part-2", "b": "part-1", "c": "part-2"}}))
        assert files_of(find_encoder(str(own)))[1][2:] == [index.name, "part-1", "part-2"]  # type: ignore[index]
        index.write_text("{")
        with pytest.raises(UserError, match=r"index.json is damaged .* Copy or download the folder again"):
            files_of(find_encoder(str(own)))

    def test_of_the_hub_all_are_of_the_commit_that_its_config_had(
        self, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The cache alone answers: what it lacks that may be lacking is passed over, weights are not."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

        def unreachable(url: str) -> None:
            raise OSError("no network")

        monkeypatch.setattr(hub, "_ask_hub", unreachable)
        repository, commit = tmp_path / "models--a--b", "0123456789" * 4
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        snapshot = Path(shutil.copytree(encoder, repository / "snapshots" / commit))
        source = PretrainedSource("a/b", None, "wav2vec2", 3, True)
        assert files_of(source) == (snapshot, ["config.json", "preprocessor_config.json", "model.safetensors"])
        (snapshot / "model.safetensors").unlink()
        with pytest.raises(UserError, match=r"a/b@0123.* is not in the cache .*, and the hub cannot be reached"):
            files_of(source)

    def test_of_the_hub_weights_in_an_older_format_are_taken_where_there_are_no_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = []
        snapshot = tmp_path / ("0123456789" * 4)

        def hub_file(repository: str, revision: str | None, file: str, **_: str) -> Path:
            asked.append((revision, file))
            if file not in ("config.json", "preprocessor_config.json", "pytorch_model.bin"):
                raise hub.NotOnHubError(file)
            return snapshot / file

        monkeypatch.setattr(files, "hub_file", hub_file)
        source = PretrainedSource("a/b", "main", "wav2vec2", 3, True)
        assert files_of(source) == (snapshot, ["config.json", "preprocessor_config.json", "pytorch_model.bin"])
        assert asked[0] == ("main", "config.json") and {revision for revision, _ in asked[1:]} == {snapshot.name}
        monkeypatch.setattr(files, "WEIGHT_FILES", ("model.safetensors",))
        with pytest.raises(UserError, match=r"--encoder a/b: the hub has no weights of it in the files model.safetens"):
            files_of(source)


def test_the_depot_keeps_few_chunks_and_tells_in_words_what_it_cannot_send(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 4)
    packed = pack(tmp_path, ["noise"], called="noise", chunk_bytes=32)
    depot = open_depot({packed.digest: str(tmp_path)})
    source = DepotSource(depot)
    chunks = list(packed.chunks(packed.files[0]))
    assert b"".join(bytes(source.read(packed, chunk)) for chunk in chunks) == bytes(range(256)) * 4
    assert bytes_sent(depot) == 1024
    (tmp_path / "noise").unlink()
    assert bytes(source.read(packed, chunks[-1])) == read_chunk_of(1024, chunks[-1])  # it is kept
    with pytest.raises(OSError, match=r"^\[Errno 2\] No such file or directory: '.*noise'$"):
        source.read(packed, chunks[0])
    close_depot(depot)
    with pytest.raises(OSError, match="the search's process that sends it ended"):
        while True:  # Ray ends it in its own time
            source.read(packed, chunks[-1])
    assert bytes_sent(depot) == 0


def read_chunk_of(size: int, chunk: Chunk) -> bytes:
    return (bytes(range(256)) * (size // 256))[chunk.start : chunk.start + chunk.size]


def on_nodes(*arguments: object) -> str:
    """What ``tests.search.nodes_apart`` prints."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "datasets")])
    # no token, which a node looks for in its own home; a busy machine may need longer than half a minute for a node
    ray = {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "120"}
    environment = {**os.environ, "PYTHONPATH": paths, **ray}
    command = [sys.executable, "-m", "tests.search.nodes_apart", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_every_node_of_a_cluster_fetches_once_through_ray_and_a_late_one_too(
    prepared_tone_corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    *said, answers = on_nodes("look", tmp_path, prepared_tone_corpus, encoder).splitlines()
    first, again, late = json.loads(answers)
    size = sum((prepared_tone_corpus / name).stat().st_size for name in CORPUS_FILES)
    assert sorted([first["fetched"][0], again["fetched"][0]]) == [0, size]
    assert late["fetched"][0] == size
    assert {each["home"] for each in (first, again)} == {str(tmp_path / "first")}
    for each, name in ((first, "first"), (again, "first"), (late, "late")):
        assert each["cache"] == str(tmp_path / name / "cache")
        assert each["corpus"].startswith(f"{each['cache']}/staged/corpus-crema_d-")
        assert each["waveforms"] == digest_of((prepared_tone_corpus / WAVEFORMS_FILE).read_bytes())
        assert each["weights"] == digest_of((encoder / "model.safetensors").read_bytes())
        assert each["label"] == encoder.name
    assert said[0].startswith("nodes without it get corpus crema_d (") and said[0].endswith("Ray")
    assert said[1].endswith("were sent to nodes")


@pytest.mark.slow
def test_a_search_on_nodes_that_do_not_see_its_data_ends_as_on_one_machine(
    real_search: Search, prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    options = ("--space", "mfcc_fast", "--trials", "6", "--sampler", "random", "--scheduler", "none")
    alone = real_search(tmp_path / "alone", *options)
    folders = ("--data", prepared_tone_corpus, "--out", tmp_path / "run", "--cache-dir", "~/cache")
    said = on_nodes("search", tmp_path, *options, *folders, "--split", "speaker_kfold:4:1", "--wandb", "disabled")
    assert "were sent to nodes" in said
    boards = [
        pd.read_csv(folder / "leaderboard.csv").set_index("trial_id") for folder in (alone.folder, tmp_path / "run")
    ]
    scores = [board["val_uar"].sort_index() for board in boards]
    assert len(scores[0]) == 7  # and the classical baseline
    pd.testing.assert_series_equal(*scores, rtol=1e-12)
    for name in ("first", "second"):
        (copy,) = (tmp_path / name / "cache" / "staged").glob("corpus-*/")
        assert (copy / WAVEFORMS_FILE).read_bytes() == (prepared_tone_corpus / WAVEFORMS_FILE).read_bytes()


@pytest.mark.slow
def test_a_node_that_cannot_get_its_data_is_left_out_and_costs_no_trial(
    prepared_tone_corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "cache").write_text("a file where a folder should be")
    folders = ("--data", prepared_tone_corpus, "--out", tmp_path / "run", "--cache-dir", "~/cache")
    options = ("--space", "plain", "--split", "speaker_kfold:4:1", "--scheduler", "none", "--wandb", "disabled")
    said = on_nodes("knobs", tmp_path, *options, "--max-failures", "0", *folders)
    assert "cannot write its copy of corpus crema_d" in said and "with --cache-dir. Then start Ray there again." in said
    assert "They are left out; trials on the others go on." in said
    trials = trials_of(read_events(tmp_path / "run" / "events.jsonl"))
    assert {trial.outcome for trial in trials.values()} == {"completed"}
