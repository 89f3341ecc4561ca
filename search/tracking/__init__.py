"""A search as a Weights & Biases sweep: brought up to date with the record, without anybody waiting."""
