"""Weights: handles, the hub and its cache, safetensors, maps, lockfiles. No TensorFlow here."""
