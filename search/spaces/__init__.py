"""The search spaces, one file each: ``--space NAME`` is ``NAME.py`` here."""
