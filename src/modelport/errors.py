"""The errors a user can meet.

    ModelportError
    ├── CheckpointError          trained weights cannot be read, or are not the weights that were asked for
    ├── ExportError              checkpoint to ONNX failed, or its result differs from PyTorch
    ├── DataError                images or labels are missing, unreadable or contradictory
    ├── EngineUnavailableError   the engine's runtime is not installed, or cannot run here
    ├── CompileError             ONNX to offline model failed
    │   ├── CompilerDiedError    because the compiler's process crashed
    │   └── CompilerTimeoutError because it took too long
    ├── InferenceError           an opened offline model failed, or was given the wrong input
    │   └── EngineDiedError      because the engine's process crashed or hung
    ├── FormatError              a file does not hold what its format promises
    ├── OutputError              a result cannot be written: it exists, or the place is not writable
    └── StoppedError             told to stop: what was done is kept, and the same command goes on from there

Every message is one line that says what failed, what was found, what is accepted and what to do. The command line prints
it on stderr and exits 1 (130 where it was told to stop); anything else that escapes is a bug and shows its traceback.
"""


class ModelportError(Exception):
    """Base of all errors that modelport raises on purpose."""


class CheckpointError(ModelportError):
    """Trained weights cannot be read, or are not the weights that were asked for."""


class ExportError(ModelportError):
    """Checkpoint to ONNX failed, or the exported graph does not compute what PyTorch computes."""


class DataError(ModelportError):
    """Images or labels are missing, unreadable or contradictory."""


class EngineUnavailableError(ModelportError):
    """The engine's runtime is not installed, or cannot run on this machine."""


class CompileError(ModelportError):
    """ONNX to offline model failed, or would have run in another precision than the one asked for."""


class CompilerDiedError(CompileError):
    """The compiler's process crashed."""


class CompilerTimeoutError(CompileError):
    """The compiler took too long and was ended."""


class InferenceError(ModelportError):
    """An opened offline model failed, was given the wrong input, or answered with something unusable."""


class EngineDiedError(InferenceError):
    """The engine's process crashed or hung."""


class FormatError(ModelportError):
    """A file does not hold what its format promises."""


class OutputError(ModelportError):
    """A result cannot be written: it exists already, or the place is not writable."""


class StoppedError(ModelportError):
    """A signal told the run to stop. What it had done is kept; the message says how to go on."""
