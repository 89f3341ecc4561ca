"""From the end of a search to its finalists' board: choose, train with several seeds, judge on test once, tell.

``--finalists K`` asks for it. What was trained and what was judged is on disk at every step, so ``--resume`` goes on
where it was; who looked at test speakers is in the ledger before anybody looks.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from search import run_folder
from search.corpora import TaskData, named_splits, task_data
from search.ending import export_bundle
from search.finalist_board import caption, finalist_board, verdicts, write_finalists
from search.finalists import (
    DEFAULT_SEEDS,
    FixedProposals,
    Round,
    choose_candidates,
    facts_of,
    next_round,
    read_rounds,
    write_round,
)
from search.judging import JudgedRow, TestClips, best_training, is_judged, judge_round, mark_judged
from search.ledger import Look, earlier_looks, enter, read_ledger
from search.opening import Search
from search.record import Record, read_events
from search.rungs import NoStopping, RungGroups
from search.study import Study, StudyTrial, trials_of
from search.terminal import LiveView
from search.trial import TrialPlan, checkpoint_file
from search.tuning import Resources, tune_study
from ser_data.errors import UserError
from ser_data.splits import folds_of


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a search's finalists in a sitting.

    Attributes:
        interrupted: whether something is left for a resume
        board: of a round that was judged now, from :func:`search.finalist_board.finalist_board`; None where none was
        lines: what has to be said with it, or of why there is none
    """

    interrupted: bool = False
    board: pd.DataFrame | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class FinalRound:
    """What the steps of one round share.

    Attributes:
        search: whose finalists
        data: on the search's own split
        plan: of the search's trials
        resources: of one trial
        console: where it is told
    """

    search: Search
    data: TaskData
    plan: TrialPlan
    resources: Resources
    console: Console

    def run(self, stopper: Any) -> Outcome:
        """Train and judge what is left of the round.

        Args:
            stopper: :class:`search.tune_adapters.SittingStopper` of its own: the search's time does not count

        Raises:
            UserError: something the user can mend
        """
        folder = self.search.folder
        the_round = self._round()
        if isinstance(the_round, Outcome):
            return the_round
        write_round(folder, the_round)
        data = {split: self._data_of(split) for split in the_round.splits}
        clips = {split: TestClips.of(one.corpus, one.split, one.emotions) for split, one in data.items()}
        trials: dict[str, Mapping[int, StudyTrial]] = {}
        for split in the_round.splits:
            trials[split] = self._train(the_round, split, stopper)
            if stopper.stop_all():
                return Outcome(interrupted=True)
        return self._judge(the_round, trials, clips)

    def _round(self) -> Round | Outcome:
        arguments, folder = self.search.arguments, self.search.folder
        events = read_events(folder / run_folder.RECORD_FILE)
        candidates = choose_candidates(trials_of(events).values(), arguments.finalists or 0)
        if not any(candidate.role == "finalist" for candidate in candidates):
            return Outcome(lines=("no trial has a score, so there are no finalists",))
        splits: tuple[str, ...] = (self.data.split.name,)
        if arguments.folds == "all":
            splits = folds_of(self.data.split.name, named=named_splits(self.data.corpus))
        rounds, judged = read_rounds(folder), _is_last_judged(folder)
        if judged and not arguments.force:
            return Outcome(
                lines=("the finalists were judged on test before, and are not judged again; --force looks again",)
            )
        wanted = Round(1, candidates, arguments.seeds or DEFAULT_SEEDS, splits)
        return next_round(rounds, wanted, judged=judged)

    def _data_of(self, split: str) -> TaskData:
        if split == self.data.split.name:
            return self.data
        arguments = self.search.arguments
        found = task_data(self.data.corpus, split, arguments.emotions, seed=arguments.seed)
        check_can_be_judged(found)
        return found

    def _train(self, the_round: Round, split: str, stopper: Any) -> Mapping[int, StudyTrial]:
        """Train what is left on *split*; the trials of its record."""
        plan = the_round.trial_plan(self.plan, self.search.folder, split)
        with Record(the_round.record_file(self.search.folder, split)) as record:
            study = Study(
                record,
                FixedProposals(the_round),
                RungGroups(NoStopping, lambda config: ""),
                num_trials=len(the_round.runs),
                max_epochs=plan.max_epochs,
            )
            view = LiveView(
                self.console, num_trials=len(the_round.runs), known=study.trials,
                title=f"finalists on {split}",
            )  # fmt: skip
            study.listeners.append(view.on_event)
            with view:
                if study.remaining:
                    view.say(f"finalists on {split}: {study.remaining} of {len(the_round.runs)} trainings to do")
                    tune_study(study, plan, stopper, self.resources, max_failures=self.search.arguments.max_failures)
        return study.trials

    def _judge(
        self, the_round: Round, trials: Mapping[str, Mapping[int, StudyTrial]], clips: Mapping[str, TestClips]
    ) -> Outcome:
        search, folder = self.search, self.search.folder
        look, earlier = self._enter_ledger(the_round)
        self.console.print(f"judging {len(the_round.runs) * len(the_round.splits)} trainings on test speakers")
        rows = judge_round(the_round, folder, trials, clips, self.plan, self.resources, self.data.emotions)
        totals = TestClips.together(list(clips.values())).totals(len(self.data.emotions)).tolist()
        board = finalist_board(rows, totals)
        lines = [
            *caption(rows, totals, the_round, look, earlier, self.data.split.name),
            *verdicts(rows, totals),
        ]
        write_finalists(folder, board, lines, search.config)
        search.config["judged"] = {**facts_of(the_round), "at": look.at}
        run_folder.save(folder, search.config)
        self._export(the_round, rows, trials, board.to_dict("records"))
        return Outcome(board=board, lines=tuple(lines))

    def _enter_ledger(self, the_round: Round) -> tuple[Look, list[Look]]:
        search = self.search
        prepared = self.data.corpus.folder
        look = Look(
            at=datetime.now().astimezone().isoformat(timespec="seconds"),
            search_id=search.config["search_id"],
            round=the_round.number,
            manifest_hash=self.data.corpus.manifest_hash,
            splits=the_round.splits,
            emotions=self.data.emotions,
            finalists=tuple(candidate.name for candidate in the_round.candidates),
            seeds=the_round.seeds,
            forced=the_round.number > 1 and any(is_judged(one, search.folder) for one in read_rounds(search.folder)),
        )
        try:
            enter(search.folder, look)
        except OSError as error:
            raise UserError(
                f"{search.folder} cannot be written ({error.strerror}): nobody looks at test speakers without an entry "
                f"in the ledger. Mend it, then go on with --resume {search.folder}"
            ) from error
        try:
            enter(prepared, look)
        except OSError as error:
            self.console.print(
                f"note: {prepared} cannot be written ({error.strerror}), so other searches will not be told of this "
                "look at its test speakers",
                soft_wrap=True,
            )
        known = {(one.search_id, one.round): one for one in [*read_ledger(prepared), *read_ledger(search.folder)]}
        return look, earlier_looks(list(known.values()), look)

    def _export(
        self,
        the_round: Round,
        rows: list[JudgedRow],
        trials: Mapping[str, Mapping[int, StudyTrial]],
        board: list[dict[Any, Any]],
    ) -> None:
        """``best/`` becomes the winner's best training on the search's own split; checkpoints are no longer needed."""
        folder, own = self.search.folder, self.data.split.name
        best = best_training(the_round, rows, trials[own])
        if best is not None:
            winner = next(row for row in board if row["role"] == "finalist")
            judged = {key: value for key, value in winner.items() if str(key).startswith("test_")}
            export_bundle(
                self.search, best, the_round.trial_plan(self.plan, folder, own), self.resources,
                {"trial_id": winner["name"], "judged_on_test": True, "test": judged},
            )  # fmt: skip
        mark_judged(the_round, folder, rows)
        for split in the_round.splits:
            kept = the_round.split_folder(folder, split)
            for number in trials[split]:
                shutil.rmtree(checkpoint_file(kept, number).parent, ignore_errors=True)


