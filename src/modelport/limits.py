"""How large things from outside may be, checked before the library that reads them sees them.

Each is far above what real models and data sets need, and low enough that a file made to exhaust memory or time is a one-line
error. `docs/security.md` lists them.
"""

from __future__ import annotations

MIB = 1 << 20

# Images
IMAGE_BYTES = 256 * MIB  # of a file; Pillow's own limit on pixels (89 million) is 256 MiB as plain RGB
JPEG_SCANS = 100  # encoders write about ten; each is decoded over all pixels

# Documents
TEXT_BYTES = 512 * MIB  # JSON, CSV, labels, lists; the labels of 14 million images have about this size
LINE_CHARACTERS = 16_384  # of a label file or list: a path has at most 4,096 bytes
YAML_BYTES = 4 * MIB
YAML_DEPTH = 100  # of brackets
YAML_VALUES = 100_000  # with every alias written out
PATTERN_NAMES = 100_000  # that the braces of a pattern such as `{000000..099999}.tar` stand for
SCORES_BYTES = 64 * MIB  # one image's scores

# Models
ONNX_BYTES = (1 << 31) - 1  # protobuf's own limit; larger weights lie beside the file
ONNX_NODES = 500_000  # in the graph, in its subgraphs and functions together
ONNX_TENSORS = 500_000
ONNX_DEPTH = 16  # of graphs inside operators
INPUT_SIDE = 16_384  # pixels
CLASSES = 10_000_000
BATCH_BYTES = 16 << 30  # one batch of input
TENSOR_DIMENSIONS = 64
SAFETENSORS_HEADER_BYTES = 100 * MIB  # as the format's own reader has it
SAFETENSORS_TENSORS = 500_000
CHECKPOINT_MEMBERS = 500_000  # of a zip
CHECKPOINT_PICKLE_BYTES = 256 * MIB  # the part that is unpickled; the weights are other members
CHECKPOINT_EXPANSION = 4  # unpacked bytes for each byte of the file; PyTorch packs nothing
