"""What several subcommands share: option groups, printing a result, and progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..natural import natural

if TYPE_CHECKING:
    from rich.console import Console

    from ..progress import Progress
    from ..report.rows import Table
    from ..spec import Preprocess

F = TypeVar("F", bound=Callable[..., Any])

PRECISIONS = ("f32", "bf16", "fp16", "int8")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos")
PATH = click.Path(path_type=Path)
IMAGES_HELP = "Folder, class subfolders, .info or .txt list, tar or Parquet shards, a URL of these, or one image."
CLASS_NAMES_HELP = "Names of the classes: a line for each, from class 0; or JSON."
_BAR_AFTER_S = 1.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON document.")
force_option = click.option("--force", is_flag=True, help="Replace existing output of the same kind.")


class _Images(click.ParamType):
    """Where images are: a URL stays as it is written, all else is a path."""

    name = "images"

    def convert(self, value: Any, *_: Any) -> Path | str:
        from ..origin import location

        return location(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


IMAGES = _Images()


def session_options(command: F) -> F:
    """--streams, --threads and --devices."""
    command = click.option(
        "--devices",
        "--device",
        "devices",
        callback=device_numbers,
        default="0",
        show_default=True,
        metavar="N,N…",
        help="Devices of an accelerator, or as many equal parts of the processor's cores: a session on each, fed from one queue.",
    )(command)
    command = click.option(
        "--threads", type=click.IntRange(min=1), help="Cores in all; the engine's choice if left out."
    )(command)
    return click.option(
        "--streams",
        type=click.IntRange(min=1),
        help="Batches run at once on each device; if left out, infer runs one on each core and bench one in all.",
    )(command)


def cluster_options(command: F) -> F:
    """--on and what goes with it; the command gets them as `cluster`, None where the work is done here."""

    @wraps(command)
    def with_cluster(
        *args: Any,
        on: str,
        address: str | None,
        actors: int | None,
        actor_cores: int | None,
        actor_gpus: int,
        shard_images: int,
        **rest: Any,
    ) -> Any:
        from ..cluster.connection import ClusterOptions

        given = {"--address": address, "--actors": actors, "--actor-cores": actor_cores, "--actor-gpus": actor_gpus}
        if on == "here" and (named := [name for name, value in given.items() if value]):
            raise click.UsageError(f"{named[0]} is for --on ray")
        cluster = ClusterOptions(address=address, actors=actors, cores=actor_cores, gpus=actor_gpus, shard=shard_images)
        return command(*args, cluster=cluster if on == "ray" else None, **rest)

    for option in reversed(
        (
            click.option(
                "--on",
                type=click.Choice(["here", "ray"]),
                default="here",
                show_default=True,
                help="ray: shards of the images go to actors of a Ray cluster; the predictions are the same.",
            ),
            click.option(
                "--address",
                metavar="HOST:PORT",
                help="Head of the Ray cluster; left out, RAY_ADDRESS, or a cluster on this machine for this run.",
            ),
            click.option("--actors", type=click.IntRange(min=1), help="How many; as many as fit if left out."),
            click.option(
                "--actor-cores",
                type=click.IntRange(min=1),
                help="Cores of each; those of the smallest node if left out.",
            ),
            click.option("--actor-gpus", type=click.IntRange(min=0), default=0, help="GPUs of each."),
            click.option(
                "--shard-images",
                type=click.IntRange(min=1),
                default=1024,
                show_default=True,
                help="Images that are committed together, at most.",
            ),
        )
    ):
        with_cluster = option(with_cluster)
    return with_cluster  # type: ignore[return-value]


def device_numbers(_: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Numbers with commas between, such as `0,1,2,3`."""
    found = tuple(natural(part.strip()) for part in value.split(","))
    if None in found or len(set(found)) < len(found):
        raise click.BadParameter(f"{value!r}: expected different numbers from 0, such as 0 or 0,1,2,3", param=parameter)
    return found


def preprocess_options(command: F) -> F:
    """The flags that say how images are prepared."""
    for option in reversed(
        (
            click.option("--recipe", type=PATH, help="Take the preprocessing from this recipe."),
            click.option(
                "--preprocess",
                "preset",
                type=click.Choice(["imagenet"]),
                help="Crop 0.875, bilinear, ImageNet mean and std.",
            ),
            click.option(
                "--input-size", type=click.IntRange(min=1), metavar="PX", help="Height and width of the input."
            ),
            click.option("--crop-pct", type=float, help="Crop size ÷ resize size."),
            click.option("--crop-mode", type=click.Choice(["center", "squash"]), help="Keep the aspect, or squash it."),
            click.option("--interpolation", type=click.Choice(INTERPOLATIONS), help="Filter of the resize."),
            click.option("--mean", metavar="R,G,B", help="Per channel, on 0…1."),
            click.option("--std", metavar="R,G,B", help="Per channel, on 0…1."),
            click.option("--color-order", type=click.Choice(["RGB", "BGR"]), help="Channel order of the input."),
        )
    ):
        command = option(command)
    return command


def read_preprocess(flags: dict[str, Any], base: Preprocess | None) -> Preprocess | None:
    """The Preprocess that the flags ask for.

    Args:
        flags: values of `preprocess_options` by parameter name.
        base: what single flags change: the model's own; None where it has none.

    Returns:
        None where no flag was given.
    """
    from ..recipe import Recipe
    from ..spec import Preprocess

    recipe, preset, size = flags["recipe"], flags["preset"], flags["input_size"]
    single = {
        key: flags[key] for key in ("crop_pct", "crop_mode", "interpolation", "color_order") if flags[key] is not None
    }
    single |= {key: _numbers(key, flags[key]) for key in ("mean", "std") if flags[key] is not None}
    given: dict[str, Any] = base.jsonable() if base is not None else {}
    if recipe is not None:
        stated = Recipe.load(recipe).preprocess
        given = stated.jsonable() if stated is not None else given
    elif not (preset or single or size):
        return None
    if preset:
        channels = given.get("input_size", [3, 224, 224])
        given = {"input_size": channels}
    if size:
        given["input_size"] = [given.get("input_size", [3])[0], size, size]
    given |= single
    return Preprocess.parse({"input_size": [3, 224, 224], **given}, "preprocessing flags") if given else None


def _numbers(name: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected numbers with commas between, such as 0.485,0.456,0.406", param_hint=f"--{name}"
        ) from None


def emit(document: Any, as_json: bool, *tables: Table | None) -> None:
    """Print a result on stdout: the JSON document, or tables."""
    if as_json:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    from ..report.terminal import show

    out = console()
    for table in tables:
        if table is not None:
            show(out, table)


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; wide enough for every table where there is none."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160, highlight=False)


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar on stderr for work over a second; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console(stderr=True), transient=True)
    since: dict[str, float] = {}
    tasks: dict[str, Any] = {}

    def update(what: str, done: int, total: int) -> None:
        begun = since.setdefault(what, monotonic())
        if what not in tasks:
            if monotonic() - begun < _BAR_AFTER_S or done == total:
                return
            if not bar.live.is_started:
                bar.start()
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, visible=done < total)

    try:
        yield update
    finally:
        bar.stop()
