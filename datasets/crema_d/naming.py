"""CREMA-D's file names: ``ACTOR_SENTENCE_EMOTION_LEVEL``, e.g. ``1001_DFA_ANG_XX``."""

import re
from dataclasses import dataclass

EMOTION_CODES = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
VOTE_CODES = {code[0]: emotion for code, emotion in EMOTION_CODES.items()}  # as the table of crowd votes writes them
SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
LEVELS = ("LO", "MD", "HI", "XX")  # low, medium, high; XX where the actor was given none (all sentences but IEO)

EXAMPLE = "1001_DFA_ANG_XX"
_NAME = re.compile(
    rf"(?P<actor>\d{{4}})_(?P<sentence>{'|'.join(SENTENCES)})_(?P<emotion>{'|'.join(EMOTION_CODES)})"
    rf"_(?P<level>{'|'.join(LEVELS)})"
)


@dataclass(frozen=True)
class ClipName:
    """What a clip's name says: actor number, sentence code, emotion spelled out, level code."""

    actor: str
    sentence: str
    emotion: str
    level: str


def parse_name(stem: str) -> ClipName | None:
    """Read a file name without its suffix; None if it is none of CREMA-D's.

    >>> parse_name("1001_DFA_ANG_XX")
    ClipName(actor='1001', sentence='DFA', emotion='anger', level='XX')
    >>> parse_name("03a01Fa") is None
    True
    """
    match = _NAME.fullmatch(stem)
    if match is None:
        return None
    return ClipName(match["actor"], match["sentence"], EMOTION_CODES[match["emotion"]], match["level"])
