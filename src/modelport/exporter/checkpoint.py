"""Trained weights into a timm network: read without running their code, checked key by key."""

from __future__ import annotations

import difflib
import pickle
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import files
from ..errors import CheckpointError, EngineUnavailableError
from ..spec import Interpolation, Preprocess
from .precheck import refuse_hostile

SUFFIXES = (".pth", ".pt", ".tar", ".bin", ".ckpt", ".safetensors")


def runtime() -> ModuleType:
    """The timm package.

    Raises:
        EngineUnavailableError: timm or torch is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # third parties' notices to each other while they are imported
            import timm
    except ImportError as error:
        raise EngineUnavailableError(
            f"reading a checkpoint needs PyTorch and timm ({error}): pip install 'modelport[export]'"
        ) from error
    return timm


def build_network(arch: str, num_classes: int | None, input_size: tuple[int, int, int] | None) -> Any:
    """A timm network with random weights, always the same ones, in evaluation mode.

    Args:
        arch: timm's architecture name.
        num_classes: width of the output; None takes timm's default for the architecture.
        input_size: channels, height, width; None takes timm's default.

    Raises:
        CheckpointError: timm knows no such architecture, or it cannot be built for this size.
    """
    timm = runtime()
    if not timm.is_model(arch.partition(".")[0]):
        close = difflib.get_close_matches(arch, timm.list_models(), n=3)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists them"
        raise CheckpointError(f"timm {timm.__version__} has no architecture {arch!r}; {hint}")
    import torch

    settings: dict[str, Any] = {"pretrained": False}
    if num_classes is not None:
        settings["num_classes"] = num_classes
    try:
        settings |= _size_settings(timm.get_pretrained_cfg(arch), input_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return timm.create_model(arch, **settings).eval()
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"timm cannot build {arch} with {settings}: {error}") from error


def _size_settings(config: Any, input_size: tuple[int, int, int] | None) -> dict[str, Any]:
    """What `timm.create_model` must be told where the input is not the architecture's usual one."""
    if input_size is None:
        return {}
    settings: dict[str, Any] = {} if input_size[0] == 3 else {"in_chans": input_size[0]}
    if config is not None and config.fixed_input_size and tuple(config.input_size) != input_size:
        settings["img_size"] = input_size[1:]
    return settings


def default_preprocess(network: Any) -> Preprocess:
    """The preprocessing that timm gives the network by default."""
    config = runtime().data.resolve_model_data_config(network)
    known = [item.value for item in Interpolation]
    mode = config["crop_mode"] if config["crop_mode"] in ("center", "squash") else "center"
    return Preprocess(
        input_size=tuple(config["input_size"]),
        crop_pct=config["crop_pct"],
        crop_mode=mode,
        interpolation=config["interpolation"] if config["interpolation"] in known else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def load_weights(network: Any, checkpoint: Path, pins: dict[str, str]) -> str:
    """Load a checkpoint into the network; every key must fit.

    Args:
        network: from `build_network`.
        checkpoint: `.pth`, `.pt` or `.safetensors`; a training checkpoint is unwrapped (`state_dict`, `model`, EMA
            weights first, `module.` prefixes).
        pins: expected digests by algorithm, such as `{"md5": "9a12…"}`.

    Returns:
        sha256 of the file.

    Raises:
        CheckpointError: missing, not a checkpoint, would run code, another digest, or keys that do not fit.
    """
    checkpoint = _existing(checkpoint)
    for algorithm, expected in pins.items():
        actual = files.digest(checkpoint, algorithm)
        if actual != expected.lower():
            raise CheckpointError(
                f"{checkpoint}: {algorithm} is {actual}, pinned is {expected}: not the weights that were asked for, or damaged"
            )
    _fit(network, read_state(checkpoint), checkpoint)
    return files.digest(checkpoint)


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by name, unwrapped by timm; nothing in the file is ever executed."""
    timm = runtime()
    import torch

    checkpoint = _existing(checkpoint)
    if checkpoint.suffix not in SUFFIXES:
        raise CheckpointError(
            f"{checkpoint}: is no kind of checkpoint that is read here; accepted: {', '.join(SUFFIXES)}"
        )
    refuse_hostile(checkpoint)
    try:
        state = timm.models.load_state_dict(str(checkpoint), use_ema=True, device="cpu", weights_only=True)
    except Exception as error:  # torch, safetensors and timm's wrapping of both raise many classes for a damaged file
        raise CheckpointError(f"{checkpoint}: {_why_unreadable(error, checkpoint)}") from error
    tensors = isinstance(state, dict) and state and all(isinstance(value, torch.Tensor) for value in state.values())
    if not tensors:
        raise CheckpointError(f"{checkpoint}: holds no state_dict (a mapping of names to tensors)")
    return state


def _existing(checkpoint: Path | str) -> Path:
    path = Path(checkpoint)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file; --random-weights serves where only speed is asked")
    return path


def _fit(network: Any, state: dict[str, Any], checkpoint: Path) -> None:
    """Load with every key accounted for, and say which are not."""
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    shaped = [
        f"{key} {_show(state[key])} instead of {_show(wanted[key])}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or unexpected or shaped:
        parts = [
            f"{len(found)} {what} ({_some(found)})"
            for what, found in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shaped))
            if found
        ]
        hint = "is --arch right?" if missing or unexpected else "is --num-classes right?"
        raise CheckpointError(f"{checkpoint}: does not fit {type(network).__name__}: {', '.join(parts)}; {hint}")
    network.load_state_dict(state, strict=False)


def _some(items: Iterable[str]) -> str:
    items = list(items)
    return ", ".join(items[:3]) + (", …" if len(items) > 3 else "")


def _show(tensor: Any) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _why_unreadable(error: BaseException, checkpoint: Path) -> str:
    """What is wrong with a checkpoint, from torch's error or the one that timm wrapped."""
    cause = error.__cause__ if isinstance(error.__cause__, pickle.UnpicklingError) else error
    named = re.search(r"[Uu]nsupported (?:global|class)[^:]*: (?:GLOBAL )?`?([\w.]+)`?", str(cause))
    pickled = named or "legacy" in str(cause) or "global" in str(cause).lower()
    if isinstance(cause, pickle.UnpicklingError) and pickled and "Unsupported operand" not in str(cause):
        found = named[1] if named else "pickled objects"
        return (
            f"holds Python objects besides tensors ({found}); loading them could run code, so it is refused. "
            "Save only its state_dict, or convert it to .safetensors, where you trust it"
        )
    reason = "" if isinstance(cause, KeyError | pickle.UnpicklingError) else f"; {_first_line(cause)}"
    with open(checkpoint, "rb") as file:
        return f"is not a whole PyTorch or safetensors checkpoint (begins with {file.read(16)!r}{reason})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


def classes_of(arch: str, checkpoint: Path) -> int:
    """Number of classes of a checkpoint, from the shape of its classifier's bias or weight.

    Raises:
        CheckpointError: the checkpoint cannot be read, or has no classifier under the architecture's name for it.
    """
    network = build_network(arch, None, None)
    name = network.pretrained_cfg.get("classifier")
    state = read_state(checkpoint)
    weight = state.get(f"{name}.weight") if isinstance(name, str) else None
    if weight is None:
        raise CheckpointError(
            f"{checkpoint}: has no {name}.weight, so it does not fit {arch}; is it another network's?"
        )
    return int(weight.shape[0])
