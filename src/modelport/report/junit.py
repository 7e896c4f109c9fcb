"""The gates as JUnit XML, which CI servers show: a suite for each target, a test case for each check."""

from __future__ import annotations

import xml.etree.ElementTree as ET  # writes only; nothing from outside is parsed
from collections.abc import Iterable, Mapping

from ..printable import printable
from ..results import GateCheck, Parity, RunResult, TargetResult


def render_junit(result: RunResult) -> str:
    """The whole document, in the form that Jenkins, GitLab and others read (the xUnit plugin's schema `junit-10`)."""
    root = ET.Element("testsuites", _attributes(name=f"modelport {result.name}"))
    if result.export_parity:
        suite = _suite(root, f"{result.name}.export", result.started)
        _case(suite, f"parity with {result.export_parity.against}", _parity_failure(result.export_parity))
    for target in result.targets:
        suite = _suite(root, f"{result.name}.{target.name}", result.started, target)
        for check in target.gate.checks:
            _case(suite, check.name, None if check.passed else _failure(check))
        if not target.gate.checks:
            case = _case(suite, "gate", None)
            ET.SubElement(case, "skipped", _attributes(message="nothing to hold the target against"))
    for suite in root:
        suite.attrib.update(_counts([suite]), skipped=str(sum(1 for _ in suite.iter("skipped"))))
    root.attrib.update(_counts(root))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=False).join(
        ('<?xml version="1.0" encoding="UTF-8"?>\n', "\n")
    )


def _suite(root: ET.Element, name: str, started: str, target: TargetResult | None = None) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", _attributes(name=name, timestamp=started.partition("+")[0]))
    if target is not None:
        suite.set("time", f"{target.inference.e2e.wall_s:.3f}")
        facts = {"engine": f"{target.engine} {target.engine_version}", "runs in": target.runs_in}
        facts |= {"end to end, img/s": f"{target.inference.e2e.throughput:.1f}"}
        if target.accuracy:
            facts["top-1"] = f"{target.accuracy.topn[0]:.4f}"
        if target.best:
            facts["best pure inference, img/s"] = f"{target.best.throughput:.1f}"
        _properties(suite, facts)
    return suite


def _properties(suite: ET.Element, facts: Mapping[str, str]) -> None:
    properties = ET.SubElement(suite, "properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", _attributes(name=name, value=value))


def _case(suite: ET.Element, name: str, failure: str | None) -> ET.Element:
    case = ET.SubElement(suite, "testcase", _attributes(classname=suite.get("name", ""), name=name))
    if failure is not None:
        ET.SubElement(case, "failure", _attributes(type="gate", message=failure)).text = printable(failure)
    return case


def _failure(check: GateCheck) -> str:
    if check.unit == "points":
        reference = "" if check.reference is None else f" against {check.reference:.2f} %"
        return f"{check.name}: {check.measured:.2f} %{reference}: a drop of {check.drop:.2f} points, at most {check.limit:g} accepted"
    return f"{check.name}: error {check.measured:.1e}, at most {check.limit:.0e} accepted"


def _parity_failure(parity: Parity) -> str | None:
    if parity.passed:
        return None
    return f"scores differ from {parity.against} by {parity.relative_error:.1e} of the largest, at most {parity.tolerance:.0e} accepted"


def _counts(suites: Iterable[ET.Element]) -> dict[str, str]:
    cases = [case for suite in suites for case in suite.iter("testcase")]
    failures = sum(case.find("failure") is not None for case in cases)
    return {"tests": str(len(cases)), "failures": str(failures), "errors": "0"}


def _attributes(**values: str) -> dict[str, str]:
    """XML 1.0 knows no control characters, not even escaped ones."""
    return {name: printable(value) for name, value in values.items()}
