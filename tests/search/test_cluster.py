"""Joining a cluster: an address where nobody answers costs seconds, and what an earlier cluster left is no cluster."""

import os
import socket
from collections.abc import Iterator

import pytest

from search.cluster import _running_cluster, _without_secrets, joined_cluster
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
