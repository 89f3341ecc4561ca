"""Image backbones (ResNet, EfficientNet), pretrained on photographs, on spectrograms as images."""
