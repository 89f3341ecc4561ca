"""Pretrained networks of any kind: where their weights come from, and whether they are whole."""
