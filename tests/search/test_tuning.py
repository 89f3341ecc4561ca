"""What one trial takes of a machine, and how many run at a time."""

import pytest

from search.arguments import Arguments
from search.families import Family, check_gpus_per_trial, get_family
from search.tuning import Resources, choose_resources
from ser_data.errors import UserError

SMALL = Family("small", "x", cpus_per_trial=1, gpus_per_trial=0.25)
LARGE = Family("large", "x", cpus_per_trial=4, gpus_per_trial=1.0)


@pytest.mark.parametrize(
    ("family", "cores", "gpus", "expected"),
    [
        (SMALL, 2, 0, Resources(1, 0, 2)),
        (SMALL, 16, 1, Resources(1, 0.25, 4)),
        (SMALL, 2, 8, Resources(1, 0.25, 2)),
        (LARGE, 16, 2, Resources(4, 1.0, 2)),
        (LARGE, 2, 0, Resources(2, 0, 1)),  # fewer cores than it wants: all of them
    ],
)
def test_a_machine_is_kept_busy_and_not_overbooked(family: Family, cores: int, gpus: int, expected: Resources) -> None:
    assert choose_resources(Arguments(), family, cores=cores, gpus=gpus) == expected


def test_what_is_asked_for_counts() -> None:
    asked = Arguments(cpus_per_trial=2, gpus_per_trial=0.5, max_concurrent=1)
    assert choose_resources(asked, SMALL, cores=8, gpus=1) == Resources(2, 0.5, 1)
    assert choose_resources(Arguments(gpus_per_trial=0.0), SMALL, cores=8, gpus=1) == Resources(1, 0.0, 8)
    assert choose_resources(Arguments(max_concurrent=99), SMALL, cores=8, gpus=0).concurrent == 8


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Arguments(cpus_per_trial=3), r"--cpus-per-trial 3 is more than this cluster has \(2\).*Ask for 2 at most"),
        (
            Arguments(gpus_per_trial=1.0),
            r"--gpus-per-trial 1: this cluster has no GPU, so no trial could ever start\. Leave it out, and trials "
            r"take cores alone; or search where there is one",
        ),
    ],
)
def test_more_than_there_is_is_refused_since_no_trial_could_start(asked: Arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_resources(asked, SMALL, cores=2, gpus=0)


TWO_NODES = ({"CPU": 8.0, "GPU": 3.0}, {"CPU": 4.0, "GPU": 2.0}, {"CPU": 64.0})


@pytest.mark.parametrize(
    ("gpus_per_trial", "expected"),
    [
        (2.0, Resources(2, 2.0, 2)),  # five GPUs, but one of the three has no second one beside it
        (3.0, Resources(3, 3.0, 1)),
    ],
)
def test_gpus_of_one_trial_are_of_one_node(gpus_per_trial: float, expected: Resources) -> None:
    found = choose_resources(Arguments(gpus_per_trial=gpus_per_trial), SMALL, cores=76, gpus=5, nodes=TWO_NODES)
    assert found == expected
    assert (found.ranks, found.task_options()["num_gpus"]) == (gpus_per_trial, 1)  # a task of its own needs but one


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (6.0, r"--gpus-per-trial 6 is more than this cluster has \(5\)"),
        (4.0, r"--gpus-per-trial 4: .* must be of one node, and none of this cluster has more than 3. Ask for 3 at m"),
    ],
)
def test_more_gpus_than_a_node_has_are_refused(asked: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_resources(Arguments(gpus_per_trial=asked), SMALL, cores=76, gpus=5, nodes=TWO_NODES)


def test_a_measured_share_stands_for_the_familys_default_and_not_for_what_is_asked() -> None:
    assert choose_resources(Arguments(), LARGE, cores=16, gpus=1, gpu_share=0.5).gpus == 0.5
    assert choose_resources(Arguments(gpus_per_trial=1.0), LARGE, cores=16, gpus=1, gpu_share=0.5).gpus == 1.0


def test_several_gpus_for_a_trial_of_a_family_that_trains_on_one_are_refused() -> None:
    check_gpus_per_trial(get_family("encoders"), 2.0)
    check_gpus_per_trial(get_family("mfcc"), 1.0)
    check_gpus_per_trial(get_family("mfcc"), None)
    message = (
        r"--gpus-per-trial 2: a trial of the family mfcc trains on one GPU; several can train one of encoders\. Leave"
    )
    with pytest.raises(UserError, match=message):
        check_gpus_per_trial(get_family("mfcc"), 2.0)
