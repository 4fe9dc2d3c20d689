"""Exported graphs give in onnxruntime what our own give: every layer, every op, its tails, any number of rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.test_model import CASES

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, ops
from chainrule.deploy.architecture import layers
from chainrule.errors import SettingError, ShapeError

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from chainrule.interop.onnx import export  # noqa: E402
from chainrule.interop.onnx.lowerings import ABSENT, LOWERINGS  # noqa: E402

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)
SIZES = np.logspace(-9, 1.9, 60)
# Numbers of every size, zeros, what is beyond every tail, and what is no number.
WIDE = np.concatenate([SIZES, -SIZES, [0.0, -0.0, 300.0, -300.0, np.inf, -np.inf, np.nan]]).astype("f")


def session(made: Any) -> Callable[..., list[Array]]:
    """What onnxruntime gives for inputs in order."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    found = runtime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [given.name for given in found.get_inputs()]
    return lambda *inputs: found.run(None, dict(zip(names, inputs, strict=True)))


def ours(model: nn.Module, *inputs: Array) -> list[Array]:
    """What the model gives in evaluation mode, op by op."""
    model.eval()
    with cr.no_grad():
        found = model(*map(cr.tensor, inputs))
    found = tuple(found.values()) if isinstance(found, dict) else found
    return [tensor.numpy() for tensor in _flat(found)]


def _flat(found: Any) -> list[cr.Tensor]:
    return [found] if isinstance(found, cr.Tensor) else [tensor for part in found for tensor in _flat(part)]


def close(
    model: nn.Module, *inputs: Array, rtol: float = 3e-6, atol: float = 1e-37, counts: tuple[int, ...] = (1, 2, 13)
) -> Any:
    """Alike for other numbers of rows than it was exported with, relatively, down to the smallest normal numbers."""
    made = export(model, tuple(x[:3] for x in inputs))
    run = session(made)
    for count in (*counts, len(inputs[0])):
        rows = [x[:count] for x in inputs]
        for expected, found in zip(ours(model, *rows), run(*rows), strict=True):
            assert found.dtype == expected.dtype and found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)
    return made


def test_every_op_has_a_lowering_or_a_reason_why_not() -> None:
    assert set(LOWERINGS) | set(ABSENT) | {"scan"} == {*ops.ALL, "custom", "scan"}
    assert not set(LOWERINGS) & set(ABSENT)


# -- layers ------------------------------------------------------------------------------------------------

ROWS: dict[str, Any] = {
    "Embedding": rng.integers(0, 5, (20, 3)), "EmbeddingBag": rng.integers(0, 5, (20, 3)),
    "Unflatten": rng.normal(size=(20, 6)).astype("f"), "GroupNorm": rng.normal(size=(20, 12, 5)).astype("f"),
    "InstanceNorm1d": rng.normal(size=(20, 3, 5)).astype("f"), "Dropout1d": rng.normal(size=(20, 3, 5)).astype("f"),
    "Conv1d": rng.normal(size=(20, 4, 9)).astype("f"), "Conv2d": rng.normal(size=(20, 4, 6, 7)).astype("f"), "Conv3d": rng.normal(size=(20, 4, 4, 3, 5)).astype("f"),
    **{f"{kind}Pool{n}d": rng.normal(size=(20, 2, 5, 6, 4)[: n + 2]).astype("f") for kind in ("Max", "Avg") for n in (1, 2, 3)},
    "Dropout2d": rng.normal(size=(20, 3, 5, 2)).astype("f"), "Upsample": rng.normal(size=(20, 2, 3, 4)).astype("f"),
    "UpsamplingBilinear2d": rng.normal(size=(20, 2, 3, 4)).astype("f"), "UpsamplingNearest2d": rng.normal(size=(20, 2, 3, 4)).astype("f"),
    **{name: rng.normal(size=(20, 16, 8, 4)).astype("f") for name in ("PixelShuffle", "PixelUnshuffle", "ChannelShuffle", "Softmax2d")},
}  # fmt: skip
POINTWISE = {
    "CELU", "ELU", "GELU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish", "RReLU",
    "ReLU", "ReLU6", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh", "Tanhshrink", "Threshold", "Identity",
}  # fmt: skip
RECURRENT = {"RNN", "LSTM", "GRU"}
LOSSES = {name for name in layers() if name.endswith("Loss")} | {"CosineSimilarity", "PairwiseDistance"}


