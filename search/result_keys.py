"""Names of what a trial reports each epoch. Trial, rungs, sampler, board and tracker all read them from here."""

EPOCH = "epoch"
SCORE = "val_uar"  # unweighted average recall on validation speakers: what selects
METRICS = ("train_loss", "val_loss", SCORE, "val_accuracy", "val_macro_f1", "seconds", "clips_per_second")
HITS = "val_hits"  # correct clips per validation speaker and emotion, for the interval over speakers
NUM_PARAMETERS = "num_parameters"
