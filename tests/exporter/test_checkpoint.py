"""Trained weights: every usual wrapping is unwrapped, no code is run, and what does not fit is said."""

from __future__ import annotations

import argparse
import pickle
import re
from collections import OrderedDict
from fractions import Fraction
from pathlib import Path

import pytest

from modelport.errors import CheckpointError
from modelport.files import digest
from modelport.spec import Interpolation

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'modelport[export]'")
pytest.importorskip("timm", reason="timm is not installed: pip install 'modelport[export]'")

from safetensors.torch import save_file  # noqa: E402

from modelport.exporter.checkpoint import (  # noqa: E402
    build_network,
    default_preprocess,
    load_weights,
    read_state,
)

ARCH, CLASSES = "test_resnet", 10


def trained(seed: int = 1) -> dict[str, torch.Tensor]:
    """State of a network whose every weight differs from a freshly built one's."""
    torch.manual_seed(seed)
    state = build_network(ARCH, CLASSES, None).state_dict()
    return OrderedDict(
        (key, value + torch.rand(value.shape) if value.is_floating_point() else value + 5)
        for key, value in state.items()
    )


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """The weights to be found again."""
    return trained()


@pytest.fixture
def network():
    """A fresh network for them."""
    return build_network(ARCH, CLASSES, None)


def assert_loaded(network, state) -> None:
    """The network holds exactly these weights."""
    loaded = network.state_dict()
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(loaded[key], value), key


@pytest.mark.parametrize("name", ["weights.pth", "weights.pt", "weights.bin", "weights.ckpt", "weights.pth.tar"])
def test_a_plain_state_dict_is_loaded(network, state, tmp_path, name):
    path = tmp_path / name
    torch.save(state, path)

    assert load_weights(network, path, {}) == digest(path)
    assert_loaded(network, state)
    assert not network.training


def test_safetensors_are_loaded(network, state, tmp_path):
    save_file(dict(state), tmp_path / "weights.safetensors")

    load_weights(network, tmp_path / "weights.safetensors", {})

    assert_loaded(network, state)


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: {"state_dict": state, "epoch": 7}, id="state_dict"),
        pytest.param(lambda state: {"model": state, "epoch": 7}, id="model"),
        pytest.param(lambda state: {"state_dict": trained(2), "state_dict_ema": state}, id="EMA before state_dict"),
        pytest.param(lambda state: {"model": trained(2), "model_ema": state}, id="EMA before model"),
        pytest.param(lambda state: {f"module.{key}": value for key, value in state.items()}, id="module prefix"),
        pytest.param(lambda state: {"state_dict": {f"module.{key}": value for key, value in state.items()}}, id="both"),
    ],
)
def test_training_checkpoints_are_unwrapped(network, state, tmp_path, wrap):
    torch.save(wrap(state), tmp_path / "training.pth")

    load_weights(network, tmp_path / "training.pth", {})

    assert_loaded(network, state)


def test_counters_that_older_checkpoints_lack_are_not_missed(network, state, tmp_path):
    older = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(older, tmp_path / "older.pth")

    load_weights(network, tmp_path / "older.pth", {})

    assert torch.equal(network.state_dict()["fc.weight"], state["fc.weight"])


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def save_zip(value: object, path: Path) -> None:
    torch.save(value, path)


def save_legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def save_pickle(value: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.mark.parametrize("save", [save_zip, save_legacy, save_pickle])
@pytest.mark.parametrize("suffix", [".pth", ".tar"])
def test_code_in_a_pickle_is_refused_and_not_run(network, state, tmp_path, save, suffix):
    witness = tmp_path / "witness"
    path = tmp_path / f"evil{suffix}"
    save({"state_dict": {"a": torch.zeros(1)}, "more": Payload(witness)}, path)

    with pytest.raises(CheckpointError) as caught:
        load_weights(network, path, {})
    assert not witness.exists()
    assert re.search(rf"evil{suffix}: .*could run code.*\.safetensors", str(caught.value))

    pickle.loads(pickle.dumps(Payload(witness)))
    assert witness.exists(), "the payload works where it is run"


def test_code_behind_the_name_of_a_safe_format_is_not_run(network, tmp_path):
    witness = tmp_path / "witness"
    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Payload(witness)))

    with pytest.raises(CheckpointError, match=r"evil\.safetensors: is not a whole PyTorch or safetensors checkpoint"):
        load_weights(network, path, {})
    assert not witness.exists()


def test_the_objects_that_are_refused_are_named(state, tmp_path):
    path = tmp_path / "training.pth"
    torch.save({"state_dict": state, "learning_rate": Fraction(1, 10)}, path)

    with pytest.raises(CheckpointError, match=r"holds Python objects besides tensors \(fractions\.Fraction\)"):
        read_state(path)


def test_timms_own_training_checkpoints_with_their_arguments_are_read(state, tmp_path):
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "state_dict": state, "args": argparse.Namespace(lr=0.1), "metric": 71.5}, path)

    assert read_state(path).keys() == state.keys()