def rows_of(name: str, layer: Any) -> Array:
    """Rows that the layer takes."""
    if name == "Inputs":
        codes = [rng.integers(0, size, 20) for size in layer.sizes]
        dtype = layer.frequency.numpy(force=True).dtype
        return np.stack([*rng.normal(size=(layer.numbers + layer.plain, 20)), *codes], axis=1).astype(dtype)
    if name in ROWS:
        found = ROWS[name]
        return found[:, : layer.num_channels] if name == "GroupNorm" else found
    if re.search(
        "[23]d$|(ReflectionPad|ReplicationPad|CircularPad|ConvTranspose|AdaptiveAvgPool|AdaptiveMaxPool)1d$", name
    ):
        channels = next((getattr(layer, n) for n in ("in_channels", "num_features") if hasattr(layer, n)), 4)
        return rng.normal(size=(20, channels, *(7, 6, 5)[: int(name[-2])])).astype("f")
    sizes = getattr(layer, "normalized_shape", None)
    if sizes is None:
        size = next(
            (
                getattr(layer, n)
                for n in ("in_features", "input_size", "num_features", "features", "num_parameters")
                if hasattr(layer, n)
            ),
            4,
        )
        sizes = (size,)
    dtype = next((p.detach().numpy().dtype for p in layer.parameters()), np.dtype("f"))
    return rng.normal(size=(20, *sizes)).astype(dtype)


def inputs_of(name: str, layer: Any) -> list[Array]:
    """What the layer takes."""
    if name == "Bilinear":
        return [rng.normal(size=(20, n)).astype("f") for n in (3, 2)]
    if name == "Fold":
        return [rng.normal(size=(20, 12, 6)).astype("f")]
    if name == "Unfold":
        return [rng.normal(size=(20, 3, 4, 5)).astype("f")]
    if name in RECURRENT:
        return [rng.normal(size=(20, 5, layer.input_size)).astype(next(layer.parameters()).detach().numpy().dtype)]
    if name.startswith("Transformer"):
        dtype = next(layer.parameters()).detach().numpy().dtype
        return [rng.normal(size=(20, 5, 4)).astype(dtype) for _ in range(1 if "Encoder" in name else 2)]
    return [WIDE if name in POINTWISE else rows_of(name, layer)]


