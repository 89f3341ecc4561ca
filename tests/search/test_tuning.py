"""What one trial takes of a machine, and how many run at a time."""

import pytest

from search.arguments import Arguments
from search.families import Family
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
        (Arguments(gpus_per_trial=0.5), r"--gpus-per-trial 0.5 is more than this cluster has \(0\)"),
    ],
)
def test_more_than_there_is_is_refused_since_no_trial_could_start(asked: Arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_resources(asked, SMALL, cores=2, gpus=0)
