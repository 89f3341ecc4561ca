"""CREMA-D's known defects: which clips are left out although they decode, and why."""

import pandas as pd

from ser_data.duplicates import contradictory_labels

# File name in the release, and what it should be.
MISNAMED = {"1040_ITH_SAD_X": "1040_ITH_SAD_XX"}

# The release holds three recordings twice, under two emotions. Left: the copy that TensorFlow Datasets leaves out
# of its split (5,144/738/1,556 clips); right: the copy that is kept here and there.
WRONG_LABEL = {
    "1006_TIE_NEU_XX": "1006_TIE_HAP_XX",
    "1013_WSI_DIS_XX": "1013_WSI_SAD_XX",
    "1017_IWW_FEA_XX": "1017_IWW_ANG_XX",
}


def misnamed_reason(stem: str) -> str:
    """Reason for leaving a misnamed file out; "" for any other name."""
    if stem not in MISNAMED:
        return ""
    return f"misnamed: the release's name for {MISNAMED[stem]}, which tables and splits do not know by this name"


def label_conflicts(manifest: pd.DataFrame) -> dict[int, str]:
    """Reasons for leaving out clips that have the same audio under another emotion.

    A copy known to be wrong goes and its twin stays. It also goes where the twin is not there to compare, and stays
    where the twin is there and sounds different: then this is not the release's audio. Of any other pair both go.

    Args:
        manifest: rows of `ser_data.manifest`

    Returns:
        reason by row label of *manifest*
    """
    kept = manifest[manifest["excluded"] == ""]
    checksums = dict(zip(kept["clip"], kept["sha256"], strict=True))
    rows = {str(clip): int(str(index)) for index, clip in kept["clip"].items()}
    found: dict[int, str] = {}
    for wrong, twin in WRONG_LABEL.items():
        if wrong not in checksums:
            continue
        if twin not in checksums:
            found[rows[wrong]] = f"contradictory label: known to be the audio of {twin}, which is not here to compare"
        elif checksums[twin] == checksums[wrong]:
            found[rows[wrong]] = f"contradictory label: same audio as {twin}; this is the label known to be wrong"
    return found | contradictory_labels(kept.drop(index=list(found)))