class _OfItself(nn.Module):
    """Attention to what asks."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        found: cr.Tensor = self.layer(x, x, x, need_weights=False)[0]
        return found


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_every_layer(name: str, given: dict[str, Any]) -> None:
    cr.manual_seed(0)
    layer: Any = layers()[name][0](**given)
    with cr.no_grad():
        for tensor in [*layer.parameters(), *(b for b in layer.buffers() if b.dtype.is_floating_point)]:
            tensor.uniform_(0.5, 1.5)  # scales, shifts, statistics that are not those of the beginning
    if name == "BatchNorm1d" and not layer.track_running_stats:
        with pytest.raises(
            SettingError, match=r"onnx.export: div in layer 'BatchNorm1d' .* depends on the number of rows"
        ):
            export(layer, cr.zeros(2, 2))
        return
    if name == "MultiheadAttention":
        close(_OfItself(layer), rng.normal(size=(5, 20, layer.embed_dim)).astype("f"), atol=2e-5)
        return
    if name in LOSSES:
        return  # of outputs and targets: no model
    many = 10 if name.startswith("Transformer") or name in RECURRENT else 1  # sums, one after the other
    close(layer, *inputs_of(name, layer), atol=1e-37 if name in POINTWISE else many * 2e-6)


def _total(x: cr.Tensor) -> Any:
    """What every step reads is computed from the rows; a result is given back from before the loop, too."""
    weight = x[:, 0].mean(-1, keepdim=True)
    last, ys = cr.scan(lambda c, z: (c + z * weight, c * z), x[:, 0] * 0, x.permute(1, 0, 2))
    return last, weight, ys


def _within(x: cr.Tensor) -> cr.Tensor:
    """A loop in each step of a loop, backwards, without a result of each step."""
    inner = lambda h, z: cr.scan(lambda a, b: ((a + b * z).tanh(), None), h, z.permute(1, 0)[:, :, None])[0]  # noqa: E731
    return cr.scan(lambda h, z: (inner(h, z), None), x[:, 0] * 0.1, x.permute(1, 0, 2), reverse=True)[0]


LOOPS: dict[str, Callable[[cr.Tensor], Any]] = {
    "over rows": lambda x: cr.scan(lambda c, z: (c + z, c), cr.zeros(4, 3), x),
    "backwards": lambda x: cr.scan(lambda c, z: (0.5 * c + z, c * z), x[:, 0] * 0, x.permute(1, 0, 2), reverse=True),
    "of nothing": lambda x: cr.scan(lambda c, _: ((c * 1.5).tanh(), c.sum(-1)), x[:, 0], length=4),
    "of what is outside": _total,
    "within another": _within,
}


@pytest.mark.parametrize("name", list(LOOPS))
def test_loops(name: str) -> None:
    made = close(Of(LOOPS[name]), X, atol=2e-6)
    assert "Scan" in {node.op_type for node in made.graph.node}


def test_random_numbers_in_a_step_are_refused() -> None:
    noisy = Of(lambda x: cr.scan(lambda c, z: (c + z + cr.rand(3), None), x[0, 0], x[0])[0])
    with pytest.raises(SettingError, match=r"onnx.export: random_bits in layer 'Of' .* draws random numbers"):
        export(noisy, cr.zeros(2, 4, 3))


def test_probabilities_and_their_logarithms_keep_their_tails() -> None:
    rows = (rng.normal(size=(40, 5)) * np.logspace(-2, 1.5, 40)[:, None]).astype("f")
    for layer in (nn.Softmax(1), nn.LogSoftmax(1), nn.Softmin(1)):
        logarithm = isinstance(layer, nn.LogSoftmax)
        close(
            layer, rows, rtol=3e-6 if logarithm else 2e-5, atol=1e-6 if logarithm else 1e-37
        )  # near 0 it is a difference


def test_a_network_is_written_as_other_tools_write_it(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3, bias=False))
    made = export(model, cr.zeros(1, 4), tmp_path / "model.onnx", metadata={"classes": "a b c"})
    assert (tmp_path / "model.onnx").read_bytes() == made.SerializeToString()
    assert [node.op_type for node in made.graph.node] == ["Gemm", "Relu", "Gemm"]
    assert [w.name for w in made.graph.initializer] == ["0.weight", "0.bias", "2.weight"]
    assert (onnx.numpy_helper.to_array(made.graph.initializer[0]) == model[0].weight.detach().numpy()).all()
    assert [d.dim_param or d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim] == ["batch", 4]
    assert (made.opset_import[0].version, made.ir_version, made.producer_name) == (18, 8, "chainrule")
    assert made.metadata_props[0].value == "a b c"


def test_the_mode_and_what_is_compiled_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
    close(model, rng.normal(size=(20, 4)).astype("f"), atol=1e-6)
    model.train()
    model[1].eval()
    made = export(cr.compile(model), cr.zeros(2, 4))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert "Sequential.0" in made.graph.node[0].name


# -- ops ---------------------------------------------------------------------------------------------------


class Of(nn.Module):
    """A module of one's own around a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


