"""ONNX Runtime's providers for NVIDIA GPUs, CUDA and TensorRT: whether they are there, what they are told, batches through them.

Written from the runtime's documentation. What has no GPU, which is where it was written, tests the errors and, with the CPU in the
GPU's place, the binding.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np

from ..errors import CompileError, EngineUnavailableError, InferenceError
from ..offline import OfflineModel
from .session import Session

KINDS = ("cuda", "tensorrt")  # of CompileOptions.device
_CUDA, _TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
_NAMES = {"cuda": _CUDA, "tensorrt": _TENSORRT}
_LIBRARY = "libonnxruntime_providers_{kind}.so"
_NEEDS = {
    "cuda": "NVIDIA's driver, CUDA and cuDNN in the versions that it was built for",
    "tensorrt": "NVIDIA's driver, CUDA, cuDNN and TensorRT in the versions that it was built for",
}
_TOOL_S = 10.0


def require_provider(ort: ModuleType, kind: str) -> None:
    """Raise EngineUnavailableError where the installed runtime has no such provider, or cannot load it."""
    if _NAMES[kind] not in (offered := ort.get_available_providers()):
        raise EngineUnavailableError(
            f"ONNX Runtime {ort.__version__} here has no {_title(kind)} provider (it has {', '.join(offered)}): pip install "
            "onnxruntime-gpu in the place of onnxruntime"
        )
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(StringIO()):  # where it finds none it prints so; what is missing is told below
            ort.preload_dlls()  # CUDA and cuDNN from NVIDIA's packages, where pip installed them
    library = Path(ort.__file__).parent / "capi" / _LIBRARY.format(kind=kind)
    if not library.is_file():
        return  # another system's name; the session tells by itself
    try:
        ctypes.CDLL(str(library))
    except OSError as error:
        raise EngineUnavailableError(
            f"ONNX Runtime {ort.__version__} cannot load its {_title(kind)} provider: {error}; it needs {_NEEDS[kind]}"
        ) from error


def gpu_here(number: int = 0) -> dict[str, str]:
    """The GPU of this number as the manifest names it: name, architecture (such as sm_90), driver.

    Raises:
        EngineUnavailableError: there is none, or the driver's `nvidia-smi` does not say.
    """
    tool = shutil.which("nvidia-smi")
    if tool is None:
        raise EngineUnavailableError("there is no NVIDIA GPU here: the driver's nvidia-smi is not on the PATH")
    command = [tool, "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineUnavailableError(f"nvidia-smi cannot be asked for the GPU: {error}") from error
    cards = [[part.strip() for part in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]
    if answer.returncode != 0 or not cards or any(len(card) != 3 for card in cards):
        said = (answer.stderr or answer.stdout).strip().splitlines()[:1]
        raise EngineUnavailableError(f"nvidia-smi names no GPU: {said[0] if said else f'exit {answer.returncode}'}")
    if number >= len(cards):
        raise EngineUnavailableError(f"there is no GPU {number} here; nvidia-smi lists {len(cards)}, numbered from 0")
    name, capability, driver = cards[number]
    return {"name": name, "architecture": f"sm_{capability.replace('.', '')}", "driver": driver}


def require_same_gpu(model: OfflineModel, number: int) -> None:
    """Raise EngineUnavailableError where the GPU is of another architecture than the model was compiled for."""
    made, here = model.manifest.gpu, gpu_here(number)
    assert made is not None
    if made.architecture != here["architecture"]:
        raise EngineUnavailableError(
            f"{model.path}: was compiled for {made.architecture} ({made.name}), GPU {number} is {here['architecture']} "
            f"({here['name']}); compile it there"
        )


def kind_of(model: OfflineModel) -> str:
    """The provider of a compiled model."""
    if model.manifest.gpu is None:
        return "cpu"
    return "tensorrt" if model.manifest.settings.get("tensorrt") else "cuda"


def settings_of(kind: str) -> dict[str, bool]:
    """For the manifest. TensorRT may round float32 products to TF32, and the runtime has no word to forbid it."""
    return {"tensorrt": kind == "tensorrt", "tf32": kind == "tensorrt"}


def compile_on_gpu(ort: ModuleType, graph: Path, settings: Any, kind: str, target: Path) -> dict[str, str]:
    """Compile a graph of fixed shapes into the file `target`; returns the GPU that it is for.

    Raises:
        EngineUnavailableError: there is no GPU, or no such provider.
        CompileError: TensorRT left the graph to others.
        Exception: whatever the binding raises.
    """
    require_provider(ort, kind)
    gpu = gpu_here()
    if kind == "cuda":
        settings.optimized_model_filepath = str(target)
        create_on_gpu(ort, graph, settings, kind)
        return gpu
    # Its engine goes into the file itself, so that one digest covers all and nothing is looked for elsewhere.
    dump = {"trt_dump_ep_context_model": 1, "trt_ep_context_file_path": str(target), "trt_ep_context_embed_mode": 1}
    create_on_gpu(ort, graph, settings, kind, more=dump)
    require_engine_in(target)
    return gpu


def require_engine_in(path: Path) -> None:
    """Raise CompileError where a file that TensorRT should have written holds no engine of its."""
    import onnx

    kinds = {node.op_type for node in onnx.load(path).graph.node} if path.is_file() else set()
    if "EPContext" not in kinds:
        raise CompileError("TensorRT took no part of the graph; compile it with --device cuda")


def create_on_gpu(  # noqa: PLR0913
    ort: ModuleType, graph: Path, settings: Any, kind: str, number: int = 0, *, more: dict[str, Any] | None = None
) -> Any:
    """A session of which every operator runs on the GPU.

    Args:
        settings: the session's; they are changed so that nothing falls back to the processor.
        number: of the GPU.
        more: TensorRT's options.

    Raises:
        EngineUnavailableError: the provider silently gave way to another.
        Exception: whatever the binding raises.
    """
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    providers = [(_CUDA, {"device_id": number, "use_tf32": 0})]
    if kind == "tensorrt":
        providers.insert(0, (_TENSORRT, {"device_id": number, **(more or {})}))
    session = ort.InferenceSession(graph, settings, providers=providers, enable_fallback=0)
    require_executed(session.get_providers(), kind)
    return session


def require_executed(providers: list[str], kind: str) -> None:
    """Raise EngineUnavailableError where the session runs on another provider than the one asked for, which no error tells."""
    if not providers or providers[0] != _NAMES[kind]:
        raise EngineUnavailableError(
            f"ONNX Runtime was asked for its {_title(kind)} provider and runs on {', '.join(providers) or 'none'} without saying so; "
            f"it needs {_NEEDS[kind]}"
        )


class BoundSession(Session):
    """A session with inputs bound to the device, one for each batch at once; its copies are from page-locked memory where the
    runtime hands it out."""

    def __init__(self, model: OfflineModel, ort: ModuleType, session: Any, slots: int, device: tuple[str, int]) -> None:
        """`device` is the runtime's name of it, and its number."""
        super().__init__(str(model.path), model.tensors, slots)
        self._session = session
        self._free: SimpleQueue[_Binding] = SimpleQueue()
        for _ in range(slots):
            self._free.put(_Binding(ort, session, self, device))

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        binding = self._free.get()
        try:
            return binding.run(self._session, batch)
        except Exception as error:  # the binding raises a dozen unrelated classes
            said = str(error).strip().splitlines()
            raise InferenceError(
                f"{self.where}: ONNX Runtime failed: {said[0] if said else type(error).__name__}"
            ) from error
        finally:
            self._free.put(binding)

    def close(self) -> None:
        super().close()
        self._session, self._free = None, SimpleQueue()


