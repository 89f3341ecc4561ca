"""Names of what a trial reports each epoch. Trial, rungs, sampler, board and tracker all read them from here."""

EPOCH = "epoch"
SCORE = "val_uar"  # unweighted average recall on validation speakers: what selects
BEST_SCORE = f"best_{SCORE}"  # the best so far, as W&B shows it
METRICS = ("train_loss", "val_loss", SCORE, "val_accuracy", "val_macro_f1", "seconds", "clips_per_second")
HITS = "val_hits"  # correct clips per validation speaker and emotion, for the interval over speakers
NUM_PARAMETERS = "num_parameters"
EXTRAS = "extras"  # what else an epoch measured, as [name, value] pairs; keys of the report once it is checked
ROC_AUC = "val_roc_auc"  # an extra of tasks with two emotions
RECONSTRUCTION = "val_reconstruction"  # an extra of autoencoders
FACTS = "facts"  # what a trial says of itself, as [name, value] pairs; keys of the report once it is checked
PRECISION = "precision"  # a fact: of an encoder's arithmetic
TRAINED_PARAMETERS = "trained_parameters"  # a fact: numbers that training changed, where others were frozen