X = rng.normal(size=(20, 4, 3)).astype("f")
INT = rng.integers(-9, 9, (20, 4))
OPS: dict[str, tuple[Callable[..., Any], tuple[Array, ...]]] = {
    "pad between": (lambda x: x._pad((0, 1, 0), (0, 0, 2), (0, 2, 1)), (X,)), "pad nothing between": (lambda x: x._pad((0, 1, 0), (0, -1, 2), (0, 2, 1)), (X[:, :1],)),
    "whole pad between": (lambda x: x._pad((0, 0), (0, 1), (0, 3)), (INT,)), "truth pad between": (lambda x: (x > 0)._pad((0, 0), (0, 1), (0, 3)), (INT,)),
    "floor_divide": (lambda x, y: x // y, (X, X[::-1].copy())), "whole floor_divide": (lambda x: x // 4, (INT,)),
    "remainder": (lambda x, y: x % y, (X, X[::-1].copy())), "whole remainder": (lambda x: x % -5, (INT,)),
    "sign": (lambda x: x.sign(), (WIDE,)), "round": (lambda x: (x * 2).round() / 2, (WIDE[:100],)), "floor": (cr.floor, (WIDE[:100],)),
    "expm1": (lambda x: x.expm1(), (WIDE,)), "log1p": (lambda x: x.log1p(), (WIDE,)), "erf": (cr.erf, (WIDE,)),
    "mish": (F.mish, (WIDE,)), "erfc": (cr.erfc, (WIDE,)), "rsqrt": (cr.rsqrt, (WIDE,)), "pow": (lambda x: x.abs() ** 1.7, (X,)), "sin": (cr.sin, (X,)),
    "cos": (cr.cos, (X,)), "maximum": (cr.maximum, (WIDE, WIDE[::-1].copy())), "minimum": (cr.minimum, (WIDE, WIDE[::-1].copy())),
    "whole maximum": (lambda x: cr.maximum(x, -x), (INT,)), "compare": (lambda x: (x != 0) & ~(x > 1) | (x <= -1), (INT,)),
    "roots": (lambda x: cr.where(x >= 0, x.abs().sqrt(), 0.0), (WIDE,)), "xor": (lambda x: (x > 0) ^ (x < 3), (INT,)), "bits": (lambda x: (x & 5) | (x ^ 3), (INT,)), "not": (lambda x: ~x, (INT,)),
    "cast": (lambda x: x.float() / 2, (INT,)), "whole sum": (lambda x: x.sum(1), (INT,)), "count": (lambda x: (x > 0).sum(1), (INT,)),
    "sum": (lambda x: x.sum((1, 2)), (X,)), "amax": (lambda x: x.amax(2), (X,)), "amin": (lambda x: x.amin(1), (X,)),
    "argmax": (lambda x: x.argmax(1), (X,)), "argmax of all axes": (lambda x: x.flatten(1).argmax(-1), (X,)),
    "argmin": (lambda x: x.argmin(-1), (X,)), "reshape": (lambda x: x.reshape(-1, 6), (X,)), "merge rows": (lambda x: x.flatten(0, 1), (X,)),
    "split rows": (lambda x: x.flatten(0, 1).reshape(len(x), 4, 3), (X,)), "permute": (lambda x: x.permute(0, 2, 1), (X,)),
    "rows last": (lambda x: x.permute(2, 1, 0), (X,)), "expand": (lambda x: x.sum(1, keepdim=True).expand(*x.shape), (X,)),
    "expand rows": (lambda x: cr.ones(1, 3).expand(len(x), 3) * x[:, 0], (X,)), "slice": (lambda x: x[:, 1:3, ::2], (X,)),
    "backwards": (lambda x: x.flip(1, 2), (X,)), "pad": (lambda x: F.pad(x, (1, 2)), (X,)), "pad with": (lambda x: F.pad(x, (1, 2), value=7.0), (X,)),
    "conv": (lambda x: F.conv1d(x, cr.arange(48.0).reshape(6, 2, 4), stride=2, padding=3, dilation=2, groups=2), (X,)),
    "unfold": (lambda x: x.unfold(2, 2, 1) + x.unfold(1, 2, 2).sum(), (X,)),
    "cat": (lambda x: cr.cat([x, x * 2], dim=1), (X,)), "stack": (lambda x: cr.stack([x, -x], dim=1), (X,)),
    "batched matmul": (lambda x: x @ x.mT, (X,)), "take": (lambda x: cr.arange(12.0).reshape(4, 3)[x], (INT % 4,)),
    "take pairs": (lambda x: cr.arange(12.0).reshape(4, 3)[x, x % 3], (INT % 4,)), "gather": (lambda x, i: x.flatten(1).gather(1, i), (X, INT % 12)),
    "one hot": (lambda x: F.one_hot(x, 5), (INT % 5,)), "where": (lambda x: cr.where(x > 0, x, 0.5), (X,)),
    "numbers of rows": (lambda x: x[:, 0, 0] + cr.arange(len(x)), (X,)), "cumsum": (lambda x: x.cumsum(1), (X,)),
    "scatter": (lambda x, i: cr.zeros(len(i), 12).scatter(1, i, x.flatten(1)[:, :4]), (X, np.argsort(rng.random((20, 12)))[:, :4])),
    "scatter_add": (lambda x, i: cr.zeros(len(i), 12).scatter_add(1, i, x.flatten(1)[:, :4]), (X, INT % 12)),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), (X,)), "var": (lambda x: x.var(1), (X,)), "logsumexp": (lambda x: x.logsumexp(2), (X,)),
    "masked": (lambda x: x.masked_fill(x > 0, -1.0), (X,)), "tril": (lambda x: cr.tril(x @ x.mT), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("name", list(OPS))
def test_every_op(name: str) -> None:
    function, inputs = OPS[name]
    smooth = name in (
        "batched matmul",
        "cumsum",
        "var",
        "sum",
        "unfold",
        "logsumexp",
        "tril",
        "sin",
        "cos",
        "remainder",
        "pow",
    )
    close(Of(function), *inputs, rtol=1e-5 if smooth else 1e-6, atol=1e-6 if smooth else 1e-37)


def test_the_examples_use_every_lowering() -> None:
    """All of them stand in a graph of some example: an op that nobody writes is not tested."""
    seen: set[str] = set()
    for function, inputs in [
        *OPS.values(),
        (nn.Sequential(nn.Linear(3, 3), nn.GELU(), nn.Softplus(), nn.Tanh()), (X,)),
    ]:
        compiled = cr.compile(function)
        with cr.no_grad():
            compiled(*map(cr.tensor, inputs))
        seen |= set(re.findall(r" = (\w+)\(", compiled.show("trace")))
    assert set(LOWERINGS) - seen - {"custom", "alias", "sigmoid", "check_index"} == set()


def test_an_index_that_is_nothing_is_refused_there_too() -> None:
    run = session(export(nn.Embedding(5, 2), cr.tensor([[1, 2]])))
    for bad in (-1, 5):
        with pytest.raises(
            runtime.capi.onnxruntime_pybind11_state.InvalidArgument, match="out of data bounds|out-of-bounds"
        ):
            run(np.array([[0, bad]]))


def test_derivatives_of_ones_own_are_no_matter() -> None:
    square = cr.custom_vjp(lambda x: x * x, lambda dY, Y, x: 2 * dY * x)
    close(Of(square), X)


def test_several_inputs_and_outputs_have_names() -> None:
    model = Of(lambda a, b: {"sum": a + b, "product": a * b})
    made = export(
        model, (cr.zeros(2, 4, 3), cr.zeros(2, 4, 3)), input_names=["a", "b"], output_names=["sum", "product"]
    )
    assert [e.name for e in [*made.graph.input, *made.graph.output]] == ["a", "b", "sum", "product"]
    found = session(made)(X, X)
    np.testing.assert_array_equal(found[1], X * X)
    close(Of(lambda a, b: (a, a + b)), X, X)  # an output that is an input


def test_one_number_of_rows() -> None:
    model = Of(lambda x: x - x.mean(0))
    with pytest.raises(
        SettingError, match=r"onnx.export: div in layer 'Of' .* depends on the number of rows \(value=7.0 for 7 rows"
    ):
        export(model, cr.zeros(5, 4, 3))
    made = export(model, cr.zeros(5, 4, 3), dynamic_axes={})
    np.testing.assert_allclose(session(made)(X[:5])[0], X[:5] - X[:5].mean(0), atol=1e-6)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x + cr.rand(3), r"random_bits in layer 'Of' \(test_export.py:\d+ in <lambda>\) draws random numbers"),
        (lambda x: x + len(x) ** 2, r"depends on the number of rows"),
        (lambda x: x[: len(x) - 1], r"slice in layer 'Of' .* has a size of 6 for 7 rows and 10 for 11: no multiple"),
        (lambda x: x if len(x) < 9 else x * 2, r"the model does something else for another number of rows"),
        (lambda x: 3, r"the model must return a tensor, or several, got none"),
        (lambda x: x.int() << 1, r"shift_left in layer 'Of' .* shifts the bits of signed numbers.*Multiply by a power of 2"),
    ],
)  # fmt: skip
def test_what_onnx_cannot_say_is_named(function: Any, message: str) -> None:
    with pytest.raises(SettingError, match="onnx.export: .*" + message):
        export(Of(function), cr.zeros(2, 3))


