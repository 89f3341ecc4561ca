"""Running a study's trials on a Ray cluster: what one trial takes, the check of the space's corners, the Tuner."""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from search.arguments import Arguments
from search.cluster.capacity import Count, TrialsAtATime, fitting
from search.cluster.node_watch import away_from_unfit, current
from search.families import Family
from search.portfolio import Portfolio
from search.storage.last_words import last_words
from search.study import Study
from search.trial import NUMBER, PlaceOf, run_trial, run_trial_of_several
from search.trial_plan import TrialPlan, checkpoint_name
from ser_data.errors import UserError

_UNBOUNDED = 1_000_000


@dataclass(frozen=True)
class Resources:
    """What trials run on.

    Attributes:
        cpus: cores of one trial
        gpus: GPUs of one trial, a fraction where several share one; several are of one node
        concurrent: trials at a time
    """

    cpus: int
    gpus: float
    concurrent: int

    def task_options(self) -> dict[str, Any]:
        """For a Ray task that takes as much as a trial; of several GPUs, which train together, one."""
        return {"num_cpus": self.cpus, "num_gpus": min(self.gpus, 1), **away_from_unfit()}

    @property
    def ranks(self) -> int:
        """Processes that train one trial: one a GPU."""
        return max(1, int(self.gpus))


