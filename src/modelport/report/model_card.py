"""The model card: what was done and measured, as Markdown in the order of the reference guide's chapters."""

from __future__ import annotations

from ..results import ReferenceAccuracy, RunResult, TargetResult
from . import inside, rows
from .diff import diff_verdict
from .markdown import commands, fenced, table, text, titled
from .optimization import optimization_verdict
from .profile import profile_verdict

_TOOLS = (
    "`modelport infer` classifies the images from file on disk to TopN: its figures count. `modelport bench` runs one prepared batch "
    "again and again (pure inference): a quick look, and the figures of the other batch sizes."
)


def render_model_card(result: RunResult) -> str:
    """Seven chapters: overview, environment, conversion, data set, inference, accuracy, performance."""
    chapters = (_overview, _environment, _conversion, _data, _inference, _accuracy, _performance)
    parts = [
        f"# {text(result.model.arch)}: model card",
        f"{text(rows.verdict(result))}. Run {text(result.name)}, {result.started}.",
    ]
    for chapter in chapters:
        parts += chapter(result)
    return "\n\n".join(part for part in parts if part) + "\n"


def _overview(result: RunResult) -> list[str]:
    spec = result.model
    weights = (
        f"weights with sha256 `{spec.checkpoint_sha256}`"
        if spec.checkpoint_sha256
        else "random weights, or an ONNX file"
    )
    timm = result.environment.packages.get("timm")
    code = f"{text(spec.arch)} of timm {text(timm)}" if timm and spec.checkpoint_sha256 else text(spec.arch)
    return [
        "## 1 Model overview",
        "### 1.1 Paper and published figures",
        _published(result),
        "### 1.2 Code and weights",
        f"{code}, {spec.num_classes:,} classes; {weights}.",
    ]


def _published(result: RunResult) -> str:
    found = [each for each in (result.recorded, *result.information) if each]
    return "\n".join(f"- {text(each.source)}: {_top(each)}" for each in found) or "The recipe records none."


def _top(each: ReferenceAccuracy) -> str:
    return f"top-1 {each.top1:g} %" + (f", top-5 {each.top5:g} %" if each.top5 is not None else "")


def _environment(result: RunResult) -> list[str]:
    env = result.environment
    engines = dict.fromkeys(f"{target.engine} {target.engine_version}" for target in result.targets)
    packages = "\n".join(f"{name} == {version}" for name, version in env.packages.items())
    hardware = f"{text(env.cpu)}, {env.cores} cores, {env.memory_bytes / 2**30:.0f} GiB; {text(env.system)}, {text(env.machine)}."
    return [
        "## 2 Environment",
        "### 2.1 Engines and hardware",
        f"{text(', '.join(engines))}. {hardware}",
        "### 2.2 Python packages",
        fenced(f"modelport == {env.modelport}\nPython == {env.python}\n{packages}"),
    ]


def _conversion(result: RunResult) -> list[str]:
    parity = result.export_parity
    proof = "It was given, not exported."
    if parity:
        proof = (
            f"Against {text(parity.against)} on {parity.samples} samples its scores differ by at most {parity.max_abs_error:.2e} "
            f"({parity.relative_error:.1e} of the largest)."
        )
    made = [command for command in result.commands if command.part == "model"]
    export = [command for command in made if command.line.startswith("modelport export")]
    rewrites = [
        f"- {text(target.name)}: {text(optimization_verdict(target.optimization))}"
        for target in result.targets
        if target.optimization
    ]
    quantised = [
        f"- {text(target.name)}: quantised by {text(target.calibration)}"
        for target in result.targets
        if target.calibration
    ]
    runs = [
        f"- {text(target.name)}: {text(target.engine)} {text(target.engine_version)}, runs in {text(target.runs_in)}"
        for target in result.targets
    ]
    return [
        "## 3 Model conversion",
        "### 3.1 Checkpoint to ONNX",
        f"Opset {result.opset}, sha256 `{result.onnx_sha256}`. {proof}",
        commands(export),
        "### 3.2 ONNX to offline models",
        "\n".join([*runs, *quantised, *rewrites]),
        commands(command for command in made if command not in export),
    ]


def _data(result: RunResult) -> list[str]:
    pre, first, words = result.preprocess, result.targets[0], text(rows.preprocessing(result))
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (pre.mean, pre.std))
    labelled = rows.denominator(first.accuracy) if first.accuracy else "They have no labels."
    return [
        "## 4 Data set and preprocessing",
        "### 4.1 Data set",
        f"{result.images:,} images of {text(first.inference.source)}. {text(labelled)}",
        "### 4.2 Preprocessing",
        f"{words[0].upper()}{words[1:]}; {pre.color_order}, mean ({mean}), std ({std}).",
        "### 4.3 Information file",
        "None is needed: images are read as they are. For the guide's own tools `modelport guide get-info` writes one.",
    ]  # fmt: skip


def _inference(result: RunResult) -> list[str]:
    failed = rows.bad_images(result)
    return [
        "## 5 Offline inference",
        "### 5.1 Tools",
        _TOOLS,
        "### 5.2 Runs",
        *(
            titled(rows.stages(target.inference, f"Stages of {target.name}, batch {target.inference.batch_size}"))
            for target in result.targets
        ),
        titled(failed),
        commands(command for command in result.commands if command.part == "accuracy"),
    ]


def _accuracy(result: RunResult) -> list[str]:
    measured = rows.accuracy(result)
    layers = [
        f"- {text(target.name)}: {text(diff_verdict(target.layers))}" for target in result.targets if target.layers
    ]
    return [
        "## 6 Accuracy",
        "### 6.1 Of the offline models",
        table(measured) if measured else "Not measured: the images have no labels.",
        "### 6.2 Published",
        _published(result),
        "### 6.3 Comparison",
        f"{text(rows.verdict(result))}.",
        titled(rows.paired(result)),
        titled(rows.gates(result)),
        *(["**Layers, against the float ONNX file**", "\n".join(layers)] if layers else []),
    ]


def _performance(result: RunResult) -> list[str]:
    return [
        "## 7 Performance",
        "### 7.1 Throughput and latency",
        titled(rows.three_speeds(result)),
        titled(rows.by_batch(result)),
        commands(command for command in result.commands if command.part == "performance"),
        titled(rows.hygiene(result)),
        *_optimisation(result.targets),
    ]


def _optimisation(targets: tuple[TargetResult, ...]) -> list[str]:
    found = [f"- {text(target.name)}: {text(profile_verdict(target.profile))}" for target in targets if target.profile]
    tables = [titled(found) for target in targets for found in inside.tables(target)]
    return ["### 7.2 Where the time goes", "\n".join(found), *tables] if found or tables else []
