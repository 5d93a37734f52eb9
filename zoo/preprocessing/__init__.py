"""Preprocessing: the spec, the host path on Pillow and the graph path on TensorFlow."""
