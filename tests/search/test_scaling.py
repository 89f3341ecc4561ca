"""The cluster in virtual time of ``benchmarks/scaling.py``, on cases that can be worked out by hand; no Ray."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.recorded_curves import Landscape, RecordedTrials, load
from benchmarks.virtual_cluster import Clock, Costs, Meter, VirtualActor, VirtualActors
from search.families import FAMILIES, get_family
from search.space import load_space


class Lengths:
    """Trials of epochs of known lengths, by their number."""

    def __init__(self, epochs: Sequence[Sequence[float]], cold: float = 0.0, start: float = 0.0) -> None:
        self.epochs = epochs
        self.cold = cold
        self.start = start

    def cold_seconds(self, config: Mapping[str, Any]) -> float:
        return self.cold

    def start_seconds(self, config: Mapping[str, Any]) -> float:
        return self.start

    def epoch(self, config: Mapping[str, Any], epoch: int) -> tuple[float, dict[str, Any]]:
        return self.epochs[config["number"]][epoch - 1], {"number": config["number"], "epoch": epoch}


class Driver:
    """Does with the actors what Tune's controller does: a worker for each slot, reused until all trials are through."""

    def __init__(
        self, work: Lengths, *, gpus: int, gpus_per_trial: float = 1.0, costs: Costs | None = None,
        seconds_a_result: float = 0.0,
    ) -> None:  # fmt: skip
        self.clock, self.meter = Clock(cpu=lambda: 0.0), Meter()
        self.actors = VirtualActors(clock=self.clock, gpus=gpus, work=work, costs=costs or Costs(), meter=self.meter)
        self._work = work
        self._waiting = list(range(len(work.epochs)))
        self._seconds_a_result = seconds_a_result
        request = SimpleNamespace(required_resources={"CPU": 1, "GPU": gpus_per_trial})
        for _ in range(min(len(self._waiting), int(gpus / gpus_per_trial))):
            first = {"config": {"number": self._waiting.pop(0)}}
            self.actors.add_actor(None, first, request, self._train, None, None)

    def _train(self, actor: VirtualActor, _: object = None) -> None:
        self.actors.schedule_actor_task(actor, "train", on_result=self._take)

    def _take(self, actor: VirtualActor, result: dict[str, Any]) -> None:
        self.clock.charge(self._seconds_a_result)
        if result["epoch"] < len(self._work.epochs[result["number"]]):
            self._train(actor)
        elif self._waiting:
            config = {"number": self._waiting.pop(0)}
            self.actors.schedule_actor_task(actor, "reset", (config,), on_result=self._train)
        else:
            self.actors.remove_actor(actor)

    def run(self) -> "Driver":
        while self.actors.next():
            pass
        assert self.actors.num_total_actors == 0, "every worker was let go"
        return self


def test_three_trials_on_two_gpus_end_when_they_must() -> None:
    """GPU 0: 10 s, then 5 s; GPU 1: 20 s."""
    run = Driver(Lengths([[4, 6], [20], [5]]), gpus=2).run()
    assert run.clock.now == 20
    assert run.meter.starts == [0, 0, 10]
    assert run.meter.work == 35
    assert run.meter.busy_share(0, 10, gpus=2) == 1.0  # while work waits
    assert run.meter.busy_share(0, 20, gpus=2) == pytest.approx(35 / 40)


def test_a_driver_that_takes_its_time_makes_results_queue_and_gpus_wait() -> None:
    """Both report at 10 s; it works on the first until 12, on the second until 14, and then begins the third trial."""
    run = Driver(Lengths([[10], [10], [10]]), gpus=2, seconds_a_result=2).run()
    assert run.meter.starts == [0, 0, 14]
    assert run.meter.busy_share(0, 14, gpus=2) == pytest.approx(20 / 28)
    assert run.clock.now == 14 + 10 + 2
    assert run.clock.busy == 6


def test_every_cost_is_in_the_search_time() -> None:
    """One worker: asked for (1), cold (3), up (.1), to it (.2), start (.5), epoch (10), back (.2), event (.1)."""
    costs = Costs(event=0.1, worker=1, hop=0.2)
    run = Driver(Lengths([[10]], cold=3, start=0.5), gpus=1, costs=costs).run()
    assert run.meter.spans == [(pytest.approx(4.8), pytest.approx(14.8), 1.0)]
    stopped = 14.8 + 0.2 + 0.1 + 0.2 + 0.1
    assert run.clock.now == pytest.approx(stopped)
    assert run.clock.busy == pytest.approx(1 + 3 * 0.1)


def test_the_more_workers_there_are_the_more_an_event_may_cost() -> None:
    run = Driver(Lengths([[10], [10]]), gpus=2, costs=Costs(event_per_worker=0.5)).run()
    assert run.clock.busy == pytest.approx(0.5 * (2 + 2 + 2 + 2 + 2 + 1))  # two starts, two epochs, two ends


