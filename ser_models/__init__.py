"""Networks and how one is trained. Nothing here knows of a search: no Ray, no Optuna, no W&B."""
