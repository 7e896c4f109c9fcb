"""Rules of `docs/security.md` that hold for every line of the package: what no module calls, by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import modelport

ROOT = Path(modelport.__file__).parent
NEVER = {
    "os.system": "runs a shell",
    "os.popen": "runs a shell",
    "subprocess.getoutput": "runs a shell",
    "subprocess.getstatusoutput": "runs a shell",
    "pickle.load": "runs code from data",
    "pickle.loads": "runs code from data",
    "marshal.loads": "runs code from data",
    "shelve.open": "runs code from data",
    "yaml.load": "builds any object: use schema.read_yaml",
    "yaml.unsafe_load": "builds any object: use schema.read_yaml",
    "yaml.full_load": "builds any object: use schema.read_yaml",
    "eval": "runs code from data",
    "exec": "runs code from data",
    "tempfile.mktemp": "names a file that another may make first",
}
REQUIRED = {
    "torch.load": ("weights_only", True),
    "timm.models.load_state_dict": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "jinja2.Environment": ("autoescape", True),
    "Environment": ("autoescape", True),  # where jinja2 is imported; results have an Environment, too
}
METHODS = {"extractall": "writes where an archive says", "extract": "writes where an archive says"}


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a call's function; empty where it is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def given(call: ast.Call, name: str) -> object:
    """The constant that a keyword is given; None where it is left out or no constant."""
    return next(
        (word.value.value for word in call.keywords if word.arg == name and isinstance(word.value, ast.Constant)), None
    )


def problems(source: str) -> Iterator[str]:
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        name = dotted(call.func)
        if name in NEVER:
            yield f"{call.lineno}: {name} {NEVER[name]}"
        method = name.rpartition(".")[2]
        if method in METHODS and "." in name:
            yield f"{call.lineno}: {name} {METHODS[method]}"
        if any(word.arg == "shell" and given(call, "shell") is not False for word in call.keywords):
            yield f"{call.lineno}: {name} may run a shell"
        word, value = REQUIRED.get(name, ("", None))
        if word and given(call, word) is not value and (word != "autoescape" or "jinja2" in source):
            yield f"{call.lineno}: {name} without {word}={value}"
        if name in ("Image.open", "PIL.Image.open") and not any(word.arg == "formats" for word in call.keywords):
            yield f"{call.lineno}: {name} without formats"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_breaks_the_rules(path):
    assert list(problems(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "line",
    [
        "os.system('ls')", "pickle.load(f)", "subprocess.run(x, shell=True)", "subprocess.Popen(x, shell=flag)", "torch.load(p)",
        "torch.load(p, weights_only=False)", "yaml.load(t, Loader=L)", "tar.extractall(d)", "archive.extract(m)", "np.load(p)",
        "import jinja2; Environment(loader=l)", "jinja2.Environment(autoescape=False)", "Image.open(p)", "eval(t)",
    ],
)  # fmt: skip
def test_the_rules_see_what_breaks_them(line):
    assert len(list(problems(line))) == 1


def test_templates_mark_nothing_as_safe():
    for path in (ROOT / "report" / "templates").iterdir():
        assert "|safe" not in path.read_text(encoding="utf-8").replace(" ", ""), path