def test_trials_that_take_a_part_of_a_gpu_share_one_before_they_take_another() -> None:
    run = Driver(Lengths([[10]] * 3), gpus=2, gpus_per_trial=0.25)
    run.actors.next()
    assert run.actors._free == [0.25, 1.0]
    run.run()
    assert run.meter.work == 7.5 and run.actors._free == [1.0, 1.0]


def test_a_trial_on_several_gpus_waits_until_so_many_are_free() -> None:
    run = Driver(Lengths([[10], [10]]), gpus=3, gpus_per_trial=1.5)
    assert run.run().meter.starts == [0, 0]
    two = Driver(Lengths([[10], [10]]), gpus=3, gpus_per_trial=2)
    assert two.run().meter.starts == [0, 10]


def test_what_a_worker_that_is_let_go_still_does_is_not_heard_of() -> None:
    run = Driver(Lengths([[10, 10]]), gpus=1)
    run.actors.next()  # it has started, and trains
    (actor,) = run.actors._workers
    run.actors.remove_actor(actor)
    assert run.actors.next() and not run.actors.next()
    assert run.clock.now == 0 and run.actors.num_total_actors == 0


def test_the_driver_s_own_computing_passes_and_the_simulation_s_does_not() -> None:
    cpu = iter([0.0, 5.0, 5.0, 25.0, 26.0, 26.0])
    clock = Clock(cpu=lambda: next(cpu))
    assert clock.now == 5
    with clock.stopped():
        pass
    assert clock.now == 6
    clock.charge(2)
    assert clock.computed == 6


@pytest.mark.parametrize("family", ["mel", "mfcc", "encoders"])
def test_recorded_trials_hold_what_a_simulation_needs(family: str) -> None:
    groups = set()
    for curve in load(family):
        assert len(curve.scores) == len(curve.epoch_seconds) > 0
        assert all(0 <= score <= 1 for score in curve.scores) and min(curve.epoch_seconds) > 0
        groups.add(curve.group)
    space = {"mel": "mel_cnn", "mfcc": "mfcc_full", "encoders": "wav2vec2_fast"}[family]
    opened = load_space(space)
    if opened.encoder is not None:
        opened = opened.bound_to(12)
    assert {get_family(opened.family).rung_group(config) for config in opened.corners()} <= groups


def test_a_better_configuration_has_a_higher_level_and_a_longer_training_a_better_score() -> None:
    trials, config = RecordedTrials("mel", seed=0), {"network": "cnn"}
    assert FAMILIES["mel"].rung_group(config) == "convolutions"
    levels = [trials.true_level(config, quality) for quality in (0.0, 0.3, 0.6, 0.9, 1.0, 1.2)]
    assert levels == sorted(levels) and levels[-1] > levels[-2]
    early, late = (sum(trials.score(config, number, epoch, 0.8) for number in range(50)) / 50 for epoch in (2, 20))
    assert late > early + 0.05
    assert trials.score(config, 7, 3, 0.8) == RecordedTrials("mel", seed=0).score(config, 7, 3, 0.8)


def test_epochs_that_run_twice_as_fast_take_half_as_long() -> None:
    slow, fast = (RecordedTrials("mel", seed=0, speed=speed) for speed in (1.0, 2.0))
    config = {"network": "cnn"}
    for number in range(5):
        assert slow.epoch_seconds(config, number, 3) == pytest.approx(2 * fast.epoch_seconds(config, number, 3))


def test_the_made_up_landscape_is_smooth_and_half_of_all_configurations_are_better_than_the_median() -> None:
    import optuna

    space = load_space("mel_cnn")
    landscape = Landscape(space, seed=0)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=5))
    qualities = []
    for _ in range(60):
        trial = study.ask()
        space.configure(trial)
        qualities.append(landscape.quality(trial.params, trial.distributions))
        nudged = dict(trial.params)
        nudged["dropout"] = min(0.5, trial.params["dropout"] + 0.001)
        assert landscape.quality(nudged, trial.distributions) == pytest.approx(qualities[-1], abs=0.05)
    assert 15 < sum(quality > 0.5 for quality in qualities) < 45
    assert max(qualities) > 0.85


def test_tune_finds_what_it_calls_on_an_actor_manager_by_the_same_names() -> None:
    """Tune's controller knows Ray's; an argument of another name would end a simulation at its end."""
    import inspect

    from ray.air.execution._internal import RayActorManager

    for name in ("is_actor_started", "is_actor_failed", "remove_actor", "schedule_actor_task", "add_actor", "next",
                 "clear_actor_task_futures"):  # fmt: skip
        wanted = inspect.signature(getattr(RayActorManager, name)).parameters
        assert list(wanted) == list(inspect.signature(getattr(VirtualActors, name)).parameters), name
