"""The options of `sweep` and `tune`: what to try, and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..natural import natural
from .shared import IMAGES, PRECISIONS, preprocess_options, read_preprocess
from .weights import read_weights, weights_options

if TYPE_CHECKING:
    from ..measure.sweep import SweepSpace
    from ..results import SweepSettings
    from ..spec import Preprocess

F = TypeVar("F", bound=Callable[..., Any])


def _list(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], tuple[Any, ...] | None]:
    """A callback that reads values with commas between."""

    def read(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Any, ...] | None:
        if value is None:
            return None
        try:
            found = tuple(kind(part.strip()) for part in value.split(","))
        except ValueError as error:
            raise click.BadParameter(f"{value!r}: {error}", param=parameter) from None
        if len(set(found)) < len(found):
            raise click.BadParameter(f"{value!r}: a value comes twice", param=parameter)
        return found

    return read


def _number(text: str) -> int:
    if not (number := natural(text)):
        raise ValueError("expected whole numbers from 1 with commas between, such as 1,4,8")
    return number


def _threads(text: str) -> int | None:
    return None if text == "auto" else _number(text)


def _precision(text: str) -> str:
    if text not in PRECISIONS:
        raise ValueError(f"expected some of {', '.join(PRECISIONS)} with commas between")
    return text


def _input(text: str) -> str:
    if text not in ("float32", "uint8"):
        raise ValueError("expected float32, uint8 or both with a comma between")
    return text


def _word(text: str) -> str:
    if not text:
        raise ValueError("expected names with commas between")
    return text


def space_options(command: F) -> F:
    """What to try and how, as parameters that `read_space` and `read_settings` understand."""
    seconds = click.FloatRange(min=0, min_open=True)
    for option in reversed(
        (
            click.option("--engines", callback=_list(_word), metavar="A,B", help="All that are installed if left out."),
            click.option("--precisions", callback=_list(_precision), default="f32,bf16", show_default=True, metavar="A,B",
                         help="Of each engine; what it does not offer is recorded as refused."),
            click.option("--batch-sizes", callback=_list(_number), default="1,4,8,16,32", show_default=True, metavar="N,N"),
            click.option("--streams", callback=_list(_number), default="1", show_default=True, metavar="N,N",
                         help="Batches run at once."),
            click.option("--threads", callback=_list(_threads), default="auto", show_default=True, metavar="N,N",
                         help="Cores in all; auto is the engine's choice."),
            click.option("--inputs", callback=_list(_input), default="float32", show_default=True, metavar="A,B",
                         help="uint8: the model normalises pixels itself."),
            click.option("--resolutions", callback=_list(_number), metavar="PX,PX",
                         help="Heights and widths of the input; for an ONNX file with a dynamic height and width."),
            click.option("--calibration", type=IMAGES, metavar="DIR", help="Images for int8, not those of evaluation."),
            click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True,
                         help="Trials of each configuration, interleaved."),
            click.option("--seconds", type=seconds, default=2.0, show_default=True, help="How long a trial measures."),
            click.option("--warmup", type=click.IntRange(min=0), default=3, show_default=True,
                         help="Batches before, not counted."),
            click.option("--trial-timeout", type=seconds, default=60.0, show_default=True, metavar="S",
                         help="Until a trial is ended and recorded as a time-out."),
            click.option("--compile-timeout", type=seconds, default=900.0, show_default=True, metavar="S",
                         help="Likewise a compilation."),
            click.option("--every-batch", is_flag=True, help="Try larger batches also where throughput has stopped growing."),
            click.option("--num-classes", type=click.IntRange(min=1), help="For an ONNX file that does not say."),
            weights_options,
            preprocess_options,
        )
    ):  # fmt: skip
        command = option(command)
    return command


def read_space(flags: dict[str, Any]) -> SweepSpace:
    """The space that the flags ask for."""
    from ..errors import EngineUnavailableError
    from ..measure.sweep import SweepSpace, installed_engines
    from ..spec import Precision

    weights = read_weights(flags)
    engines = flags["engines"] or installed_engines(pytorch=weights is not None)
    if not engines:
        raise EngineUnavailableError(
            "no engine's runtime is installed: pip install 'modelport[openvino]' or 'modelport[onnxruntime]'"
        )
    return SweepSpace(
        engines=engines,
        precisions=tuple(map(Precision, flags["precisions"])),
        batch_sizes=flags["batch_sizes"],
        streams=flags["streams"],
        threads=flags["threads"],
        inputs=flags["inputs"],
        resolutions=flags["resolutions"] or (None,),
        repeats=flags["repeats"],
        calibration=flags["calibration"],
        weights=weights,
    )


def read_settings(flags: dict[str, Any]) -> SweepSettings:
    """How trials are made."""
    from ..results import SweepSettings

    stop = {"saturation": None} if flags["every_batch"] else {}
    return SweepSettings(
        seconds=flags["seconds"],
        warmup=flags["warmup"],
        trial_timeout_s=flags["trial_timeout"],
        compile_timeout_s=flags["compile_timeout"],
        **stop,
    )


def read_model_flags(onnx: Path, flags: dict[str, Any]) -> dict[str, Preprocess | int | None]:
    """`preprocess` and `num_classes`."""
    from ..graph import read_classifier

    preprocess = read_preprocess(flags, read_classifier(onnx).default_preprocess)
    return {"preprocess": preprocess, "num_classes": flags["num_classes"]}
