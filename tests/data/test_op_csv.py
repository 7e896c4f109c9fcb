"""msprof's CSV files: ours have its columns, and its files are read in every version, or refused with line and reason."""

from __future__ import annotations

import csv
import logging

import msprof
import numpy as np
import pytest

from modelport.data.op_csv import is_op_csv, read_op_statistic, read_op_summary
from modelport.data.op_csv_writer import STATISTIC_COLUMNS, SUMMARY_COLUMNS, write_op_csv
from modelport.errors import FormatError
from modelport.spec import Precision

DURATIONS = [duration for _, _, _, duration, _, _ in msprof.OPERATORS]


@pytest.fixture
def summary(tmp_path):
    return msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows())


def lines(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


# -- writing


def test_headers_are_msprofs():
    assert ",".join(SUMMARY_COLUMNS) == (
        "Device_id,Model ID,Task ID,Stream ID,Op Name,OP Type,OP State,Task Type,Task Start Time(us),Task Duration(us),"
        "Task Wait Time(us),Block Num,Mix Block Num,HF32 Eligible,Input Shapes,Input Data Types,Input Formats,Output Shapes,"
        "Output Data Types,Output Formats,Context ID"
    )
    assert ",".join(STATISTIC_COLUMNS) == (
        "Device_id,OP Type,Core Type,Count,Total Time(us),Min Time(us),Avg Time(us),Max Time(us),Ratio(%)"
    )
    assert msprof.TODAY.startswith(",".join(SUMMARY_COLUMNS))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_profile_is_written_and_read_back(csp_profile, engine, tmp_path):
    result = csp_profile(engine)
    write_op_csv(result, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["op_statistic_0_1.csv", "op_summary_0_1.csv"]
    assert lines(tmp_path / "op_summary_0_1.csv")[0] == list(SUMMARY_COLUMNS)

    found = read_op_summary(tmp_path)

    assert [each.name for each in found.operators] == [each.name for each in result.operators]
    assert [each.type for each in found.operators] == [each.type for each in result.operators]
    for ours, theirs in zip(found.operators, result.operators, strict=True):
        assert [(t.shape, t.dtype, t.layout) for t in ours.inputs] == [
            (t.shape, t.dtype, t.layout) for t in theirs.inputs
        ]
        assert [t.shape for t in ours.outputs] == [t.shape for t in theirs.outputs]
        assert ours.precision == theirs.precision
    np.testing.assert_allclose(
        [each[0] for each in found.durations_us], [o.duration_us for o in result.operators], atol=1e-3
    )
    first, last = result.operators[0], result.operators[-1]
    span = last.start_us + last.duration_us - first.start_us
    assert found.spans_s[0] * 1e6 == pytest.approx(span, abs=0.01)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_statistics_add_up(csp_profile, engine, tmp_path):
    result = csp_profile(engine)
    write_op_csv(result, tmp_path)

    header, *rows = lines(tmp_path / "op_statistic_0_1.csv")
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    assert header == list(STATISTIC_COLUMNS)
    assert sum(int(row["Count"]) for row in cells) == len(result.operators)
    assert sum(float(row["Ratio(%)"]) for row in cells) == pytest.approx(100, abs=0.01)
    totals = [float(row["Total Time(us)"]) for row in cells]
    assert totals == sorted(totals, reverse=True)
    assert sum(totals) == pytest.approx(sum(each.duration_us for each in result.operators), abs=0.05)
    for row in cells:
        assert float(row["Min Time(us)"]) <= float(row["Avg Time(us)"]) <= float(row["Max Time(us)"])
    assert sum((read_op_statistic(tmp_path) or {}).values()) == pytest.approx(sum(totals))


# -- reading


@pytest.mark.parametrize("header", [msprof.TODAY, msprof.GUIDE])
def test_every_version_says_the_same(tmp_path, header):
    path = msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows(), header)

    found = read_op_summary(path)

    assert found.device == 0
    assert [each.name for each in found.operators] == [name for name, *_ in msprof.OPERATORS]
    assert [each[0] for each in found.durations_us] == DURATIONS
    assert found.spans_s == pytest.approx([16479e-6])
    assert found.gaps_us is not None
    assert found.gaps_us[0, :3] == pytest.approx([0.0, 5.5, 4.5], abs=1e-3)
    conv = found.operators[3]
    assert (conv.type, conv.kernel, conv.precision) == ("Conv2D", "AI_CORE", Precision.FP16)
    assert [(t.shape, t.dtype, t.layout) for t in conv.inputs] == [
        ((32, 4, 56, 56, 16), "f16", "NC1HWC0"), ((4, 16, 16, 16), "f16", "FRACTAL_Z"), ((256,), "f32", "ND"),
    ]  # fmt: skip


def test_columns_may_stand_in_any_order(tmp_path):
    shuffled = ",".join(sorted(msprof.TODAY.split(","), reverse=True))
    path = msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows(), shuffled)

    assert [each[0] for each in read_op_summary(path).durations_us] == DURATIONS


