"""ONNX files as modules: what onnxruntime gives for a graph, its module gives; it trains on; what is not supported is named."""

from __future__ import annotations

import random
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.deploy.test_model import CASES
from tests.optional import torch

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn
from chainrule.deploy.architecture import layers
from chainrule.errors import ChainruleError, DamagedFileError, SettingError, ShapeError

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from tests.interop.onnx.test_export import LOOPS, LOSSES, OPS, POINTWISE, Of, inputs_of, ours, session  # noqa: E402

from chainrule.interop.onnx import export, load  # noqa: E402
from chainrule.interop.onnx.operators import BY_MODE, OPERATORS  # noqa: E402

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)
X = rng.normal(size=(6, 4, 3)).astype("f")


def alike(made: Any, *inputs: Array, rtol: float = 2e-5, atol: float = 2e-6) -> nn.Module:
    """The module of a graph, which gives what onnxruntime does, eager and compiled."""
    module = load(made.SerializeToString())
    compiled = cr.compile(module)
    expected = session(made)(*inputs)
    for model in (module, compiled):
        for want, found in zip(expected, ours(model, *inputs), strict=True):
            assert found.dtype == want.dtype and found.shape == want.shape
            np.testing.assert_allclose(found, want, rtol=rtol, atol=atol)
    return module


