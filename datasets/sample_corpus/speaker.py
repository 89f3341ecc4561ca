"""One actor's clips, in a process of their own: ``python -m sample_corpus.speaker`` with a request as JSON on stdin.

`sample_corpus.corpus` starts it. A process for each actor makes the bytes independent of how many run at once (see
`sample_corpus.espeak`).
"""

import json
import sys
import wave
from pathlib import Path

import numpy as np

from crema_d.naming import EMOTION_CODES, SENTENCES
from sample_corpus.acoustics import SAMPLE_RATE, record
from sample_corpus.cast import CAST, LEVELLED_SENTENCE, LEVELS, UNLEVELLED, Actor
from sample_corpus.espeak import Synthesiser
from sample_corpus.prosody import deliver
from ser_data.command import EXIT_USER_ERROR
from ser_data.errors import UserError
from ser_data.seeds import derive_seed


def planned_clips(actor: Actor, sentences: list[str], *, per_emotion: int, seed: int) -> list[str]:
    """Names of the clips an actor speaks, without suffix, in the order of speaking.

    Args:
        actor: who speaks
        sentences: codes to choose from
        per_emotion: how many of them the actor says with each emotion; which ones, is drawn
        seed: of the corpus
    """
    names = []
    for emotion in EMOTION_CODES:
        generator = np.random.default_rng(derive_seed(seed, "sample_corpus", actor.number, emotion))
        chosen = generator.permutation(len(sentences))[:per_emotion]
        level = LEVELS[int(generator.integers(len(LEVELS)))]
        for code in (sentences[index] for index in sorted(chosen.tolist())):
            levelled = code == LEVELLED_SENTENCE and emotion != "NEU"
            names.append(f"{actor.number}_{code}_{emotion}_{level if levelled else UNLEVELLED}")
    return names


def speak(actor: Actor, names: list[str], folder: Path, *, seed: int) -> None:
    """Write the clips called *names* as ``folder/NAME.wav``: mono, 16 bit, 16 kHz."""
    synthesiser = Synthesiser(f"en-us+{actor.variant}")
    for name in names:
        _, sentence, emotion, level = name.split("_")
        clip_seed = derive_seed(seed, "sample_corpus", name)
        generator = np.random.default_rng(clip_seed)
        delivery = deliver(actor, emotion, level, generator)
        voice = synthesiser.say(
            SENTENCES[sentence],
            words_per_minute=delivery.words_per_minute,
            pitch=delivery.pitch,
            pitch_range=delivery.pitch_range,
            seed=clip_seed,
        )
        samples = record(voice, synthesiser.rate, delivery, actor, generator)
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes(samples.astype("<i2").tobytes())


def main() -> int:
    """Read the request and speak; the caller reads the exit code and stderr."""
    request = json.load(sys.stdin)
    actor = next(actor for actor in CAST if actor.number == request["actor"])
    try:
        speak(actor, request["names"], Path(request["folder"]), seed=request["seed"])
    except (UserError, OSError) as error:
        print(error, file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
