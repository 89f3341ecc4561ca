"""CREMA-D: 91 actors, 12 sentences, six emotions (Cao et al. 2014): its names, defects, splits and preparation."""

from pathlib import Path

EMOTIONS = ("anger", "disgust", "fear", "happy", "neutral", "sad")  # label order, here and in every bundle
SPLITS_FOLDER = Path(__file__).parent / "splits"