def test_only_three_columns_are_needed(tmp_path):
    path = msprof.write(tmp_path / "any.csv", msprof.rows(), "Task Duration(us),OP Type,Op Name")

    found = read_op_summary(path)

    assert (found.gaps_us, found.spans_s, found.device) == (None, (), 0)
    assert all(each.inputs == each.outputs == () and each.precision is None for each in found.operators)


def test_starts_in_nanoseconds_are_told_by_their_size(tmp_path):
    rows = msprof.rows(start=0)
    for row, (_, _, at, *_) in zip(rows, msprof.OPERATORS, strict=True):
        row["Task Start Time"] = f"{1_700_000_000_000_000_000 + int(at * 1000)}"
    path = msprof.write(tmp_path / "op_summary_0_1.csv", rows, msprof.GUIDE)

    assert read_op_summary(path).spans_s == pytest.approx([16479e-6])


def test_lines_are_put_in_the_order_of_their_start(tmp_path):
    path = msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows()[::-1])

    assert [each.name for each in read_op_summary(path).operators] == [name for name, *_ in msprof.OPERATORS]


def test_more_files_or_repeated_names_are_more_rounds(tmp_path):
    msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows())
    msprof.write(tmp_path / "op_summary_0_2.csv", msprof.rows(factor=0.5, start=msprof.EPOCH_US + 50_000))

    found = read_op_summary(tmp_path)
    assert found.durations_us[0] == (900.0, 450.0)
    assert found.gaps_us is not None
    assert found.gaps_us.shape == (2, len(msprof.OPERATORS))
    assert found.spans_s == pytest.approx([16479e-6, 16471.5e-6])

    both = [*msprof.rows(), *msprof.rows(factor=0.5, start=msprof.EPOCH_US + 50_000)]
    one = read_op_summary(msprof.write(tmp_path / "together.csv", both))
    assert one.durations_us == found.durations_us


def test_lines_without_a_duration_are_left_out_and_said(tmp_path, caplog):
    rows = msprof.rows()
    rows[0]["Task Duration(us)"] = "N/A"
    path = msprof.write(tmp_path / "op_summary_0_1.csv", rows)

    with caplog.at_level(logging.WARNING):
        assert len(read_op_summary(path).operators) == len(rows) - 1
    assert "1 lines without a duration left out" in caplog.text


def test_a_second_model_is_left_out_and_said(tmp_path, caplog):
    rows = msprof.rows()
    rows[5]["Model ID"] = "4294967295"
    path = msprof.write(tmp_path / "op_summary_0_1.csv", rows)

    with caplog.at_level(logging.WARNING):
        assert len(read_op_summary(path).operators) == len(rows) - 1
    assert "model 1 is analysed; left out: model 4294967295" in caplog.text


