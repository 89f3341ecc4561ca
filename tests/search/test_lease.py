"""One driver a search: who holds it, who may take it, and who notices that it was taken."""

import dataclasses
import json
import subprocess
import threading
import time
from pathlib import Path

import pytest

from search.storage import lease
from search.storage.lease import LEASE_FILE, Holder, Lease, LeaseLostError, take_lease
from ser_data.errors import UserError
from ser_data.object_store import ObjectStore, open_store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    monkeypatch.setattr(lease, "_LOOK_SECONDS", 0.02)
    return open_store(str(tmp_path / "there"), patience=0)


def elsewhere(store: ObjectStore, **changes: object) -> Holder:
    """A driver on another machine, whose lease is there."""
    holder = dataclasses.replace(Holder.own(), host="another", pid=17, **changes)  # type: ignore[arg-type]
    store.write(LEASE_FILE, json.dumps(dataclasses.asdict(holder)).encode())
    return holder


def test_a_released_search_is_taken_without_a_word(store: ObjectStore) -> None:
    said: list[str] = []
    take_lease(store, said.append).release()
    assert store.names() == []
    take_lease(store, said.append)
    assert store.names() == [LEASE_FILE] and said == []


def test_a_driver_that_lives_is_named_and_the_second_refused(store: ObjectStore) -> None:
    alive = elsewhere(store)
    beating = threading.Timer(0.1, lambda: elsewhere(store, token=alive.token, at=alive.at + 1))
    beating.start()
    said: list[str] = []
    with pytest.raises(UserError, match=r"is driven by another \(process 17, since .*which lives.*end it there"):
        take_lease(store, said.append, expire=30)
    beating.join()
    assert len(said) == 1 and "another (process 17) drives this search" in said[0]


def test_a_driver_that_is_silent_for_long_enough_is_dead_whatever_its_clock_says(store: ObjectStore) -> None:
    elsewhere(store, at=time.time() + 3600)
    assert take_lease(store, lambda line: None, expire=0.1).holder.host != "another"


def test_a_driver_of_this_machine_whose_process_ended_is_not_waited_for(store: ObjectStore) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    dead = dataclasses.replace(Holder.own(), pid=ended.pid)
    store.write(LEASE_FILE, json.dumps(dataclasses.asdict(dead)).encode())
    take_lease(store, lambda line: pytest.fail(line))


def test_a_driver_notices_that_another_took_its_search_and_leaves_the_lease_alone(store: ObjectStore) -> None:
    own = Lease(store, Holder.own())
    own.renew()
    other = elsewhere(store)
    with pytest.raises(LeaseLostError, match=r"taken over by another driver \(another, process 17.*No trial is lost"):
        own.renew()
    own.release()
    assert json.loads(store.read(LEASE_FILE))["token"] == other.token


def test_a_driver_with_the_same_name_on_another_machine_is_not_taken_for_dead(store: ObjectStore) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    namesake = dataclasses.replace(Holder.own(), boot="another", pid=ended.pid)
    assert not namesake.is_gone()


def test_a_lease_that_could_not_be_released_does_not_bind_its_own_process(store: ObjectStore) -> None:
    own = take_lease(store, lambda line: pytest.fail(line))
    assert not own.holder.is_gone()
    there = store.read(LEASE_FILE)
    own.release()
    store.write(LEASE_FILE, there)
    take_lease(store, lambda line: pytest.fail(line))


def test_a_damaged_lease_binds_nobody(store: ObjectStore) -> None:
    store.write(LEASE_FILE, b"{")
    take_lease(store, lambda line: pytest.fail(line))
