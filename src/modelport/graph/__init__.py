"""ONNX graphs: reading one as an image classifier, and (one file each) the passes that rewrite it."""

from .classifier import ClassifierGraph, read_classifier, write_spec

__all__ = ["ClassifierGraph", "read_classifier", "write_spec"]
