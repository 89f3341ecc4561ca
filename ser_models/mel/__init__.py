"""The mel-spectrogram family: CNN, parallel CNN, CRNN and autoencoder on log-mel energies."""