def test_what_is_no_input_is_told() -> None:
    for given, came in (("m.onnx", "'m.onnx'"), (3, "3")):
        with pytest.raises(SettingError) as caught:
            export(nn.Linear(4, 3), given)
        assert str(caught.value) == (
            f"onnx.export: args must be an input of the model, or a tuple of several, tensors or arrays, got {came}. "
            f"Write onnx.export(model, cr.zeros(1, 4), 'model.onnx') for one that takes rows of 4 numbers."
        )


def test_a_wrong_shape_is_the_one_that_was_given() -> None:
    with pytest.raises(ShapeError) as caught:
        export(nn.Sequential(nn.Linear(4, 3)), cr.zeros(1, 5))
    assert str(caught.value).partition(" (test_export")[0] == (
        "Linear '0' (in_features=4): the last axis of its input must be 4, got shape (1, 5). Make in_features=5, or change "
        "what comes before this layer."
    )


class Counting(nn.Module):
    """A model with state that changes in evaluation mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", cr.zeros(2))

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        self.calls.add_(1)
        return x + self.calls[0]


def test_arguments_that_cannot_be() -> None:
    x, model = cr.zeros(2, 4), nn.Linear(4, 2)
    with pytest.raises(SettingError, match="changes a tensor of shape \\(2,\\) in evaluation mode"):
        export(Counting(), cr.zeros(3, 2))
    with pytest.raises(SettingError, match="model must be an nn.Module, got function"):
        export(lambda x: x, x)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="opset_version must be 18, got 9"):
        export(model, x, opset_version=9)
    with pytest.raises(SettingError, match="input_names must be 1 different names, got \\['a', 'b'\\]"):
        export(model, x, input_names=["a", "b"])
    with pytest.raises(SettingError, match="'x' cannot name an input and an output"):
        export(model, x, input_names=["x"], output_names=["x"])
    with pytest.raises(SettingError, match="only axis 0 can have any length, got {1: 'width'} for 'input'"):
        export(model, x, dynamic_axes={"input": {1: "width"}})


class Half(nn.Module):
    """A layer in bfloat16 between two in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 3)
        self.middle = nn.Linear(8, 8, dtype=cr.bfloat16)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        found: cr.Tensor = self.last(self.middle(self.first(x).relu().bfloat16()).relu().float())
        return found


