"""espeak-ng through ctypes: text in, samples out.

The library keeps state between calls (the phase of a voice's flutter, for one), and draws noise from C's ``rand()``.
So a clip depends on what the process said before it. Equal bytes need a fresh process, the same calls in the same
order, and a seed before each call; `sample_corpus.speaker` gives every actor a process of its own.
"""

import ctypes
import importlib.util
from typing import Any

import numpy as np

from ser_data.errors import UserError

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: samples go to the callback, and a call returns when all are there
_UTF8_NO_PAUSE_FLAGS = 1  # espeakCHARS_UTF8, without espeakENDPAUSE
_RATE, _VOLUME, _PITCH, _PITCH_RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def require_espeak() -> None:
    """Raise UserError unless the package that brings espeak-ng is installed."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise UserError(
            "generated speech needs espeak-ng, and the package espeakng-loader is not installed. Install it with "
            "`pip install espeakng-loader` or as the extra `sample` of this project; `make search` does so by itself."
        )


class Synthesiser:
    """One voice of espeak-ng. Make one per process."""

    def __init__(self, voice: str) -> None:
        """Load the library and choose a voice.

        Args:
            voice: language and variant, e.g. ``en-us+f3``

        Raises:
            UserError: espeak-ng is missing, too old to be seeded, or lacks the voice
        """
        require_espeak()
        import espeakng_loader

        try:
            self._library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
            self._library.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
        except (OSError, AttributeError) as error:
            raise UserError(
                f"espeak-ng of the package espeakng-loader cannot be used ({error}). Version 1.52 or later is needed: "
                "`pip install --upgrade espeakng-loader`."
            ) from error
        self._chunks: list[np.ndarray] = []
        self._callback = _CALLBACK(self._collect)  # kept here: ctypes does not keep it, and C would call freed memory
        self.rate: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        """Samples per second of what `say` returns."""
        self._library.espeak_SetSynthCallback(self._callback)
        if self.rate <= 0 or self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise UserError(
                f"espeak-ng has no voice {voice!r}. Reinstall it: `pip install --force-reinstall espeakng-loader`."
            )

    def say(self, text: str, *, words_per_minute: int, pitch: int, pitch_range: int, seed: int) -> np.ndarray:
        """Speak one sentence.

        Args:
            text: English
            words_per_minute: 80 to 450
            pitch: 0 to 100, 50 being the voice's own
            pitch_range: 0 (monotone) to 100, 50 being the voice's own
            seed: of the noise in breath and consonants

        Returns:
            float32 in [-1, 1), shape ``(num_samples,)``, at `rate` samples per second
        """
        self._chunks.clear()
        self._library.espeak_ng_SetRandSeed(seed)
        settings = {_RATE: words_per_minute, _VOLUME: 100, _PITCH: pitch, _PITCH_RANGE: pitch_range}
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, value, 0)
        data = text.encode()
        status = self._library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8_NO_PAUSE_FLAGS, None, None)
        if status != 0 or not self._chunks:
            raise RuntimeError(f"espeak-ng returned status {status} and {len(self._chunks)} chunks for {text!r}")
        return np.concatenate(self._chunks).astype(np.float32) / 32768

    def _collect(self, samples: Any, count: int, _events: Any) -> int:
        if samples and count > 0:
            self._chunks.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0
