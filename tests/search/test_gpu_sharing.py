"""What share of a GPU a trial takes, by what was measured; numbers stand for the GPU."""

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from search.arguments import Arguments
from search.cluster import gpu_sharing, placement
from search.cluster.gpu_sharing import MOST_TRIALS, Need, NotMeasuredError, decide_sharing
from search.cluster.joining import Cluster
from search.encoder_axis import EncoderAxis
from search.families import get_family
from search.record import Record, read_events
from search.rungs import NoStopping, RungGroups
from search.session import make_trial_plan
from search.space import Space, load_space
from search.study import Study
from search.trial_plan import TrialPlan
from search.tuning import Resources
from ser_models.task import Task

PLAN = TrialPlan("run", "x", {"device": "cuda"}, 0, max_epochs=3, threads=1)


def need(total: int, peak: int, context: int = 500, kind: str = "") -> Need:
    return Need(kind, f"GPU {kind}", total, peak, context)


@pytest.mark.parametrize(
    ("found", "most", "expected"),
    [
        (need(80_000, 1_000), 99, MOST_TRIALS),
        (need(80_000, 1_000), 3, 3),  # cores for no more
        (need(16_000, 1_000), 8, 6),  # 2,500 each
        (need(24_000, 10_000), 8, 1),
        (need(8_000, 7_900), 8, 1),  # it fits alone, without room to spare
    ],
)
def test_as_many_trials_share_a_gpu_as_fit_with_the_same_again_to_spare(found: Need, most: int, expected: int) -> None:
    together = found.trials_on_one(min(most, MOST_TRIALS))
    assert together == expected
    assert together == 1 or together * (2 * found.peak_mb + found.context_mb) <= found.total_mb


