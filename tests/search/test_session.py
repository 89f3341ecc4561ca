"""Whole searches on Ray."""
import time


def test_plain(knob_search, tmp_path):
    t=time.time()
    s = knob_search(tmp_path/"run", "--space", "plain")
    print(s.text, time.time()-t)
    assert s.code == 0
    t=time.time()
    s = knob_search(tmp_path/"run2", "--space", "faulty")
    print(s.text, time.time()-t)
    print((tmp_path/"run2-cache"/"loaded.txt").read_text())
    for k, tr in s.trials.items(): print(k, tr.outcome, tr.reason, len(tr.epochs))
