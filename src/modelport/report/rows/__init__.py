"""What the reports say, as tables of text, whatever they are rendered to: every table is computed here once."""

from .correctness import accuracy, bad_images, confused, denominator, gates, matrix, paired, worst_classes
from .machine import environment, hygiene, preprocessing
from .overview import disturbed, outcome, summary, verdict
from .speed import bench_table, by_batch, devices_table, latencies, performance, stages, three_speeds
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
    "disturbed",
    "environment",
    "gates",
    "hygiene",
    "latencies",
    "matrix",
    "outcome",
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
