"""Checkpoint to ONNX: loading trained weights safely, exporting, and proving that the file computes the same."""

from .export import ExportOptions, ExportResult, export

__all__ = ["ExportOptions", "ExportResult", "export"]
