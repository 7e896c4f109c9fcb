"""What the reports say, as tables of text, whatever they are rendered to: every table is computed here once."""

from .correctness import accuracy, bad_images, confused, denominator, gates, matrix, paired, worst_classes
from .machine import environment, hygiene, preprocessing
from .overview import gate_word, summary, verdict
from .speed import bench_table, by_batch, devices_table, performance, stages, three_speeds
from .table import Table, percent

__all__ = [
    "Table",
    "accuracy",
    "bad_images",
    "bench_table",
    "by_batch",
    "confused",
    "denominator",
    "devices_table",
    "environment",
    "gate_word",
    "gates",
    "hygiene",
    "matrix",
    "paired",
    "percent",
    "performance",
    "preprocessing",
    "stages",
    "summary",
    "three_speeds",
    "verdict",
    "worst_classes",
]
