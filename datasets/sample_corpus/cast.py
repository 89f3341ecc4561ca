"""Who speaks in the sample corpus, and what is said.

The actors carry numbers of CREMA-D so that its splits apply, but they are not the people of CREMA-D: each is a voice of
espeak-ng with habits of its own. The numbers are chosen so that `tfds` gives 10 / 3 / 3 of them to training, validation
and test, and `audeering` and every fold of `emo_superb` at least 9 / 3 / 3. The order matters: any first three or more
have somebody in each part of `tfds`.
"""

from dataclasses import dataclass

LEVELLED_SENTENCE = "IEO"  # as in CREMA-D, the only sentence said at three levels
LEVELS = ("LO", "MD", "HI")
UNLEVELLED = "XX"


@dataclass(frozen=True)
class Actor:
    """A voice and its habits.

    Attributes:
        number: a CREMA-D actor number, for the splits
        variant: espeak-ng voice variant
        sex: ``Male`` or ``Female``, as in CREMA-D's table
        age: years; made up
        words_per_minute: rate of neutral speech
        pitch: 0 to 100, of neutral speech; 50 is the variant's own
        pitch_range: 0 to 100, of neutral speech; 50 is the variant's own
        expressiveness: factor on every prosodic change
        level_db: loudness of neutral speech, RMS in dB re full scale
        tilt_db_per_octave: colour of the microphone
        noise_db: level of the room's noise, RMS in dB re full scale
    """

    number: str
    variant: str
    sex: str
    age: int
    words_per_minute: int
    pitch: int
    pitch_range: int
    expressiveness: float
    level_db: float
    tilt_db_per_octave: float
    noise_db: float


# number, variant, sex, age, words per minute, pitch, pitch range, expressiveness, level, tilt, noise
CAST = (
    Actor("1009", "f1", "Female", 24, 168, 48, 50, 1.00, -29.0, 0.0, -56.0),
    Actor("1015", "f4", "Female", 32, 176, 52, 46, 1.05, -30.0, 0.5, -54.0),
    Actor("1047", "m3", "Male", 22, 164, 50, 52, 0.95, -28.0, -0.5, -58.0),
    Actor("1011", "m1", "Male", 32, 172, 54, 48, 1.10, -27.5, 0.5, -54.0),
    Actor("1025", "f2", "Female", 48, 160, 44, 55, 0.90, -31.0, -0.5, -57.0),
    Actor("1029", "m2", "Male", 33, 182, 47, 44, 1.00, -30.5, 1.0, -52.0),
    Actor("1050", "m6", "Male", 62, 166, 49, 50, 1.00, -29.5, 0.0, -55.0),
    Actor("1065", "f3", "Female", 38, 178, 45, 50, 1.05, -28.5, 0.5, -56.0),
    Actor("1036", "f5", "Female", 49, 170, 50, 42, 1.15, -29.0, -1.0, -53.0),
    Actor("1051", "m4", "Male", 56, 158, 52, 54, 0.95, -28.0, 1.0, -59.0),
    Actor("1064", "Annie", "Female", 53, 174, 42, 48, 0.85, -30.0, 1.0, -56.0),
    Actor("1070", "linda", "Female", 25, 163, 44, 53, 0.95, -28.0, -0.5, -53.0),
    Actor("1084", "m7", "Male", 46, 175, 46, 46, 1.05, -30.0, 1.0, -54.0),
    Actor("1067", "Andy", "Male", 66, 162, 53, 46, 1.05, -31.0, 0.0, -54.0),
    Actor("1078", "belinda", "Female", 21, 184, 43, 52, 1.00, -29.5, 0.0, -57.0),
    Actor("1087", "pablo", "Male", 62, 170, 45, 50, 1.10, -27.0, -0.5, -55.0),
)
