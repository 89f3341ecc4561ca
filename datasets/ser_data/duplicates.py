"""Clips with the same audio and different emotions: one of the labels must be wrong."""

import pandas as pd


def contradictory_labels(manifest: pd.DataFrame) -> dict[int, str]:
    """Reasons for leaving out clips whose audio another clip has under another emotion.

    Nothing tells which label is right, so all of them go. Copies under one emotion stay: they harm only across the
    parts of a split, and there they stop the search by name.

    Args:
        manifest: rows of `ser_data.manifest`; only those kept so far count

    Returns:
        reason by row label of *manifest*
    """
    kept = manifest[(manifest["excluded"] == "") & (manifest["sha256"] != "")]
    conflicting = kept[kept.groupby("sha256")["emotion"].transform("nunique") > 1]
    found: dict[int, str] = {}
    for _, group in conflicting.groupby("sha256"):
        for index, emotion in group["emotion"].items():
            others = group.loc[group["emotion"] != emotion, ["clip", "emotion"]]
            twins = ", ".join(f"{clip} ({label})" for clip, label in others.itertuples(index=False))
            found[int(str(index))] = f"contradictory label: same audio as {twins}; which label is right is not known"
    return found
