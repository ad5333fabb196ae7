"""Weights as their files have them → whether they lie on a quantization grid, and how sure."""
