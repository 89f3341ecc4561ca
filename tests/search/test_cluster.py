"""Joining a cluster: an address where nobody answers costs seconds, and what an earlier cluster left is no cluster."""

import os
import socket
from collections.abc import Iterator

import pytest
import ray

from search.cluster.joining import _keep_keys_here, _running_cluster, _without_secrets, joined_cluster
from ser_data.errors import UserError


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "127.0.0.1", "127.0.0.1:port"])
def test_an_address_where_nobody_answers_is_refused_with_what_is_accepted(closed_port: int, address: str) -> None:
    named = address.format(port=closed_port)
    message = (
        rf"--address {named}: no Ray cluster could be joined there \(.+\)\. Accepted are auto, local, or .*HOST:PORT"
    )
    with pytest.raises(UserError, match=message), joined_cluster(named):
        pass


def test_the_environments_address_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert _running_cluster() == "head:6379"


def test_a_cluster_that_is_gone_is_not_joined(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda *_: f"127.0.0.1:{closed_port}")
    assert _running_cluster() is None
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda *_: None)
    assert _running_cluster() is None


def test_rays_processes_are_started_without_the_key_of_wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "planted")
    with _without_secrets():
        assert "WANDB_API_KEY" not in os.environ  # which they inherit
    assert os.environ["WANDB_API_KEY"] == "planted"


@pytest.fixture
def listening_port() -> Iterator[int]:
    """A port of this machine where somebody listens; it stands for a head's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


#: As Ray 2.60 says it.
MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.40.0
    Python: 3.12.1
This process on node 10.0.0.1 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError(MISMATCH),
            r"this Python or Ray is not the cluster's\. Version mismatch: .*Ray: 2\.40\.0 Python: 3\.12\.1 This "
            r".*Use the same on every machine: build \.venv there with the same Python \(sh build_venv\.sh\)",
        ),
        (
            ray.exceptions.AuthenticationError("InvalidAuthToken: wrong"),
            r"the cluster wants its token, which this shell does not show\. Copy ~/\.ray/auth_token from the cluster's "
            r"head .*\(mode 600\), export RAY_AUTH_MODE=token, and try again",
        ),
        (
            RuntimeError("Token authentication is on but no authentication token was found"),
            r"the cluster wants its token.*export RAY_AUTH_MODE=token",
        ),
    ],
)
def test_a_head_that_will_not_have_this_machine_is_told_with_what_to_do(
    listening_port: int, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(**_: object) -> None:
        raise error

    monkeypatch.setattr(ray, "init", refuse)
    address = f"127.0.0.1:{listening_port}"
    with pytest.raises(UserError, match=rf"--address {address}: {message}") as told, joined_cluster(address):
        pass
    assert "\n" not in str(told.value)


def test_a_clouds_keys_stay_in_the_drivers_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials' workers are described to the cluster, and what describes them is shown by the dashboard."""
    from ray.tune.execution import class_cache

    class Trainable:
        pass

    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN")
    for name in keys:
        monkeypatch.setenv(name, "planted")
    # other tests of this process may have joined or started a Ray before
    monkeypatch.setattr(class_cache, "ENV_VARS_TO_PROPAGATE", {*keys, "RAY_CHDIR_TO_TRIAL_DIR"})
    monkeypatch.setenv("RAY_CHDIR_TO_TRIAL_DIR", "0")

    def passed_on() -> str:
        worker = class_cache._ActorClassCache().get(Trainable)  # type: ignore[no-untyped-call]  # Ray's
        return str(worker._default_options["runtime_env"])

    assert "planted" in passed_on()  # what would happen
    _keep_keys_here()
    assert "planted" not in passed_on() and "RAY_CHDIR_TO_TRIAL_DIR" in passed_on()
