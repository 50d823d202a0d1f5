"""Bare-array kernels; the only place that compiles."""
