"""Weights: handles, the hub and its cache, safetensors files, maps, lockfiles. No TensorFlow here."""
