"""ais_bench, the successor of the guide's benchmark tool: its Python class and its command, over any offline model.

from modelport.guide.ais_bench import InferSession     # was: from ais_bench.infer.interface import InferSession
"""

from .session import InferSession

__all__ = ["InferSession"]