def choose_resources(
    arguments: Arguments,
    family: Family,
    *,
    cores: int,
    gpus: int,
    nodes: Sequence[Mapping[str, float]] = (),
    gpu_share: float | None = None,
) -> Resources:
    """What one trial takes and how many run at a time, from the options, the family and the cluster.

    Args:
        arguments: of the search
        family: of its space
        cores: of the cluster
        gpus: likewise
        nodes: resources of each node by name, as Ray counts them; none where one has it all
        gpu_share: what a trial takes of a GPU unless the arguments say it; None for the family's default

    Raises:
        UserError: a trial asks for more than there is
    """
    by_default = min(family.gpus_per_trial if gpu_share is None else gpu_share, gpus)
    gpus_per_trial = by_default if arguments.gpus_per_trial is None else arguments.gpus_per_trial
    _check_gpus(gpus_per_trial, gpus, nodes)
    ranks = max(1, int(gpus_per_trial))
    able = [int(node.get("CPU", 0)) for node in nodes if node.get("GPU", 0) >= gpus_per_trial] if ranks > 1 else []
    cpus = arguments.cpus_per_trial or min(family.cpus_per_trial * ranks, max(able, default=cores), cores)
    if cpus > cores:
        raise _more_than_there_is("--cpus-per-trial", cpus, cores)
    fits = max(1, cores // cpus)
    if gpus_per_trial:
        # those of one trial are of one node
        counts = [int(node.get("GPU", 0)) for node in nodes] if ranks > 1 and nodes else [gpus]
        fits = min(fits, max(1, sum(int(count / gpus_per_trial) for count in counts)))
    return Resources(cpus, gpus_per_trial, min(arguments.max_concurrent or fits, fits))


def _check_gpus(asked: float, there: int, nodes: Sequence[Mapping[str, float]]) -> None:
    """Refuse *asked* GPUs for a trial that could never start."""
    if asked and not there:
        raise UserError(
            f"--gpus-per-trial {asked:g}: this cluster has no GPU, so no trial could ever start. Leave it out, and "
            "trials take cores alone; or search where there is one (`ray start --num-gpus=N` where Ray finds none)."
        )
    if asked > there:
        raise _more_than_there_is("--gpus-per-trial", asked, there)
    most = int(max((node.get("GPU", 0) for node in nodes), default=there))
    if asked > most:
        raise UserError(
            f"--gpus-per-trial {asked:g}: a trial's GPUs must be of one node, and none of this cluster has more than "
            f"{most}. Ask for {most} at most."
        )


def _more_than_there_is(option: str, asked: float, there: int) -> UserError:
    return UserError(
        f"{option} {asked:g} is more than this cluster has ({there}), so no trial could ever start. Ask for {there} at "
        "most."
    )


def tune_study(study: Study, plan: TrialPlan, stopper: Any, resources: Resources, arguments: Arguments) -> None:
    """Hand what is left of *study* to a new Tuner and wait until it is through.

    Args:
        study: replayed from its record
        plan: what every trial gets
        stopper: :class:`search.tune_adapters.SittingStopper`
        resources: of one trial, and how many at a time on the nodes that are there
        arguments: of the search

    Raises:
        UserError: a corner of the space cannot be trained; no trial was
        Exception: what the study raised: a full disk, a listener's fault
    """
    from ray import tune

    _tune(
        study,
        tune.with_resources(tune.with_parameters(run_trial, plan=plan), _bundle(resources)),
        stopper,
        Path(plan.run_folder),
        error_file_of=partial(last_words, plan),
        forget=lambda number: plan.on_driver.remove(checkpoint_name(number)),
        concurrent=resources.concurrent,
        count=lambda nodes: fitting(nodes, resources.cpus, resources.gpus),
        arguments=arguments,
    )


def tune_several(
    study: Study | Portfolio,
    plans: Sequence[TrialPlan],
    resources: Sequence[Resources],
    stopper: Any,
    folder: Path,
    *,
    place_of: PlaceOf,
    arguments: Arguments,
) -> None:
    """As :func:`tune_study`, for trials of several spaces, which take different resources.

    Args:
        study: whose trials
        plans: of each space
        resources: of one trial of each space, in the same order
        stopper: as there
        folder: of the whole search, an absolute path
        place_of: from a trial's number to the place of its space in *plans*, and the number it has there
        arguments: of the whole search
    """
    from ray import tune
    from ray.tune import PlacementGroupFactory

    bundles = [_bundle(one) for one in resources]

    def of_trial(config: dict[str, Any]) -> PlacementGroupFactory:
        return PlacementGroupFactory([bundles[place_of(config[NUMBER])[0]]])

    def error_file_of(number: int) -> Path:
        place, own = place_of(number)
        return last_words(plans[place], own)

    def forget(number: int) -> None:
        place, own = place_of(number)
        plans[place].on_driver.remove(checkpoint_name(own))

    def count(nodes: Sequence[Mapping[str, float]]) -> int:
        now = [replace(one, concurrent=fitting(nodes, one.cpus, one.gpus)) for one in resources]
        return concurrent_of_several(now, None)

    trainable = tune.with_parameters(run_trial_of_several, plans=list(plans), place_of=place_of)
    _tune(
        study,
        tune.with_resources(trainable, of_trial),
        stopper,
        folder,
        error_file_of=error_file_of,
        forget=forget,
        concurrent=concurrent_of_several(resources, arguments.max_concurrent),
        count=count,
        arguments=arguments,
    )


def concurrent_of_several(resources: Sequence[Resources], bound: int | None) -> int:
    """How many trials may be at hand at a time: as many as run on the GPUs, and as many as run on cores alone.

    Args:
        resources: of one trial of each space
        bound: ``--max-concurrent``

    >>> concurrent_of_several([Resources(1, 1.0, 2), Resources(1, 0, 8), Resources(2, 0, 4)], None)
    10
    """
    together = sum(
        max((one.concurrent for one in resources if bool(one.gpus) is on_gpu), default=0) for on_gpu in (True, False)
    )
    return min(together, bound or together)


def _bundle(resources: Resources) -> dict[str, float]:
    return {"CPU": resources.cpus, **({"GPU": resources.gpus} if resources.gpus else {})}


def _tune(
    study: Study | Portfolio,
    trainable: Any,
    stopper: Any,
    folder: Path,
    *,
    error_file_of: Callable[[int], Path],
    forget: Callable[[int], None],
    concurrent: int,
    count: Count,
    arguments: Arguments,
) -> None:
    from ray.tune import FailureConfig, RunConfig, TuneConfig, Tuner

    from search.tune_adapters import StudyScheduler, StudySearcher
    from search.tune_controller import following_nodes

    if not study.remaining:
        return
    scratch = folder / ".tune"  # Tune insists on a folder; nothing in it is ever read
    shutil.rmtree(scratch, ignore_errors=True)
    watch = current()
    if watch is None:
        at_a_time: Callable[[], int] = partial(int, concurrent)
    else:
        watch.hand_to(stopper)
        at_a_time = TrialsAtATime(watch, study, count, arguments.max_concurrent)
    # the searcher bounds what waits. Tune's default is one trial, and an autoscaling cluster would fill one by one
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(_UNBOUNDED)
    tuner = Tuner(
        trainable,
        tune_config=TuneConfig(
            search_alg=StudySearcher(study, stopper, error_file_of, at_a_time),
            scheduler=StudyScheduler(study, stopper),
            num_samples=study.remaining,
            reuse_actors=True,
            trial_dirname_creator=_trial_dirname,
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(scratch),
            stop=stopper,
            verbose=0,
            failure_config=FailureConfig(max_failures=arguments.max_failures),
        ),
    )
    try:
        with following_nodes(watch, study, at_a_time, forget):
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if stopper.failure is not None:
        raise stopper.failure
    if stopper.space_problem is not None:
        raise corner_problem(stopper.space_problem)


def corner_problem(problem: str) -> UserError:
    """What a user is told of a space with a corner that cannot be trained."""
    return UserError(
        f"the space has a configuration that cannot be trained, so no trial was started. {problem} "
        "Correct the range in the space's file, or pin the parameter with --fix."
    )


def _trial_dirname(trial: Any) -> str:
    """Tune's default holds every parameter and grows past what file systems take."""
    return str(trial.trial_id)
