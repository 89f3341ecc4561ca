"""Any emotion corpus: manifest, packed waveforms, splits, features, augmentation, batches."""
