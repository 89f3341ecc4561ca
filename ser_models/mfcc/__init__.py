"""The MFCC family: statistics + MLP, BiLSTM, CNN, CRNN and CRNN with attention on cepstral or hybrid features."""