def test_a_whole_pickled_network_is_refused_with_the_way_out(network, tmp_path):
    torch.save(network, tmp_path / "network.pth")

    with pytest.raises(CheckpointError, match=r"holds Python objects besides tensors .*Save only its state_dict"):
        read_state(tmp_path / "network.pth")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a plain text, no checkpoint\n", id="text"),
        pytest.param(b"", id="empty"),
        pytest.param(None, id="cut"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_is_refused(network, state, tmp_path, content, suffix):
    path = tmp_path / f"broken{suffix}"
    if content is None:
        torch.save(state, path) if suffix == ".pth" else save_file(dict(state), path)
        content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)

    with pytest.raises(
        CheckpointError,
        match=rf"broken{suffix}: (is not a whole PyTorch or safetensors checkpoint \(begins with b.+\)|.*it is damaged or cut off)",
    ):
        load_weights(network, path, {})


@pytest.mark.parametrize("text", ["<html>404 Not Found</html>\n", "hello world\n", "version https://git-lfs\n"])
def test_the_reason_of_a_text_file_is_in_words_and_right(tmp_path, text):
    (tmp_path / "page.pth").write_text(text)

    with pytest.raises(CheckpointError, match=re.escape(f"(begins with {text[:16].encode()!r})")) as caught:
        read_state(tmp_path / "page.pth")
    assert "globals" not in str(caught.value), "a text holds no pickled objects"


@pytest.mark.parametrize("value", [{}, {"epoch": 3, "lr": 0.1}, [1, 2]], ids=["empty", "numbers", "list"])
def test_a_file_without_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "other.pth")

    with pytest.raises(CheckpointError, match=r"other\.pth: (holds no state_dict|is not a)"):
        read_state(tmp_path / "other.pth")


def test_a_missing_file_is_refused_with_the_alternative(network, tmp_path):
    with pytest.raises(CheckpointError, match=r"absent\.pth: no such checkpoint file; --random-weights"):
        load_weights(network, tmp_path / "absent.pth", {})


def test_another_kind_of_file_is_refused_with_what_is_accepted(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"x")

    with pytest.raises(
        CheckpointError, match=r"model\.onnx: is no kind of checkpoint .*accepted: \.pth, \.pt, .*safetensors"
    ):
        read_state(tmp_path / "model.onnx")


def test_weights_of_another_architecture_are_refused_with_the_keys(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")
    other = build_network("test_efficientnet", CLASSES, None)

    with pytest.raises(
        CheckpointError,
        match=r"does not fit EfficientNet: \d+ missing \(conv_stem\.weight, .*…\), \d+ unexpected \(conv1\..*…\).*is --arch right\?",
    ):
        load_weights(other, tmp_path / "weights.pth", {})


def test_weights_of_another_number_of_classes_are_refused_with_the_shapes(state, tmp_path):
    torch.save(state, tmp_path / "weights.pth")

    with pytest.raises(
        CheckpointError,
        match=r"does not fit ResNet: 2 mis-shaped \(fc\.weight 10x96 instead of 7x96, fc\.bias 10 instead of 7\); "
        r"is --num-classes right\?",
    ):
        load_weights(build_network(ARCH, 7, None), tmp_path / "weights.pth", {})


@pytest.mark.parametrize("change", ["missing", "unexpected"])
def test_a_single_key_that_does_not_fit_is_not_passed_over(network, state, tmp_path, change):
    edited = dict(state)
    if change == "missing":
        del edited["fc.bias"]
    else:
        edited["fc.scale"] = torch.ones(1)
    torch.save(edited, tmp_path / "weights.pth")

    with pytest.raises(CheckpointError, match=rf"1 {change} \(fc\.(bias|scale)\)"):
        load_weights(network, tmp_path / "weights.pth", {})


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_pinned_digests_are_checked(network, state, tmp_path, algorithm):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    actual = digest(path, algorithm)

    load_weights(network, path, {algorithm: actual.upper()})
    assert_loaded(network, state)

    wrong = "0" * len(actual)
    with pytest.raises(
        CheckpointError, match=rf"{algorithm} is {actual}, pinned is {wrong}: not the weights that were asked for"
    ):
        load_weights(network, path, {algorithm: wrong})


def test_an_unknown_architecture_is_answered_with_the_nearest():
    with pytest.raises(CheckpointError, match=r"has no architecture 'test_resnt'; did you mean test_resnet"):
        build_network("test_resnt", None, None)


def test_an_architecture_unlike_any_is_answered_with_where_to_look():
    with pytest.raises(CheckpointError, match=r"no architecture '§§§'; timm\.list_models\(\) lists them"):
        build_network("§§§", None, None)


def test_an_unknown_pretrained_tag_is_refused():
    with pytest.raises(CheckpointError, match=r"test_resnet.*bogus|bogus.*test_resnet"):
        build_network("test_resnet.bogus", None, None)


def test_the_network_is_built_as_asked_and_in_evaluation_mode():
    network = build_network("test_vit", 7, (3, 64, 64))

    assert not network.training
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_grey_images_are_taken_where_they_are_asked_for():
    with torch.no_grad():
        assert build_network(ARCH, 3, (1, 32, 32))(torch.zeros(2, 1, 32, 32)).shape == (2, 3)


def test_default_preprocess_is_timms():
    preprocess = default_preprocess(build_network("cspresnext50", None, None))

    assert preprocess.input_size == (3, 256, 256)
    assert preprocess.crop_pct == 0.887
    assert preprocess.interpolation is Interpolation.BILINEAR
    assert preprocess.resize_size == (288, 288)