# -- round trips -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_every_layer_comes_back(name: str, given: dict[str, Any]) -> None:
    layer: Any = layers()[name][0](**given)
    if name in LOSSES | {"MultiheadAttention"} or (name == "BatchNorm1d" and not layer.track_running_stats):
        return
    inputs = inputs_of(name, layer)
    made = export(layer, tuple(inputs))
    module = load(made)
    assert {n: v.numpy().tolist() for n, v in module.state_dict().items()} == {
        n: p.detach().numpy().tolist() for n, p in layer.named_parameters() if p.numel()
    }
    for expected, found in zip(ours(layer, *inputs), ours(module, *inputs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=3e-6, atol=2e-6 if name not in POINTWISE else 1e-37)


@pytest.mark.parametrize("name", list(OPS))
def test_every_op_comes_back(name: str) -> None:
    function, inputs = OPS[name]
    few = tuple(x[:5] for x in inputs)
    module = load(export(Of(function), few))
    for expected, found in zip(ours(Of(function), *few), ours(module, *few), strict=True):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", list(LOOPS))
def test_every_loop_comes_back(name: str) -> None:
    alike(export(Of(LOOPS[name]), cr.zeros(2, 4, 3)), X)


def test_a_network_is_trained_on(tmp_path: Path) -> None:
    """With the same steps as the network that it came from."""
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
    export(model, cr.zeros(1, 3), tmp_path / "model.onnx")
    module = load(tmp_path / "model.onnx")
    assert not module.training and all(p.requires_grad for p in module.parameters())
    rows, y = X[:, 0], np.array([0, 1, 0, 1, 1, 0])
    losses = []
    for net in (model, module):
        trainer = cr.Trainer(net, F.cross_entropy, cr.optim.Adam(net.parameters(), lr=0.05))
        trainer.fit(rows, y, epochs=20, batch_size=3, seed=0, progress=False)
        losses.append(trainer.history["loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    model.load_state_dict(module.state_dict())  # the names are the same
    cr.save_model(module, tmp_path / "weights")
    again = cr.load_model(tmp_path / "weights", load(tmp_path / "model.onnx"))
    np.testing.assert_array_equal(ours(again, rows)[0], ours(module, rows)[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_what_pytorch_exports(norm: str, tmp_path: Path) -> None:
    tn = torch.nn
    between = {"batch": tn.BatchNorm1d(16), "layer": tn.LayerNorm(16), "none": tn.Identity()}[norm]
    theirs = tn.Sequential(
        tn.Linear(3, 16), between, tn.GELU(), tn.Dropout(0.1), tn.Linear(16, 8), tn.SELU(), tn.Linear(8, 8), tn.Hardswish(),
        tn.Linear(8, 6), tn.LeakyReLU(), tn.Unflatten(1, (2, 3)), tn.Flatten(), tn.Linear(6, 4), tn.Softmax(1),
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.uniform_(-0.7, 0.7)
    path = tmp_path / "theirs.onnx"
    try:
        torch.onnx.export(
            theirs,
            torch.zeros(2, 3),
            str(path),
            dynamo=False,
            dynamic_axes={"input": {0: "batch"}},
            input_names=["input"],
        )
    except Exception as error:
        pytest.skip(f"PyTorch cannot export here: {error}")
    module = load(path)
    rows = rng.normal(size=(9, 3)).astype("f")
    with torch.no_grad():
        expected = theirs(torch.tensor(rows)).numpy()
    np.testing.assert_allclose(ours(module, rows)[0], expected, rtol=1e-5, atol=1e-6)
    names = set(theirs.state_dict()) - {"1.num_batches_tracked"}
    assert set(module.state_dict()) == names


# -- recurrences -------------------------------------------------------------------------------------------

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrence(kind: str, direction: str = "forward", bias: bool = True, begin: bool = False, **attributes: Any) -> Any:
    """A graph of one recurrence from 3 numbers to 2, over (4, 6, 3), and its inputs."""
    ways, gates, states = 2 if direction == "bidirectional" else 1, GATES[kind], 2 if kind == "LSTM" else 1
    weights = [rng.normal(size=(ways, gates * 2, n)).astype("f") for n in (3, 2)]
    shift = (rng.normal(size=(ways, gates * 4)).astype("f"),) if bias else None
    first = [rng.normal(size=(ways, 6, 2)).astype("f") for _ in range(states)] if begin else []
    return graph(
        kind, X.transpose(1, 0, 2).copy(), *((w,) for w in weights), shift, None, *first,
        results=1 + states, direction=direction, hidden_size=2, **attributes,
    )  # fmt: skip


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", list(GATES))
def test_recurrences_give_what_onnxruntime_gives(kind: str, direction: str) -> None:
    for further in ({}, {"bias": False}, {"begin": True}):
        made, given = recurrence(kind, direction, **further)  # type: ignore[arg-type]
        alike(made, *given)


def test_forms_of_recurrences() -> None:
    for form in ({"kind": "GRU", "linear_before_reset": 1}, {"kind": "RNN", "activations": ["Relu"]}):
        made, given = recurrence(**form)  # type: ignore[arg-type]
        alike(made, *given)


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"activations": ["Sigmoid"]}, "has the activations sigmoid, and here it is tanh or relu"),
        (
            {"kind": "GRU", "activations": ["Sigmoid", "Relu"]},
            "has the activations sigmoid, relu, and here they are sigmoid, tanh",
        ),
        ({"clip": 1.0}, "has clip=1.0, which is not supported"),
    ],
)
def test_other_recurrences_are_named(attributes: dict[str, Any], why: str) -> None:
    made, given = recurrence(**{"kind": "RNN", **attributes})
    with pytest.raises(SettingError) as told:
        load(made)(*map(cr.tensor, given))
    kind = attributes.get("kind", "RNN")
    assert str(told.value) == f"onnx.load: the node 'the node' ({kind}) {why}. Export the model without it."


def test_a_scan_both_ways_is_named() -> None:
    made = export(Of(lambda x: cr.scan(lambda c, z: (c + z, c), x[0], x)), cr.zeros(4, 3), dynamic_axes={})
    (node,) = [node for node in made.graph.node if node.op_type == "Scan"]
    (ways,) = [each for each in node.attribute if each.name == "scan_output_directions"]
    ways.ints[:] = [1]
    with pytest.raises(
        SettingError, match=r"\(Scan\) goes some arrays from the front and others from the back\. Export the model"
    ):
        load(made)(cr.zeros(4, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", list(GATES))
def test_recurrences_that_pytorch_exports(kind: str, tmp_path: Path) -> None:
    theirs = getattr(torch.nn, kind)(3, 5, num_layers=2, bidirectional=True, batch_first=True).eval()
    path = tmp_path / "theirs.onnx"
    try:
        torch.onnx.export(
            theirs, torch.zeros(2, 4, 3), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
        )
    except Exception as error:
        pytest.skip(f"PyTorch cannot export here: {error}")
    with torch.no_grad():
        expected, last = theirs(torch.tensor(X))
    states = last if kind == "LSTM" else [last]
    for found, want in zip(ours(load(path), X), [expected, *states], strict=True):
        np.testing.assert_allclose(found, want.numpy(), rtol=1e-5, atol=1e-6)


# -- operators, one by one ---------------------------------------------------------------------------------


def graph(kind: str, *values: Any, results: int = 1, opset: int = 18, **attributes: Any) -> tuple[Any, list[Array]]:
    """A graph of one node; arrays of floats are its inputs, whatever stands in a tuple is an initializer, None is left out."""
    inputs, initializers, names, given = [], [], [], []
    for i, value in enumerate(values):
        name = "" if value is None else f"v{i}"
        names.append(name)
        if isinstance(value, tuple):
            initializers.append(numpy_helper.from_array(np.array(value[0]), name))
        elif value is not None:
            inputs.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            )
            given.append(value)
    outputs = [f"out{i}" for i in range(results)]
    node = helper.make_node(kind, names, outputs, name="the node", **attributes)
    like = [TensorProto.FLOAT, X.shape] if kind == "GroupNormalization" else [TensorProto.UNDEFINED, None]
    types = [helper.make_tensor_value_info(name, *like) for name in outputs]
    made = helper.make_model(
        helper.make_graph([node], "g", inputs, types, initializers),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )
    return onnx.shape_inference.infer_shapes(made), given


INFINITE = np.array([-np.inf, np.inf, 1.0, np.nan, -0.0], "f")
POSITIVE, WHOLE, FLAT = np.abs(X) + 0.1, rng.integers(-5, 6, (6, 4)), X[:, :, 0]
NODES: dict[str, tuple[Any, ...]] = {
    **{name: (name, X) for name in (
        "Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "HardSwish", "Identity", "IsNaN", "IsInf", "Mish", "Neg", "Reciprocal", "Relu", "Round",
        "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Tanh", "Softmax", "LogSoftmax", "Celu", "Elu", "HardSigmoid", "LeakyRelu",
    )},
    "Conv": ("Conv", np.linspace(-1, 1, 140, dtype="f").reshape(1, 4, 5, 7), (np.linspace(-1, 1, 24, dtype="f").reshape(2, 2, 2, 3),), (np.array([0.5, 1], "f"),), {"group": 2, "strides": [2, 1], "pads": [1, 0, 2, 1], "dilations": [1, 2]}),
    "ConvTranspose": ("ConvTranspose", np.linspace(-1, 1, 140, dtype="f").reshape(1, 4, 5, 7), (np.linspace(-1, 1, 48, dtype="f").reshape(4, 2, 2, 3),), (np.array([0.5, 1, 2, 3], "f"),), {"group": 2, "strides": [3, 2], "pads": [1, 0, 2, 1], "dilations": [1, 2], "output_padding": [2, 1]}),
    "ConvTranspose plain": ("ConvTranspose", X[:, :, :], (np.linspace(-1, 1, 24, dtype="f").reshape(4, 3, 2),)),
    "Log": ("Log", POSITIVE), "Sqrt": ("Sqrt", POSITIVE), "Pow": ("Pow", POSITIVE, (np.float32(1.5),)), "Pow by whole": ("Pow", X, (2,)),
    "Elu alpha": ("Elu", X, {"alpha": 0.3}), "Celu alpha": ("Celu", X, {"alpha": 0.3}), "HardSigmoid b": ("HardSigmoid", X, {"alpha": 0.1, "beta": 0.7}),
    "Softmax 1": ("Softmax", X, {"axis": 1}), "LogSoftmax 0": ("LogSoftmax", X, {"axis": 0}), "PRelu": ("PRelu", X, (np.array([0.1, 0.2, 0.3], "f"),)),
    "Clip": ("Clip", X, (np.float32(-0.5),), (np.float32(0.5),)), "Clip above": ("Clip", X, None, (np.float32(0.5),)), "Clip no": ("Clip", X),
    "Add": ("Add", X, X[::-1].copy()), "Sub": ("Sub", X, (X[0],)), "Mul": ("Mul", X, X), "Div": ("Div", X, POSITIVE), "Div whole": ("Div", WHOLE, (np.array(3),)),
    "Mod": ("Mod", WHOLE, (np.array(3),)), "Mod c": ("Mod", X, POSITIVE, {"fmod": 1}), "Max": ("Max", X, X[::-1].copy(), (np.float32(0.1),)),
    "Min": ("Min", X, X[::-1].copy()), "Sum": ("Sum", X, X, X), "Mean": ("Mean", X, X[::-1].copy()), "Equal": ("Equal", WHOLE, (np.array(1),)),
    "Greater": ("Greater", X, (np.float32(0),)), "GreaterOrEqual": ("GreaterOrEqual", WHOLE, (np.array(1),)), "Less": ("Less", X, (np.float32(0),)),
    "LessOrEqual": ("LessOrEqual", WHOLE, (np.array(1),)), "And": ("And", X > 0, X < 1), "Or": ("Or", X > 0, X < 1), "Xor": ("Xor", X > 0, X < 1),
    "Not": ("Not", X > 0), "Where": ("Where", X > 0, X, (np.float32(7),)), "Cast": ("Cast", X, {"to": TensorProto.INT32}),
    "CastLike": ("CastLike", WHOLE, X), "BitwiseAnd": ("BitwiseAnd", WHOLE, WHOLE + 1), "BitwiseOr": ("BitwiseOr", WHOLE, WHOLE + 1),
    "BitwiseXor": ("BitwiseXor", WHOLE, WHOLE + 1), "BitwiseNot": ("BitwiseNot", WHOLE),
    "MatMul": ("MatMul", X, (rng.normal(size=(3, 5)).astype("f"),)), "Gemm": ("Gemm", FLAT, (rng.normal(size=(5, 4)).astype("f"),), (np.ones(5, "f"),), {"transB": 1}),
    "Gemm all": ("Gemm", FLAT.T.copy(), (rng.normal(size=(4, 5)).astype("f"),), (np.ones((6, 5), "f"),), {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    "Gemm without": ("Gemm", FLAT, (rng.normal(size=(4, 5)).astype("f"),)),
    "BatchNormalization": ("BatchNormalization", X, *((v,) for v in (np.full(4, 2, "f"), np.ones(4, "f"), np.full(4, 0.1, "f"), np.full(4, 3, "f"))), {"epsilon": 1e-3}),
    "LayerNormalization": ("LayerNormalization", X, (np.full(3, 2, "f"),), (np.ones(3, "f"),)),
    "LayerNormalization 1": ("LayerNormalization", X, (np.full((4, 3), 2, "f"),), {"axis": 1, "epsilon": 0.1}),
    "InstanceNormalization": ("InstanceNormalization", X, (np.full(4, 2, "f"),), (np.ones(4, "f"),)), "Dropout": ("Dropout", X, (np.float32(0.3),)),
    **{f"{name} {i}": (name, X, axes, {"keepdims": keep}) for name in (
        "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare",
    ) for i, (axes, keep) in enumerate([((np.array([1]),), 1), ((np.array([-1, 1]),), 0), (None, 0)])},
    "ReduceSum nothing": ("ReduceSum", X, (np.array([], np.int64),), {"noop_with_empty_axes": 1}),
    "ArgMax": ("ArgMax", X, {"axis": 1}), "ArgMin": ("ArgMin", X, {"axis": -1, "keepdims": 0}), "CumSum": ("CumSum", X, (np.array(1),)),
    "Reshape": ("Reshape", X, (np.array([0, -1]),)), "Reshape 3": ("Reshape", X, (np.array([2, 3, -1]),)), "Flatten": ("Flatten", X), "Flatten 2": ("Flatten", X, {"axis": 2}),
    "Transpose": ("Transpose", X), "Transpose p": ("Transpose", X, {"perm": [1, 0, 2]}), "Squeeze": ("Squeeze", X[:, :1], (np.array([1]),)),
    "Squeeze all": ("Squeeze", X[:1, :, :1]), "Unsqueeze": ("Unsqueeze", X, (np.array([0, -1]),)), "Expand": ("Expand", X[:, :1], (np.array([2, 6, 4, 3]),)),
    "Concat": ("Concat", X, X, {"axis": 1}), "Split": ("Split", X, (np.array([1, 3]),), {"axis": 1, "results": 2}), "Split 2": ("Split", X, {"axis": 0, "num_outputs": 4, "results": 4}),
    "Slice": ("Slice", X, (np.array([1, 0]),), (np.array([-1, 99]),), (np.array([1, 0]),), (np.array([1, 2]),)),
    "Slice back": ("Slice", X, (np.array([-1]),), (np.array([-99]),), (np.array([1]),), (np.array([-1]),)),
    "Slice back 2": ("Slice", X, (np.array([4]),), (np.array([0]),), (np.array([0]),), (np.array([-2]),)),
    "Slice none": ("Slice", X, (np.array([3]),), (np.array([1]),)), "Pad": ("Pad", X, (np.array([0, 1, 0, 2, 0, 1]),), (np.float32(3),)),
    "Pad axes": ("Pad", X, (np.array([1, 2]),), None, (np.array([-1]),)), "Gather": ("Gather", X, (np.array([[0, -1], [2, 1]]),)),
    "Gather 1": ("Gather", X, (np.array([[0, 3], [2, 1]]),), {"axis": 1}), "Gather one": ("Gather", X, (np.array(2),), {"axis": 1}),
    "GatherElements": ("GatherElements", FLAT, WHOLE % 4 - 2, {"axis": 1}), "GatherND": ("GatherND", X, (np.array([[0, 1], [-1, 2]]),)),
    "ScatterND": ("ScatterND", FLAT, (np.array([[0, 1], [2, 2]]),), (np.ones(2, "f"),)),
    "ScatterND add": ("ScatterND", FLAT, (np.array([[0, 1], [0, 1]]),), (np.ones(2, "f"),), {"reduction": "add"}),
    "Tile": ("Tile", X, (np.array([1, 2, 3]),)), "Range": ("Range", (np.array(1),), (np.array(9),), (np.array(3),)), "ConstantOfShape": ("ConstantOfShape", (np.array([2, 3]),)),
    "Gelu": ("Gelu", X, {"opset": 20}), "Gelu tanh": ("Gelu", X, {"opset": 20, "approximate": "tanh"}),
    "Selu of its own": ("Selu", X, {"alpha": 2.0, "gamma": 3.0}), "Selu gamma": ("Selu", X, {"gamma": 3.0}), "Pow of whole": ("Pow", WHOLE**2, (np.float32(0.5),)),
    **{f"IsInf {side}": ("IsInf", INFINITE, {side: 0}) for side in ("detect_positive", "detect_negative")}, "IsInf both": ("IsInf", INFINITE),
    "Mod whole c": ("Mod", WHOLE, (np.array(3),), {"fmod": 1}), "Range of floats": ("Range", *((np.float32(v),) for v in (0.5, 4.5, 0.75))),
    **{f"{name} whole": (name, WHOLE.astype(np.int32), (np.array([1]),)) for name in ("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMean", "ReduceL1")},
    "CumSum whole": ("CumSum", WHOLE.astype(np.int32), (np.array(1),)),
    "GroupNormalization": ("GroupNormalization", X, (np.full(4, 2, "f"),), (np.ones(4, "f"),), {"opset": 21, "num_groups": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", list(NODES))
def test_an_operator_gives_what_onnxruntime_gives(name: str) -> None:
    kind, *values = NODES[name]
    attributes = values.pop() if values and isinstance(values[-1], dict) else {}
    made, given = graph(kind, *values, **attributes)
    alike(made, *given, rtol=1e-4 if kind == "ReduceProd" else 2e-5)


def test_every_operator_is_tried() -> None:
    tried = {kind for kind, *_ in NODES.values()}
    assert {*OPERATORS, *BY_MODE} - tried == {"RMSNormalization"}  # which this onnxruntime may not have


def test_batch_norm_and_dropout_follow_the_mode() -> None:
    made, given = graph(*NODES["BatchNormalization"][:-1])
    module = load(made).train()
    before = module.v3.numpy().copy()
    module(cr.tensor(given[0]))
    assert (module.v3.numpy() != before).any()
    np.testing.assert_allclose(module.v3.numpy(), 0.9 * before + 0.1 * given[0].mean((0, 2)), rtol=1e-5)
    made, given = graph(*NODES["Dropout"])
    assert (load(made).train()(cr.ones(1000)).numpy() == 0).any() and (load(made)(cr.ones(9)).numpy() == 1).all()


def test_sizes_are_computed() -> None:
    """A shape taken apart and put together, as exporters write it."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]), helper.make_node("Gather", ["shape", "zero"], ["n"], axis=0),
        helper.make_node("Unsqueeze", ["n", "first"], ["n1"]), helper.make_node("Concat", ["n1", "rest"], ["sizes"], axis=0),
        helper.make_node("Reshape", ["x", "sizes"], ["y"]),
    ]  # fmt: skip
    values = [numpy_helper.from_array(np.array(v), n) for n, v in (("zero", 0), ("first", [0]), ("rest", [12]))]
    entries = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, shape)
        for n, shape in (("x", ["n", 4, 3]), ("y", ["n", 12]))
    ]
    made = helper.make_model(
        helper.make_graph(nodes, "g", entries[:1], entries[1:], values),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    alike(made, X)
    alike(made, X[:2])


# -- what cannot be ----------------------------------------------------------------------------------------


def test_what_is_not_supported_is_named(tmp_path: Path) -> None:
    made, _ = graph("NonZero", X)
    with pytest.raises(
        SettingError,
        match=r"the bytes has operators that chainrule does not have: NonZero \(node 'the node'\)\. There are: Abs",
    ):
        load(made.SerializeToString())
    made, _ = graph("Pad", X, (np.array([0, 1, 0, 0, 1, 0]),), mode="reflect")
    with pytest.raises(
        SettingError,
        match=r"onnx.load: the node 'the node' \(Pad\) pads by values of its input.*Export the model without it",
    ):
        load(made)(cr.tensor(X))
    made, _ = graph("Reshape", X, np.array([6, 12]))
    with pytest.raises(SettingError, match=r"takes a shape from values that are computed; here they must be known"):
        load(made)(cr.tensor(X), cr.tensor([6, 12]))
    made, _ = graph("Relu", X, opset=11)
    with pytest.raises(SettingError, match="the model is of opset 11; read are 13 and later"):
        load(made)
    made, _ = graph("Relu", X)
    with pytest.raises(ShapeError, match="OnnxModule: the graph has the inputs v0, got 2. Pass one for each"):
        load(made)(cr.tensor(X), cr.tensor(X))


def test_weights_in_other_files_are_not_read(tmp_path: Path) -> None:
    made, _ = graph("MatMul", X, (np.ones((3, 500), "f"),))
    onnx.save(made, tmp_path / "a.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    with pytest.raises((SettingError, DamagedFileError), match="keeps 'v1' in another file|not a complete ONNX file"):
        load(tmp_path / "a.onnx")


def test_files_that_are_damaged(tmp_path: Path) -> None:
    """Cut, with bytes changed, of another kind: one of our errors, or a module that runs or says why not."""
    made = export(nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)), cr.zeros(1, 3))
    data, draw, seen = made.SerializeToString(), random.Random(0), set()
    (tmp_path / "text").write_text("no model\n" * 50)
    with pytest.raises(DamagedFileError, match=re.escape(f"{tmp_path / 'text'}: not")):
        load(tmp_path / "text")
    with pytest.raises(DamagedFileError, match="there is no such file"):
        load(tmp_path / "missing")
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(draw.choice([1, 1, 3, 20])):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        cut = bytes(changed[: draw.choice([len(changed), len(changed), draw.randrange(len(changed))])])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                load(cut)(cr.zeros(2, 3))
        except ChainruleError as error:
            seen.add(type(error).__name__)
    assert {"DamagedFileError"} <= seen
