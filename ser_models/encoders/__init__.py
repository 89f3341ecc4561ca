"""Pretrained speech encoders: wav2vec 2.0, HuBERT, WavLM, data2vec-audio and Whisper's, frozen below, trained above."""
