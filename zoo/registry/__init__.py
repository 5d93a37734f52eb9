"""The registry: architectures and pretrained cards, as data. No TensorFlow here."""
