"""Generated speech in CREMA-D's naming and layout, for trying everything out without data and without a network.

`generate` writes about 770 short clips (16 voices of espeak-ng, 12 sentences, six emotions as prosody) within seconds.
The actors carry numbers of CREMA-D so that its splits apply; they are not the people of CREMA-D, and no claim of
accuracy may rest on this corpus. Every folder holds `MARKER_FILE`, by which preparation and boards know it.
"""

from sample_corpus.corpus import MARKER_FILE, NAME, folder_name, generate

__all__ = ["MARKER_FILE", "NAME", "folder_name", "generate"]
