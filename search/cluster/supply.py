"""What nodes need that lies on the driver's machine: the prepared corpus and the pretrained networks of a search.

On a cluster that a search joined, each node gets a copy on its own disk, once, from the storage or from the driver; one
that sees the same files under the driver's path uses these. A plan goes out with the driver's paths and is made the
node's own where a worker begins (:func:`search.trial_plan.plan_here`): what a trial leaves behind has no path of a node
in it.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from search.storage.shared_files import for_any_node
from ser_data.consignment import Consignment, holds, pack
from ser_data.consignment_store import StoredConsignments
from ser_data.corpus import CORPUS_FILE, MANIFEST_FILE, WAVEFORMS_FILE, Corpus
from ser_data.node_folder import size_text
from ser_data.staging import FOLDER, Arrival, Source, stage
from ser_models.pretrained.source import source_from_spec

if TYPE_CHECKING:
    from search.cluster.joining import Cluster
    from search.opening import Search
    from search.storage.run_storage import RunStorage

_CORPUS_FILES = (CORPUS_FILE, MANIFEST_FILE, WAVEFORMS_FILE)  # not the test ledger, which is the driver's


@dataclass(frozen=True)
class Good:
    """One thing that nodes need.

    Attributes:
        consignment: its files
        folder: where they lie on the driver's machine
        compare_whole: what a node's own folder of that path must have in common, see `ser_data.consignment.holds`
    """

    consignment: Consignment
    folder: str
    compare_whole: bool


@dataclass(frozen=True)
class Supply:
    """What the nodes of a cluster need, and whom they ask for it; sent to them with each plan.

    Attributes:
        corpus: the prepared corpus
        networks: pretrained networks with files, by their specs on the driver's machine
        cache_dir: ``--cache-dir``, which may begin with ``~``: every node has its own home
        source: where consignments come from
    """

    corpus: Good
    networks: Mapping[str, Good]
    cache_dir: str
    source: Source

    @property
    def goods(self) -> list[Good]:
        """All of them."""
        return [self.corpus, *self.networks.values()]

    def introduce(self, console: Console) -> None:
        """Say what nodes get, and from where."""
        sizes = [f"{good.consignment.name} ({size_text(good.consignment.size)})" for good in self.goods]
        _say(console, f"nodes without it get {_listed(sizes)} from {self.source.called}")

    @property
    def cache_here(self) -> Path:
        """The cache folder on this machine."""
        return Path(self.cache_dir).expanduser()


_here: dict[tuple[str, str, Path], Arrival] = {}  # what this process uses


def have(good: Good, supply: Supply) -> Arrival:
    """Have *good* on this node, in place or as a copy; looked for once a process.

    Raises:
        StagingError: this node cannot get it
    """
    key = good.consignment.digest, good.folder, supply.cache_here
    if key not in _here:
        own = Path(good.folder)
        if holds(own, good.consignment, whole=good.compare_whole):
            _here[key] = Arrival(own, 0, 0.0)
        else:
            _here[key] = stage(good.consignment, supply.source, supply.cache_here / FOLDER)
    return _here[key]


def spec_here(spec: str, supply: Supply) -> str:
    """The spec of the same network in its folder on this node.

    Raises:
        StagingError: this node cannot get it
    """
    good = supply.networks.get(spec)
    if good is None:  # none, or one without files
        return spec
    source, folder = source_from_spec(spec), have(good, supply).folder
    if source.name == str(folder):
        return spec
    # also where this node has it in the hub's cache: what it calls the newest there may be another commit
    return source.copied_to(folder, good.consignment.name).spec


@contextmanager
def supplied(
    cluster: "Cluster", searches: Sequence["Search"], corpus: Corpus, storage: "RunStorage | None", console: Console
) -> Iterator[Supply | None]:
    """Offer the nodes of a cluster what they need, as long as the context lasts; nothing on a local one.

    Args:
        cluster: what the search runs on
        searches: of its spaces
        corpus: theirs
        storage: where they lie too, None if they lie in a folder alone
        console: where to say what is sent

    Raises:
        UserError: something cannot be read, or the storage cannot be written
    """
    if not cluster.joined:
        yield None
        return
    packed = pack(corpus.folder, _CORPUS_FILES, called=f"corpus {corpus.name}")
    goods = Good(packed, str(corpus.folder.resolve()), compare_whole=False)
    networks = dict(_networks(encoder["spec"] for search in searches for encoder in search.encoders))
    found = [goods, *networks.values()]
    with _through_ray(found, console) if storage is None else _through(storage, found, console) as source:
        yield Supply(goods, networks, for_any_node(searches[0].arguments.cache_dir), source)


@contextmanager
def _through(storage: "RunStorage", goods: Sequence[Good], console: Console) -> Iterator[Source]:
    """Put there what is missing; beside the search, where other searches on the same data find it."""
    stored = StoredConsignments(storage.store.above)
    sent, began = 0, time.monotonic()
    for good in goods:
        missing = stored.missing(good.consignment)
        if missing:
            _say(console, f"putting {good.consignment.name} ({size_text(good.consignment.size)}) into {stored.called}")
        sent += stored.put(good.consignment, Path(good.folder), missing)
    if sent:
        _say(console, f"{size_text(sent)} were put there in {time.monotonic() - began:.0f} s")
    yield stored


@contextmanager
def _through_ray(goods: Sequence[Good], console: Console) -> Iterator[Source]:
    from search.cluster.depot import DepotSource, bytes_sent, close_depot, open_depot

    depot = open_depot({good.consignment.digest: good.folder for good in goods})
    try:
        yield DepotSource(depot)
        if sent := bytes_sent(depot):
            _say(console, f"{size_text(sent)} were sent to nodes")
    finally:
        close_depot(depot)


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def _networks(specs: Iterable[str]) -> Iterator[tuple[str, Good]]:
    """Pretrained networks with files, by their specs.

    One of the hub too is sent from here: so every node has the same commit, none needs the hub or a token for it, and
    a node that starts in mid-search does not get what was published meanwhile.
    """
    from ser_models.pretrained.files import files_of

    for spec in dict.fromkeys(specs):
        source = source_from_spec(spec)
        found = files_of(source)
        if found is not None:
            folder, names = found
            called = Path(source.name).name if source.is_folder else source.name
            yield spec, Good(pack(folder, names, called=called), str(folder), compare_whole=True)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
