"""Ray Tune's loop on a cluster whose nodes come and go.

Tune counts a worker that died with its node as a failure of its trial, unless a cloud announced the node's end, and
places trials on any node. The controller here knows the nodes: a trial that lost its node goes on elsewhere and nothing
is counted, none runs on a node that does not fit, and the number of trials at a time follows the cluster. It overrides
what Ray 2.60 keeps to itself; ``tests/search/test_nodes_come_and_go.py`` holds it to a real Ray.
"""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ray.tune import PlacementGroupFactory, TuneError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from search.cluster.lost_nodes import MOST_LOST_IN_A_ROW, Fate, fate_of, node_of_actor
from search.cluster.node_watch import NodeWatch, selector
from search.trial import NODE_PROBLEM, NUMBER

_UNFIT = TuneError("its node cannot work on this search")


@contextlib.contextmanager
def following_nodes(
    watch: NodeWatch | None, study: Any, follow: Callable[[], int], forget: Callable[[int], None]
) -> Iterator[None]:
    """While the context lasts, Tune's loop follows the cluster.

    Args:
        watch: over its nodes; None on a Ray of this process's own, where Tune's loop stays as it is
        study: whose trials
        follow: is called again and again, to take in what changed
        forget: removes the checkpoint of the trial with that number
    """
    if watch is None:
        yield
        return

    loops: Any = importlib.import_module("ray.tune.tune")
    # the one place where Tune makes its loop
    loops.TuneController = partial(FollowingController, watch, study, follow, forget)
    try:
        yield
    finally:
        loops.TuneController = TuneController


