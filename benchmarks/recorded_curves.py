"""Recorded trials as the stuff of simulated ones: how long their epochs took, and how their scores grew.

``python benchmarks/recorded_curves.py FAMILY=RUN …`` distils finished runs to ``benchmarks/data/recorded_curves.json``.

A simulated trial has the seconds of a recorded one, drawn with replacement, and a score curve that is put together:
the *shape* of a recorded curve, drawn likewise, times a *level*. The level is where recorded trials stand too: good
configurations get the high ones. Which are good is made up, so that the sampler has something to learn: every
parameter of the space has an optimum somewhere in its range, a few parameters matter much and most matter little.
"""

import json
import math
import random
import sys
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0:1] = [str(ROOT), str(ROOT / "datasets")]

import optuna  # noqa: E402

from search.families import get_family  # noqa: E402
from search.record import read_events  # noqa: E402
from search.space import Space  # noqa: E402
from search.study import trials_of  # noqa: E402
from ser_data.seeds import derive_seed  # noqa: E402

FILE = ROOT / "benchmarks" / "data" / "recorded_curves.json"
_SHAPE_SHARE = 0.5  # of a group's longest curve: shorter ones do not show how a curve goes on
_EPOCH_NOISE = 0.008  # UAR, deviation of one epoch's score
_LEVEL_NOISE = 0.01  # UAR, deviation between two trainings of one configuration
_TIME_NOISE = 0.05  # deviation of the logarithm of a trial's speed
_COLD_SECONDS = 3.0  # a worker that has its imports behind it begins sooner
_CALIBRATION = 500  # random configurations that say what is a good one


@dataclass(frozen=True)
class Curve:
    """One recorded trial.

    Attributes:
        group: trials that a rung compares with one another
        start_seconds: from the proposal to the first epoch's begin
        cold: whether its worker had to start for it
        epoch_seconds: of each epoch
        scores: of each epoch, validation UAR
    """

    group: str
    start_seconds: float
    cold: bool
    epoch_seconds: tuple[float, ...]
    scores: tuple[float, ...]


def distil(family: str, run: Path) -> list[dict[str, Any]]:
    """What a simulation needs of the trials of one recorded search."""
    events = read_events(run / "events.jsonl")
    asked = {event["number"]: event["at"] for event in events if event["kind"] == "suggested"}
    first = {}
    for event in events:
        if event["kind"] == "epoch":
            first.setdefault(event["number"], event["at"] - event["report"]["seconds"])
    return [
        {
            "group": get_family(family).rung_group(trial.config),
            "start_seconds": round(max(0.0, first[number] - asked[number]), 2),
            "cold": first[number] - asked[number] > _COLD_SECONDS,
            "epoch_seconds": [round(report["seconds"], 2) for report in trial.epochs],
            "scores": [round(score, 4) for score in trial.scores],
        }
        for number, trial in sorted(trials_of(events).items())
        if trial.epochs
    ]


def load(family: str) -> list[Curve]:
    """The recorded trials of a family."""
    return [
        Curve(**{**row, "epoch_seconds": tuple(row["epoch_seconds"]), "scores": tuple(row["scores"])})
        for row in json.loads(FILE.read_text())[family]
    ]


class Landscape:
    """A made-up quality of every configuration of a space, in [0, 1]: the share of random ones that are worse."""

    def __init__(self, space: Space, seed: int) -> None:
        self._seed = derive_seed(seed, "landscape", 0)
        sampler = optuna.samplers.RandomSampler(seed=derive_seed(seed, "calibration", 0))
        study = optuna.create_study(sampler=sampler)
        heights = []
        for _ in range(_CALIBRATION):
            trial = study.ask()
            space.configure(trial)
            heights.append(self._height(trial.params, trial.distributions))
        self._heights = sorted(heights)

    def quality(self, params: Mapping[str, Any], distributions: Mapping[str, Any]) -> float:
        """Of a configuration; above 1 for those that are better than any of the random ones."""
        height = self._height(params, distributions)
        known = self._heights
        if height >= known[-1]:
            return 1.0 + (height - known[-1]) / (known[-1] - known[0])
        place = bisect(known, height)
        if not place:
            return 0.0
        below, above = known[place - 1], known[place]
        return (place - 1 + (height - below) / (above - below or 1.0)) / (len(known) - 1)

    def _height(self, params: Mapping[str, Any], distributions: Mapping[str, Any]) -> float:
        effects = [self._effect(name, _place(params[name], distributions[name])) for name in params]
        return sum(effects) / sum(self._weight(name) for name in params)

    def _weight(self, name: str) -> float:
        return random.Random(f"{self._seed} weight {name}").expovariate(1.0) ** 2

    def _effect(self, name: str, place: float) -> float:
        best = random.Random(f"{self._seed} optimum {name}").random()
        return self._weight(name) * (1 - (place - best) ** 2)