def test_odd_cells_are_understood(tmp_path):
    rows = msprof.rows()
    rows[0] |= {
        "Input Shapes": '"32,3,224,224;;"',
        "Input Data Types": "DT_FLOAT;INT64",
        "Input Formats": "NCHW;N/A",
    }
    rows[1] |= {"Input Shapes": "N/A", "Op Name": "N/A"}
    rows[2] |= {"Input Shapes": "2,7,9,64;3,3,64,8", "Input Data Types": "FLOAT;BFLOAT16", "Input Formats": "NHWC;HWCN"}
    path = msprof.write(tmp_path / "op_summary_0_1.csv", rows)

    first, second, third, *_ = read_op_summary(path).operators
    assert [(t.shape, t.dtype, t.layout) for t in first.inputs] == [
        ((32, 3, 224, 224), "f32", "NCHW"), ((), "i64", None), ((), "", None),
    ]  # fmt: skip
    assert (second.name, second.inputs) == ("Conv2D of line 3", ())
    assert [(t.shape, t.dtype) for t in third.inputs] == [((2, 64, 7, 9), "f32"), ((8, 64, 3, 3), "bf16")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"op_summary_0_1.csv: is empty, expected a header with Op Name, OP Type, Task Duration\(us\)"),
        ("\n\n", "is empty, expected a header"),
        ("Op Name,OP Type,Task Duration(us)\n", "holds a header and no operators"),
        ("Op Name,OP Type\nA,B\n", r"csv:1: has no column 'Task Duration\(us\)'; it has Op Name, OP Type"),
        (
            "Op Name,OP Type,Task Duration(us)\nA,B,fast\n",
            r"csv:2: Task Duration\(us\) is 'fast', expected a number from 0",
        ),
        ("Op Name,OP Type,Task Duration(us)\nA,B,1\nA,B,-1\n", r"csv:3: Task Duration\(us\) is '-1'"),
        ("Op Name,OP Type,Task Duration(us)\nA,B,nan\n", r"csv:2: Task Duration\(us\) is 'nan'"),
        ("Op Name,OP Type,Task Duration(us)\nA,B\n", "csv:2: has 2 cells, the header has 3"),
        ("Op Name,OP Type,Task Duration(us)\nA,B,1,2\n", "csv:2: has 4 cells, the header has 3"),
        ("Op Name,OP Type,Task Duration(us)\nA,B,N/A\n", "no line has a duration"),
        (
            "Op Name,OP Type,Task Duration(us),Task Start Time(us)\nA,B,1,soon\n",
            r"csv:2: Task Start Time\(us\) is 'soon', expected a number",
        ),
        (
            'Op Name,OP Type,Task Duration(us),Input Shapes\nA,B,1,"1,x"\n',
            "csv:2: a shape is '1,x', expected numbers with commas between",
        ),
    ],
)
def test_a_malformed_file_is_refused(tmp_path, text, message):
    path = tmp_path / "op_summary_0_1.csv"
    path.write_text(text)

    with pytest.raises(FormatError, match=message):
        read_op_summary(path)


def test_several_devices_have_to_be_chosen_from(tmp_path):
    msprof.write(tmp_path / "op_summary_0_1.csv", msprof.rows(), msprof.GUIDE)
    msprof.write(tmp_path / "op_summary_1_1.csv", msprof.rows(), msprof.GUIDE)

    with pytest.raises(FormatError, match="is of devices 0, 1: give the op_summary file of one device"):
        read_op_summary(tmp_path)
    assert read_op_summary(tmp_path / "op_summary_1_1.csv").device == 1


def test_sums_by_type_alone_will_not_do(tmp_path):
    path = tmp_path / "op_statistic_0_1.csv"
    path.write_text("Model Name,OP Type,Total Time(us)\nm,Conv2D,5\n")

    assert is_op_csv(tmp_path)
    with pytest.raises(FormatError, match="holds op_statistic files only"):
        read_op_summary(tmp_path)
    with pytest.raises(FormatError, match="has sums by type only"):
        read_op_summary(path)


@pytest.mark.parametrize("first", ["Device_id", "Model Name"])
def test_statistics_of_both_versions_are_read(tmp_path, summary, first):
    (tmp_path / "op_statistic_0_1.csv").write_text(
        f"{first},OP Type,Total Time(us)\n0,Conv2D,5\n0,Conv2D,6.5\n0,Cast,1\n"
    )
    (tmp_path / "op_statistic_0_2.csv").write_text(f"{first},OP Type,Total Time(us)\n0,Cast,99\n")

    assert read_op_statistic(summary) == {"Conv2D": 11.5, "Cast": 1.0}  # the file of the same device and iteration
    assert read_op_statistic(tmp_path) == {"Conv2D": 11.5, "Cast": 100.0}


def test_what_is_a_profile_is_told_from_an_offline_model(tmp_path, summary, compiled):
    assert is_op_csv(summary)
    assert is_op_csv(tmp_path)
    assert is_op_csv(tmp_path / "absent.csv")
    assert not is_op_csv(compiled("null").path)
    assert not is_op_csv(tmp_path / "absent")