def test_a_layer_in_bfloat16_stays_one(tmp_path: Path) -> None:
    model, x = Half(), np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    made = export(model, x, tmp_path / "half.onnx")
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert kinds["middle.weight"] == onnx.TensorProto.BFLOAT16 != kinds["first.weight"]
    expected = model(cr.tensor(x)).detach().numpy()
    np.testing.assert_allclose(session(made)(x)[0], expected, rtol=2**-7, atol=2**-8)
    again = cr.onnx.load(tmp_path / "half.onnx")
    assert again.state_dict()["middle.weight"].dtype is cr.bfloat16
    np.testing.assert_allclose(again(cr.tensor(x)).detach().numpy(), expected, rtol=2**-7, atol=2**-8)


class Told(nn.Module):
    """A function of rows as a module."""

    def __init__(self, function: Callable[[cr.Tensor], cr.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.function(x)


def _masked(x: cr.Tensor) -> cr.Tensor:
    ahead = cr.ones(5, 5).bool().triu(1)
    return F.scaled_dot_product_attention(x, x, x, attn_mask=~ahead)


def test_one_of_two_booleans() -> None:
    x = np.array([[-2, -0.5, 0.5, 2, np.nan]], "f").repeat(4, 0)
    close(Told(lambda x: cr.where(x > 0, x > 1, x < -1).float()), x)
    close(Told(_masked), rng.normal(size=(4, 5, 3)).astype("f"), rtol=1e-5, atol=1e-6)


HALVED: dict[str, Callable[[cr.Tensor], cr.Tensor]] = {
    "pad": lambda x: F.pad(x, (1, 2)), "where": lambda x: cr.where(x > 0, x, x * 2),
    "expand": lambda x: x.unsqueeze(1).expand(x.shape[0], 2, *x.shape[1:]), "max_pool": lambda x: F.max_pool2d(x, 2),
    "flip": lambda x: x.flip(2), "cat": lambda x: cr.cat([x, x], 1), "take": lambda x: x[:, [1, 0]],
    "amax": lambda x: x.amax(1), "permute": lambda x: x.permute(0, 2, 3, 1), "mean_pool": lambda x: F.avg_pool2d(x, 2),
    "padded_pool": lambda x: F.max_pool2d(x, 3, padding=1), "unfold": lambda x: x.unfold(2, 3, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", HALVED)
def test_numbers_in_bfloat16_move_in_onnxruntime(name: str) -> None:
    x = rng.normal(size=(4, 3, 6, 6)).astype("f")
    x[0, 0, 0, :3] = np.inf, -np.inf, 3e38
    close(Told(lambda x: HALVED[name](x.bfloat16()).float()), x, rtol=0, atol=0)


class Whole(nn.Module):
    """A module in bfloat16 between two conversions."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        found: cr.Tensor = self.inner(x.bfloat16()).float()
        return found


def test_a_padded_convolution_in_bfloat16() -> None:
    model = nn.Conv2d(3, 4, 3, padding=1, dtype=cr.bfloat16)
    x = rng.normal(size=(4, 3, 6, 6)).astype("f")
    close(Whole(model), x, rtol=2**-7, atol=2**-8)