class FollowingController(TuneController):
    """Tune's loop, with what :func:`following_nodes` is given before its own arguments."""

    def __init__(
        self,
        watch: NodeWatch,
        study: Any,
        follow: Callable[[], int],
        forget: Callable[[int], None],
        **settings: Any,
    ) -> None:
        self._watch = watch
        self._study = study
        self._follow = follow
        self._forget = forget
        self._avoided: frozenset[str] = frozenset()
        self._handled: dict[str, Exception] = {}
        self._nodes: dict[Any, str | None] = {}  # ids, by worker
        self._lost: dict[int, tuple[int, int]] = {}  # by trial: nodes lost in a row, and epochs that were known then
        super().__init__(**settings)

    def on_step_begin(self) -> None:
        super().on_step_begin()  # type: ignore[no-untyped-call]  # Ray's
        self._follow()
        if self._watch.unfit != self._avoided:
            found = self._watch.unfit - self._avoided
            self._avoided = self._watch.unfit
            if found:
                self._leave(found)

    def add_trial(self, trial: Trial) -> None:
        super().add_trial(trial)
        self._keep_off(trial)

    def _set_trial_status(self, trial: Trial, status: str) -> None:
        super()._set_trial_status(trial, status)
        self._keep_off(trial)

    def __getstate__(self) -> dict[str, Any]:
        own = ("_watch", "_study", "_follow", "_forget", "_handled", "_nodes")
        state = super().__getstate__()  # type: ignore[no-untyped-call]  # Ray's
        return {name: value for name, value in state.items() if name not in own}

    def _keep_off(self, trial: Trial) -> None:
        """Let a trial that waits, and asked for no room yet, ask for it on nodes that fit."""
        if trial.status != Trial.PENDING or trial in self._staged_trials:
            return
        asked: Any = trial.placement_group_factory
        bundles = asked.bundles
        where = {"bundle_label_selector": [selector(self._avoided)] * len(bundles)} if self._avoided else {}
        wanted = PlacementGroupFactory(bundles, asked.strategy, **where)
        if wanted != asked:
            self._resources_to_pending_trials[asked].discard(trial)
            trial.placement_group_factory = wanted  # type: ignore[assignment]  # Ray has it None at first
            self._resources_to_pending_trials[wanted].add(trial)

    def _leave(self, unfit: frozenset[str]) -> None:
        """Take the trials off nodes that were found unfit, and let those that wait ask for room elsewhere."""
        for trial in [trial for trial in self._pending_trials if trial in self._staged_trials]:
            actor = self._trial_to_actor.get(trial)
            if actor is not None and trial not in self._resetting_trials:
                self._trial_to_actor.pop(trial)
                self._actor_to_trial.pop(actor)
                self._remove_actor(tracked_actor=actor)
                self._unstage_trial_with_resources(trial)
                self._pending_trials_list.append(trial)
                self._keep_off(trial)
        for trial in list(self._running_trials):
            if self._nodes.get(self._trial_to_actor.get(trial)) in unfit:
                self._move_off(trial, _UNFIT)
        self._cleanup_cached_actors(force_all=True)  # some may be there, and all were asked for as before

    def _move_off(self, trial: Trial, why: Any, *, anew: bool = True) -> None:
        """End a running trial's worker on a node that does not fit, if it lives; the trial begins *anew* elsewhere."""
        actor = self._trial_to_actor.get(trial)
        self._try_recover(trial, exc=why)
        if actor is not None:
            self._actor_manager.remove_actor(actor, kill=True)
        if not anew:
            return
        # another version of the project may have written it; the same seed gives the same epochs again
        self._forget(trial.config[NUMBER])

    def _actor_started(self, tracked_actor: Any, log: str = "STARTED") -> None:
        super()._actor_started(tracked_actor, log)
        if tracked_actor not in self._nodes:
            handle: Any = self._actor_to_trial[tracked_actor].temporary_state.ray_actor
            self._nodes[tracked_actor] = node_of_actor(handle._actor_id.hex())

    def _actor_stopped(self, tracked_actor: Any) -> None:
        super()._actor_stopped(tracked_actor)
        self._nodes.pop(tracked_actor, None)

    def _on_training_result(self, trial: Trial, result: Any) -> None:
        node = self._nodes.get(self._trial_to_actor[trial])
        told = result[-1] if isinstance(result, list) else result
        if NODE_PROBLEM in told and node is not None:
            self._watch.leave_out(node, f"{told[NODE_PROBLEM]} Then start Ray there again.")
            self._move_off(trial, _UNFIT, anew=False)
            return
        # a node that joined while trials waited gets one at once, before it has been looked at
        if node is not None and not self._watch.knows(node) and not self._watch.may_be_used(node):
            self._move_off(trial, _UNFIT)
            return
        super()._on_training_result(trial, result)  # type: ignore[no-untyped-call]  # Ray's

    def _process_trial_failure(self, trial: Trial, exception: Any) -> None:
        self._resetting_trials.discard(trial)  # Tune leaves it there, and would wait for it for ever
        if trial.status == Trial.PENDING and self._handled.get(trial.trial_id) is exception:
            return  # Tune tells twice of a worker that died while it was made ready for its next trial
        self._handled[trial.trial_id] = exception
        number = trial.config[NUMBER]
        fate = fate_of(exception, self._watch)
        if fate is Fate.OWN_FAULT or trial.status != Trial.RUNNING:
            super()._process_trial_failure(trial, exception)
        elif fate is Fate.UNFIT_NODE:
            self._move_off(trial, exception)
        elif self._lost_in_a_row(number) < MOST_LOST_IN_A_ROW:
            self._try_recover(trial, exc=exception)
        else:
            self._study.fail(
                number, f"{MOST_LOST_IN_A_ROW} nodes in a row were lost while it ran: it may be what takes them down"
            )
            self._search_alg.on_trial_complete(trial.trial_id, error=True)
            self._schedule_trial_stop(trial, exception=exception)

    def _lost_in_a_row(self, number: int) -> int:
        epochs = len(self._study.trials[number].epochs)
        lost, known = self._lost.get(number, (0, epochs))
        lost = lost + 1 if known == epochs else 1
        self._lost[number] = lost, epochs
        return lost