class Decision:
    """``decide_sharing`` with a measurement in place of a GPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self.asked: list[Sequence[str]] = []
        self.answer: list[Need] | Exception = []
        monkeypatch.setattr(gpu_sharing, "measured_needs", self._measure)

    def _measure(
        self, configs: Sequence[Mapping[str, Any]], plan: TrialPlan, kinds: Sequence[str], stopped: Callable[[], bool]
    ) -> list[Need]:
        self.asked.append(kinds)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def decide(self, *kinds: str, earlier: Sequence[Mapping[str, Any]] = (), most: int = 8) -> Any:
        return decide_sharing(
            [], PLAN, kinds=kinds or [""], most=most, earlier=earlier, stopped=lambda: False, say=self.said.append
        )


@pytest.fixture
def decision(monkeypatch: pytest.MonkeyPatch) -> Decision:
    return Decision(monkeypatch)


def test_shares_and_memory_of_all_trials_together_fit_the_gpu(decision: Decision) -> None:
    for total in (4_000, 11_000, 16_000, 24_000, 40_000, 80_000):
        decision.answer = [need(total, 900)]
        found = decision.decide()
        together = int(1 / found.gpus)
        assert together * found.gpus <= 1
        assert together * (found.memory + (500 / total if together > 1 else 0)) <= 1
        assert found.memory * total >= 900  # what was measured
        assert found.gpus == round(found.gpus, 4)  # Ray takes no more digits


def test_the_user_is_told_what_was_measured_in_a_line(decision: Decision) -> None:
    decision.answer = [need(80_000, 1_300, kind="H100")]
    decision.decide("H100")
    assert decision.said == [
        "measuring how many trials a GPU's memory holds",
        "8 trials share a GPU: the largest took 1,800 of its 80,000 MB (GPU H100)",
    ]


def test_of_different_gpus_the_smallest_decides(decision: Decision) -> None:
    decision.answer = [need(80_000, 2_000, kind="H100"), need(16_000, 2_000, kind="T4")]
    found = decision.decide("H100", "T4")
    assert found.gpus == 0.3333
    assert found.memory == pytest.approx(0.3333 - 500 / 16_000)
    assert "of its 16,000 MB" in decision.said[-1]


def test_what_was_measured_holds_as_long_as_the_gpus_do(decision: Decision) -> None:
    decision.answer = [need(16_000, 1_000, kind="T4")]
    first = decision.decide("T4")
    earlier = gpu_sharing.as_plain(first.needs)
    assert decision.decide("T4", earlier=earlier) == first
    assert decision.said[-1].endswith("(GPU T4, measured in an earlier sitting)")
    assert decision.decide("T4", earlier=earlier, most=2).gpus == 0.5  # fewer cores than the last time
    assert len(decision.asked) == 1
    decision.decide("A10G", earlier=earlier)
    decision.decide("A10G", "T4", earlier=earlier)
    assert decision.asked[1:] == [("A10G",), ("A10G", "T4")]


def test_where_it_cannot_be_measured_the_default_holds_and_the_user_is_told_why(decision: Decision) -> None:
    decision.answer = NotMeasuredError("its worker process died")
    assert decision.decide() is None
    assert decision.said[-1] == "it could not be measured, and the family's default holds: its worker process died"


class Sitting:
    """What :mod:`search.cluster.placement` knows of one, on a made-up cluster with two GPUs."""

    def __init__(self, folder: Path, space: Space, arguments: Arguments) -> None:
        self.search: Any = SimpleNamespace(space=space, family=get_family(space.family), arguments=arguments)
        self.file = folder / "events.jsonl"
        self.cluster = Cluster("made up", 16, 2)

    def place(self) -> tuple[Resources, TrialPlan, str]:
        text = io.StringIO()
        proposer: Any = SimpleNamespace(replay=lambda *_: None, frozen_trials=[])
        with Record(self.file) as record:
            study = Study(record, proposer, RungGroups(NoStopping, str), num_trials=1, max_epochs=1)
            resources = placement.resources_of(self.search, self.cluster)
            stopper = SimpleNamespace(stop_all=lambda: False)
            found = placement.share_gpus(
                self.search, study, PLAN, resources, self.cluster, stopper, Console(file=text, width=200)
            )
        return *found, text.getvalue()


@pytest.fixture
def sitting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decision: Decision
) -> Callable[..., contextlib.AbstractContextManager[Sitting]]:
    """``sitting(space, num_layers, **arguments)``."""
    nodes = [{"CPU": 16.0, "GPU": 2.0, "accelerator_type:T4": 1.0}]
    monkeypatch.setattr(placement, "usable_nodes", lambda: nodes)
    decision.answer = [need(16_000, 1_500, kind="T4")]

    def begin(name: str, num_layers: int | None = None, **arguments: Any) -> Sitting:
        space = load_space(name, arguments.get("fix"))
        return Sitting(tmp_path, space if num_layers is None else space.bound_to(num_layers), Arguments(**arguments))

    return begin


def test_trials_of_a_search_share_gpus_as_measured_and_a_resume_knows_it(sitting: Any, decision: Decision) -> None:
    search = sitting("mfcc_full")
    resources, plan, text = search.place()
    assert resources == Resources(1, 0.25, 8)
    assert plan.gpu_memory == pytest.approx(0.25 - 500 / 16_000)
    assert "mfcc_full: 4 trials share a GPU: the largest took 2,000 of its 16,000 MB (GPU T4)" in text
    (event,) = (event for event in read_events(search.file) if event["kind"] == "resources")
    assert (event["gpus"], event["measured"][0]["peak_mb"]) == (0.25, 1_500)
    again = search.place()
    assert again[:2] == (resources, plan)
    assert "measured in an earlier sitting" in again[2]
    assert len(decision.asked) == 1


@pytest.mark.parametrize(
    ("space", "arguments", "gpus", "memory"),
    [
        (("wav2vec2_fast", 12), {}, 1.0, 1.0),  # up to four layers are fine-tuned
        (("mel_resnet50_finetune", 4), {}, 1.0, 1.0),
        (("mel_cnn",), {"gpus_per_trial": 0.5}, 0.5, 0.5),
        (("mel_cnn",), {"gpus_per_trial": 0.0}, 0.0, 1.0),
    ],
)
def test_nothing_is_measured_where_layers_are_fine_tuned_or_the_share_is_given(
    sitting: Any, decision: Decision, space: tuple[Any, ...], arguments: dict[str, Any], gpus: float, memory: float
) -> None:
    resources, plan, text = sitting(*space, **arguments).place()
    assert (resources.gpus, plan.gpu_memory, text) == (gpus, memory, "")
    assert not decision.asked


@pytest.mark.parametrize(
    ("space", "fix"), [(("wav2vec2_fast", 12), {"unfreeze_depth": "0"}), (("mel_resnet50_frozen", 4), {})]
)
def test_frozen_networks_share_a_gpu(sitting: Any, space: tuple[Any, ...], fix: dict[str, str]) -> None:
    assert sitting(*space, fix=fix).place()[0].gpus == 0.25


def test_where_measuring_fails_the_default_share_holds_of_the_memory_too(sitting: Any, decision: Decision) -> None:
    decision.answer = NotMeasuredError("no driver")
    resources, plan, text = sitting("mfcc_full").place()
    assert (resources.gpus, plan.gpu_memory) == (0.25, 0.25)
    assert "could not be measured, and the family's default holds: no driver" in text


def test_the_largest_networks_of_a_space_are_measured_with_full_batches_of_the_longest_clips() -> None:
    configs = load_space("mfcc_full").largest()
    networks = [config["network"] for config in configs]
    assert len(networks) == len(set(networks)) == 5
    assert {config["batch_size"] for config in configs} == {128}
    assert {config["max_clip_seconds"] for config in configs} == {5.0}
    frozen = load_space("wav2vec2_fast", {"unfreeze_depth": "0"}).bound_to(12).largest()
    assert [config["max_clip_seconds"] for config in frozen] == [5.0]  # its choices begin with the longest
    assert {config["unfreeze_depth"] for config in load_space("wav2vec2_full").bound_to(12).largest()} >= {0, 12}
    several = EncoderAxis.over(load_space("wav2vec2_fast", {"unfreeze_depth": "0"}), {"base": 12, "large": 24})
    assert [(config["encoder"], config["unfreeze_depth"]) for config in several.largest()] == [
        ("base", 0),
        ("large", 0),
    ]


@pytest.mark.parametrize(
    ("resources", "ranks", "threads"),
    [(Resources(4, 2.0, 1), 2, 2), (Resources(3, 0.5, 1), 1, 3), (Resources(2, 0, 1), 1, 2)],
)
def test_several_gpus_are_a_process_each_and_share_the_trials_cores(
    resources: Resources, ranks: int, threads: int, tmp_path: Path
) -> None:
    search: Any = SimpleNamespace(
        arguments=Arguments(), encoders=[], family=get_family("encoders"), folder=tmp_path,
        config={"plan": {"max_epochs": 3}}, space=load_space("mfcc_fast"), storage=None,
    )  # fmt: skip
    data: Any = SimpleNamespace(
        corpus=SimpleNamespace(folder=tmp_path), split=SimpleNamespace(name="tfds"), emotions=("happy", "sad")
    )
    plan = make_trial_plan(search, data, resources)
    assert (plan.ranks, plan.threads) == (ranks, threads)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A made-up GPU of 16,000 MB, of which CUDA takes 400 and what is trained 3,000 at most."""
    import torch

    megabyte = 2**20
    made_up = SimpleNamespace(clips=[])
    answers = {
        "mem_get_info": (16_000 * megabyte - 400 * megabyte - 1_000 * megabyte, 16_000 * megabyte),
        "memory_reserved": 1_000 * megabyte,
        "max_memory_reserved": 3_000 * megabyte,
        "get_device_name": "made up",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    yield made_up


def test_what_a_worker_measures_is_torchs_peak_and_what_is_taken_beside_it(
    device: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from tests.search import knob_family

    built = []
    build = knob_family.build
    monkeypatch.setattr(
        knob_family, "build", lambda *args, **options: built.append(options["probe_clips"]) or build(*args, **options)
    )
    task = Task("corpus", "tfds", ("happy", "sad"), 0, str(tmp_path), 1.0, "cpu")
    plan = TrialPlan(str(tmp_path), "tests.search.knob_family", task.to_dict(), 0, max_epochs=3, threads=1)
    found = gpu_sharing.need_of([{"x": 0.1, "batch_size": 64}, {"x": 0.2}], plan, "T4")
    assert found == Need("T4", "made up", 16_000, 3_000, 400)
    assert built == [128, 64]  # two batches