def _place(value: Any, distribution: Any) -> float:
    """Where in its range a value is, in [0, 1]."""
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return distribution.choices.index(value) / max(1, len(distribution.choices) - 1)
    low, high = distribution.low, distribution.high
    if distribution.log:
        low, high, value = math.log(low), math.log(high), math.log(value)
    return float((value - low) / (high - low or 1))


class RecordedTrials:
    """Simulated trials of one space."""

    def __init__(self, family: str, *, seed: int, speed: float = 1.0) -> None:
        """Of the recorded trials of *family*, whose epochs run *speed* times as fast."""
        self._curves = load(family)
        self._seed = seed
        self._speed = speed
        self._group_of = get_family(family).rung_group
        self.cold_start = median(curve.start_seconds for curve in self._curves if curve.cold)
        self._shapes: dict[str, list[tuple[float, ...]]] = {}
        self._levels: dict[str, list[float]] = {}
        for group in {curve.group for curve in self._curves}:
            own = [curve for curve in self._curves if curve.group == group]
            longest = max(len(curve.scores) for curve in own)
            shapes = [
                tuple(score / max(curve.scores) for score in curve.scores)
                for curve in own
                if len(curve.scores) >= _SHAPE_SHARE * longest
            ]
            self._shapes[group] = shapes
            self._levels[group] = sorted(_level(curve.scores, shapes) for curve in own)

    def true_level(self, config: Mapping[str, Any], quality: float) -> float:
        """UAR that a configuration of *quality* would reach on average."""
        levels = self._levels[self._group_of(config)]
        if quality >= 1:
            return levels[-1] + 0.5 * (quality - 1) * (levels[-1] - levels[0])
        place = quality * (len(levels) - 1)
        low = int(place)
        high = min(low + 1, len(levels) - 1)
        return levels[low] + (place - low) * (levels[high] - levels[low])

    def start_seconds(self, config: Mapping[str, Any], number: int) -> float:
        """Until trial *number* trains its first epoch, on a worker that has had a trial before."""
        warm = [curve.start_seconds for curve in self._curves if not curve.cold]
        return self._random(number, "start").choice(warm)

    def epoch_seconds(self, config: Mapping[str, Any], number: int, epoch: int) -> float:
        """How long an epoch of trial *number* takes."""
        generator = self._random(number, "seconds")
        recorded = generator.choice(self._of_group(config)).epoch_seconds
        return recorded[min(epoch, len(recorded)) - 1] * math.exp(generator.gauss(0, _TIME_NOISE)) / self._speed

    def score(self, config: Mapping[str, Any], number: int, epoch: int, quality: float) -> float:
        """Validation UAR after *epoch* epochs of trial *number*."""
        generator = self._random(number, "score")
        shape = generator.choice(self._shapes[self._group_of(config)])
        level = self.true_level(config, quality) + generator.gauss(0, _LEVEL_NOISE)
        noise = self._random(number, f"epoch {epoch}").gauss(0, _EPOCH_NOISE)
        return min(0.99, max(0.05, level * shape[min(epoch, len(shape)) - 1] + noise))

    def _of_group(self, config: Mapping[str, Any]) -> Sequence[Curve]:
        group = self._group_of(config)
        return [curve for curve in self._curves if curve.group == group]

    def _random(self, number: int, purpose: str) -> random.Random:
        return random.Random(f"{self._seed} {number} {purpose}")


def _level(scores: Sequence[float], shapes: Sequence[Sequence[float]]) -> float:
    """The score that a curve that was cut after a few epochs would have reached at its best."""
    reached = [max(shape[: len(scores)]) for shape in shapes]
    return max(scores) / (sum(reached) / len(reached))


def main() -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for argument in sys.argv[1:]:
        family, _, run = argument.partition("=")
        found.setdefault(family, []).extend(distil(family, Path(run)))
    lines = [f'"{family}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for family, rows in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print({family: len(rows) for family, rows in found.items()})


if __name__ == "__main__":
    main()
