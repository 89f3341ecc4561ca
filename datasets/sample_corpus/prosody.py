"""How an emotion sounds here: rate, pitch, range, loudness, tilt, tremor, breath.

The means below follow what is commonly reported of acted emotional speech (anger loud, fast and bright; sadness slow,
quiet, flat and dull; fear high and trembling; happiness high and lively; disgust slow, low and creaky). The spread
around them is large on purpose: neighbouring emotions overlap, as they do in real speech.
"""

from dataclasses import dataclass

import numpy as np

from sample_corpus.cast import Actor

LEVEL_STRENGTH = {"LO": 0.6, "MD": 1.0, "HI": 1.4, "XX": 1.0}  # by code of level in a clip's name


@dataclass(frozen=True)
class Style:
    """Mean change of an emotion against neutral speech, at strength 1.

    Attributes:
        rate: change of words per minute, as a fraction
        pitch: change of espeak-ng's pitch, in its steps of 0 to 100
        pitch_range: change of espeak-ng's pitch range, in its steps of 0 to 100
        level_db: change of loudness
        tilt_db_per_octave: change of brightness
        tremor: depth of an amplitude modulation at 5 to 8 Hz, 0 to 1
        creak: depth of an amplitude modulation at 25 to 40 Hz, 0 to 1
        breath: RMS of breath noise that follows the voice's envelope, as a fraction of the voice's RMS
    """

    rate: float = 0.0
    pitch: float = 0.0
    pitch_range: float = 0.0
    level_db: float = 0.0
    tilt_db_per_octave: float = 0.0
    tremor: float = 0.0
    creak: float = 0.0
    breath: float = 0.0


STYLES = {  # by code of emotion in a clip's name
    "ANG": Style(rate=0.10, pitch=5, pitch_range=16, level_db=5.5, tilt_db_per_octave=2.4),
    "DIS": Style(rate=-0.18, pitch=-9, pitch_range=4, level_db=-2.0, tilt_db_per_octave=-1.0, creak=0.65),
    "FEA": Style(rate=0.14, pitch=17, pitch_range=-10, level_db=0.0, tilt_db_per_octave=0.7, tremor=0.4, breath=0.14),
    "HAP": Style(rate=0.06, pitch=13, pitch_range=24, level_db=3.0, tilt_db_per_octave=0.3),
    "NEU": Style(),
    "SAD": Style(rate=-0.18, pitch=-4, pitch_range=-20, level_db=-5.0, tilt_db_per_octave=-1.8, breath=0.12),
}

# Standard deviations around the means: of one clip, whatever its emotion.
_STRENGTH_SPREAD = 0.25  # of the logarithm of the strength
_SPREAD = Style(
    rate=0.05, pitch=3.5, pitch_range=5.0, level_db=1.3, tilt_db_per_octave=0.5, tremor=0.08, creak=0.08, breath=0.03
)


@dataclass(frozen=True)
class Delivery:
    """How one clip is spoken, in absolute terms; units as in `Actor` and `Style`."""

    words_per_minute: int
    pitch: int
    pitch_range: int
    level_db: float
    tilt_db_per_octave: float
    tremor: float
    tremor_hz: float
    creak: float
    creak_hz: float
    breath: float


def deliver(actor: Actor, emotion: str, level: str, generator: np.random.Generator) -> Delivery:
    """Draw how *actor* says one sentence.

    Args:
        actor: the voice and its habits
        emotion: key of `STYLES`
        level: key of `LEVEL_STRENGTH`
        generator: of this clip alone
    """
    style = STYLES[emotion]
    strength = actor.expressiveness * LEVEL_STRENGTH[level] * float(np.exp(_STRENGTH_SPREAD * generator.normal()))

    def change(field: str) -> float:
        return float(strength * getattr(style, field) + getattr(_SPREAD, field) * generator.normal())

    return Delivery(
        words_per_minute=round(_within(actor.words_per_minute * (1 + change("rate")), 90, 300)),
        pitch=round(_within(actor.pitch + change("pitch"), 0, 100)),
        pitch_range=round(_within(actor.pitch_range + change("pitch_range"), 0, 100)),
        level_db=_within(actor.level_db + change("level_db"), -44.0, -16.0),
        tilt_db_per_octave=actor.tilt_db_per_octave + change("tilt_db_per_octave"),
        tremor=_within(change("tremor"), 0.0, 0.8),
        tremor_hz=generator.uniform(5.0, 8.0),
        creak=_within(change("creak"), 0.0, 0.8),
        creak_hz=generator.uniform(25.0, 40.0),
        breath=_within(change("breath"), 0.0, 0.4),
    )


def _within(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)