def check_can_be_judged(data: TaskData) -> None:
    """Refuse finalists on a split whose test part is empty.

    Raises:
        UserError: naming the split
    """
    labels = data.corpus.labels(data.emotions)
    if not (labels[data.split.indices("test")] >= 0).any():
        raise UserError(
            f"--finalists: the split {data.split.name} has no test clips in the corpus {data.corpus.name}, so "
            "finalists cannot be judged. Choose a --split whose test speakers are there (e.g. --split "
            "speaker_kfold:5:1), or leave --finalists out."
        )


def is_pending(search: Search) -> bool:
    """Whether a finished search has still to train or judge finalists.

    Raises:
        UserError: a round's file is damaged
    """
    if not search.arguments.finalists:
        return False
    return search.arguments.force or not _is_last_judged(search.folder)


def _is_last_judged(folder: Path) -> bool:
    """Whether the last round of the search in *folder* was judged on test; not where there was none."""
    rounds = read_rounds(folder)
    return bool(rounds) and is_judged(rounds[-1], folder)


def check_not_judged(search: Search) -> None:
    """Refuse finalists that are asked for anew, where the search has looked at its test speakers.

    Raises:
        UserError: when it looked, and at whom
    """
    if search.arguments.force or not _is_last_judged(search.folder):
        return
    last = read_ledger(search.folder)[-1]
    raise UserError(
        f"the finalists of {search.folder} ({', '.join(last.finalists)}) were judged on test on {last.at}: see "
        f"{search.folder / 'finalists.md'}. Whoever looks again and chooses turns test speakers into validation "
        "speakers. --force looks again, and says so on the board."
    )