class _Binding:
    """Memory of one batch on its way: on the host, and on the device."""

    def __init__(self, ort: ModuleType, session: Any, ends: Session, device: tuple[str, int]) -> None:
        shape, dtype = list(ends.input.shape), np.dtype(ends.input.dtype)
        kind, number = device
        self._host, self._owner = _page_locked(ort, shape, dtype, number)
        self._images = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, kind, number)
        self._io = session.io_binding()
        self._io.bind_ortvalue_input(ends.input.name, self._images)
        self._io.bind_output(ends.output.name, "cpu")

    def run(self, session: Any, batch: np.ndarray) -> np.ndarray:
        """Copy in, compute, copy out; the scores are the caller's own."""
        np.copyto(self._host, batch)
        self._images.update_inplace(self._host)
        session.run_with_iobinding(self._io)
        return np.array(self._io.copy_outputs_to_cpu()[0])


def _page_locked(ort: ModuleType, shape: list[int], dtype: np.dtype, number: int) -> tuple[np.ndarray, Any]:
    """Host memory that the GPU copies from by itself, and its owner; ordinary memory where this runtime hands none out."""
    try:
        cards = [device for device in ort.get_ep_devices() if device.ep_name == _CUDA]
        info = cards[number].memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE)
        owner = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, memory_info=info)
    except Exception:  # a part of the interface is not there in older versions
        return np.zeros(shape, dtype), None
    return view_of(owner, shape, dtype), owner


def view_of(value: Any, shape: list[int], dtype: np.dtype) -> np.ndarray:
    """An array over memory of the runtime's that the host may write to; valid as long as `value` lives."""
    bytes_ = (ctypes.c_uint8 * value.tensor_size_in_bytes()).from_address(value.data_ptr())
    return np.frombuffer(bytes_, dtype).reshape(shape)


def _title(kind: str) -> str:
    return {"cuda": "CUDA", "tensorrt": "TensorRT"}[kind]
