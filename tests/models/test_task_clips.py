"""A few clips of a task: from all over it, with the longest."""

import numpy as np
import pytest

from ser_models.task import Task
from ser_models.task_clips import open_task


@pytest.mark.parametrize("number", [1, 4, 12, 1000])
def test_a_few_clips_have_the_longest_among_them_since_memory_goes_with_it(task: Task, number: int) -> None:
    clips = open_task(task)
    few = clips.few(number)
    lengths = clips.corpus.waveforms.num_samples
    for all_of_them, chosen in ((clips.train, few.train), (clips.validation, few.validation)):
        assert lengths[chosen].max() == lengths[all_of_them].max()
        assert len(np.unique(chosen)) == len(chosen) == min(number, len(all_of_them))
        assert np.isin(chosen, all_of_them).all()
    assert len(np.unique(clips.speakers[few.train])) == min(number, 5)
