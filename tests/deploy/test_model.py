"""Model files: every layer of ours comes back as it was; what is not ours, or not whole, is refused and nothing changed."""

from __future__ import annotations

import inspect
import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.deploy.architecture import CONTAINERS, HOLDERS, layers
from chainrule.errors import DamagedFileError, SettingError, StateDictError
from chainrule.nn import functional as F
from chainrule.tensor.random import default_generator
from chainrule.training import load_file, save_file

# Arguments that are worth trying; other layers are made with none but those that they need.
NEEDED = {"int": 4, "float": 0.5, "bool": True, "Sequence[int]": [2, 2]}
WIDTHS: dict[str, Any] = {"d_model": 4, "nhead": 2, "dim_feedforward": 3}
ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "Linear": [{"in_features": 3, "out_features": 2}, {"in_features": 1, "out_features": 1, "bias": False, "dtype": "float64"}],
    "Conv1d": [{"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": "same", "groups": 2}],
    "Conv2d": [{"in_channels": 4, "out_channels": 3, "kernel_size": (3, 2), "stride": 2, "padding": (2, 1), "bias": False}, {"in_channels": 4, "out_channels": 4, "kernel_size": 2, "dilation": 2, "groups": 4}],
    "Conv3d": [{"in_channels": 4, "out_channels": 2, "kernel_size": 2, "padding": 1}],
    **{f"{kind}Pool{n}d": [{"kernel_size": 2, "stride": 1}] for kind in ("Max", "Avg") for n in (1, 3)},
    **{f"ConvTranspose{n}d": [{"in_channels": 4, "out_channels": 6, "kernel_size": 3, "stride": 2, "output_padding": 1, "groups": 2}] for n in (1, 2, 3)},
    **{f"Adaptive{kind}Pool{n}d": [{"output_size": 3}, {"output_size": (None,) * (n - 1) + (2,)}] for kind in ("Max", "Avg") for n in (1, 2, 3)},
    "CTCLoss": [{"blank": 2, "zero_infinity": True}],
    "Unfold": [{"kernel_size": (2, 3), "padding": 1}], "Fold": [{"output_size": 4, "kernel_size": 2, "stride": (1, 2)}],
    "Upsample": [{"scale_factor": (2.5, 2), "mode": "bilinear", "align_corners": True}, {"size": 7}], "UpsamplingNearest2d": [{"size": (3, 4)}], "UpsamplingBilinear2d": [{"scale_factor": 2}],
    **{f"Transformer{kind}Layer": [{**WIDTHS, "activation": F.gelu, "norm_first": True}, {**WIDTHS, "activation": nn.SELU(), "bias": False, "batch_first": True, "dtype": "float64"}] for kind in ("Encoder", "Decoder")},
    "TransformerEncoder": [{"encoder_layer": nn.TransformerEncoderLayer(**WIDTHS), "num_layers": 2, "norm": nn.LayerNorm(4)}],
    "TransformerDecoder": [{"decoder_layer": nn.TransformerDecoderLayer(**WIDTHS), "num_layers": 1}],
    "Transformer": [{**WIDTHS, "num_encoder_layers": 1, "num_decoder_layers": 2, "batch_first": True}],
    **{name: [{"weight": cr.tensor([0.5, 2.0]), "reduction": "sum"}, {}] for name in ("BCELoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss")},
    "MaxPool2d": [{"kernel_size": (2, 3), "padding": (1, 0), "dilation": 2}], "AvgPool2d": [{"kernel_size": 2}, {"kernel_size": 2, "padding": 1, "count_include_pad": False}],
    "MultiheadAttention": [{"embed_dim": 4, "num_heads": 2}, {"embed_dim": 4, "num_heads": 1, "bias": False}],
    **{name: [{"input_size": 3, "hidden_size": 2, "bias": bias} for bias in (True, False)] for name in ("RNNCell", "GRUCell", "LSTMCell")},
    "Bilinear": [{"in1_features": 3, "in2_features": 2, "out_features": 4}],
    "Embedding": [{"num_embeddings": 5, "embedding_dim": 2, "padding_idx": -1}],
    "EmbeddingBag": [{"num_embeddings": 5, "embedding_dim": 2, "mode": "max", "include_last_offset": True}],
    "LayerNorm": [{"normalized_shape": (2, 3), "eps": 1e-3}, {"normalized_shape": 4, "elementwise_affine": False}],
    "RMSNorm": [{"normalized_shape": 3}, {"normalized_shape": [3], "eps": 0.1, "elementwise_affine": False}],
    "GroupNorm": [{"num_groups": 2, "num_channels": 4, "bias": False}, {"num_groups": 1, "num_channels": 3, "affine": False}],
    "BatchNorm1d": [{"num_features": 3, "momentum": None}, {"num_features": 2, "affine": False, "track_running_stats": False}],
    "InstanceNorm1d": [{"num_features": 3, "affine": True}, {"num_features": 3, "track_running_stats": True}],
    "Inputs": [{"numbers": 3, "plain": 2, "sizes": (5, 4)}, {"numbers": 0, "plain": 4, "dtype": "float64"}],
    "Blend": [{"activation": nn.SELU(), "features": 4}], "FadingDropout": [{"p": 0.1, "steps": 9}],
    "PReLU": [{"num_parameters": 3, "init": 0.1}], "GELU": [{"approximate": "tanh"}], "LeakyReLU": [{"negative_slope": 0.3}],
    "LogSoftmax": [{"dim": 1}], "Softmax": [{"dim": 1}], "Softmin": [{"dim": 1}], "Threshold": [{"threshold": 0.1, "value": 20, "inplace": True}],
    "Dropout": [{"p": 0.25}], "Unflatten": [{"dim": 1, "unflattened_size": (2, -1)}], "Flatten": [{"start_dim": 0}],
    "ConstantPad1d": [{"padding": (1, 2), "value": 0.5}], "ZeroPad1d": [{"padding": 2}], "Noise": [{"std": 0.1}],
}  # fmt: skip


def needed(kind: type[nn.Module], kinds: dict[str, str]) -> dict[str, Any]:
    """Arguments without which there is no such layer."""
    parameters = inspect.signature(kind.__init__).parameters
    return {
        name: NEEDED[kinds[name].partition(" |")[0]]
        for name in kinds
        if parameters[name].default is inspect.Parameter.empty
    }


CASES = [(name, given) for name in sorted(layers()) for given in ARGUMENTS.get(name) or [needed(*layers()[name])]]


def test_weights_are_loaded_into_an_object(tmp_path: Path) -> None:
    cr.save_model(nn.Linear(4, 3), tmp_path / "m")
    for given, came in ((nn.Linear, "the class Linear"), ("m", "str")):
        for read in (cr.load_model, cr.load_bundle):
            with pytest.raises(SettingError) as caught:
                read(tmp_path / "m", given)  # type: ignore[arg-type]
            name = read.__name__
            assert str(caught.value) == (
                f"{name}: model must be an nn.Module to load the weights into, got {came}. Build one as it was and pass "
                f"it: cr.{name}(path, model)."
            )


def again(model: nn.Module, path: Path) -> Any:
    """The model from the file that it was saved to."""
    cr.save_model(model, path)
    return cr.load_model(path)


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_every_layer_comes_back(name: str, given: dict[str, Any], tmp_path: Path) -> None:
    layer = layers()[name][0](**given)
    found = again(layer, tmp_path / "model")
    assert type(found) is type(layer) and repr(found) == repr(layer)
    assert [type(m) for m in found.modules()] == [type(m) for m in layer.modules()]
    plain = {k: v for k, v in vars(layer).items() if k[0] != "_"}
    assert plain == {k: v for k, v in vars(found).items() if k[0] != "_"}
    mine, its = layer.state_dict(), found.state_dict()
    assert list(mine) == list(its)
    assert all(mine[k].dtype is its[k].dtype and mine[k].numpy().tobytes() == its[k].numpy().tobytes() for k in mine)


@pytest.mark.parametrize(("name", "given"), CASES, ids=[f"{n}-{i}" for i, (n, _) in enumerate(CASES)])
def test_no_layer_takes_more_memory_than_its_file_has_numbers(name: str, given: dict[str, Any], tmp_path: Path) -> None:
    """Whatever number of a description is made large."""
    layer = layers()[name][0](**given)
    if not any(value.numel() > 1 for value in layer.state_dict().values()):
        return
    cr.save_model(layer, tmp_path / "model")
    if "modules" in load_file(tmp_path / "model")[1]["architecture"]:
        return  # of layers, each of which is asked
    tensors, meta = load_file(tmp_path / "model")
    for argument, value in meta["architecture"]["arguments"].items():
        if (
            isinstance(value, bool)
            or not value
            or not isinstance(value, (int, list))
            or argument
            in ("padding_idx", "plain", "stride", "padding", "output_padding", "dilation", "ignore_index", "p")
        ):
            continue
        large = value * 10**9 if isinstance(value, int) else [n * 10**9 for n in value]
        arguments = {**meta["architecture"]["arguments"], argument: large}
        save_file(tensors, tmp_path / "model", {**meta, "architecture": {"layer": name, "arguments": arguments}})
        with pytest.raises(
            DamagedFileError,
            match="numbers, and has|cannot be: (GroupNorm: num_groups must divide|MultiheadAttention: embed_dim must be a multiple|Conv(Transpose)?.d: .* must be a multiple)",
        ):
            cr.load_model(tmp_path / "model")


def test_no_layer_is_left_out() -> None:
    """Everything that stands in `nn`, but for the class of all modules and layers that wait for a size."""
    modules = [n for n in nn.__all__ if inspect.isclass(getattr(nn, n)) and issubclass(getattr(nn, n), nn.Module)]
    lazy = [
        n for n in modules if n.startswith("Lazy")
    ]  # without values, before their first call gives them another class
    assert sorted(set(modules) - set(layers()) - set(CONTAINERS) - set(HOLDERS)) == sorted([*lazy, "Module"])


@pytest.mark.parametrize(
    "given", [nn.ParameterList([cr.ones(2), cr.zeros(1, 3)]), nn.ParameterDict({"b": cr.ones(2, dtype=cr.float64), "a": cr.zeros(0)})], ids=repr
)  # fmt: skip
def test_parameters_alone_come_back(given: Any, tmp_path: Path) -> None:
    found = again(nn.Sequential(given), tmp_path / "model")[0]
    assert type(found) is type(given) and repr(found) == repr(given)
    assert [p.tolist() for p in found.parameters()] == [p.tolist() for p in given.parameters()]


def test_a_transformer_comes_back_with_what_was_changed_in_it(tmp_path: Path) -> None:
    model = nn.Transformer(**WIDTHS, num_encoder_layers=2, num_decoder_layers=1)
    model.encoder.layers[1].dropout.p = 0.75
    model.encoder.layers[0].norm2 = nn.Identity()
    model.decoder.layers[0].self_attn.requires_grad_(False)
    model.decoder.eval()
    found: Any = again(model, tmp_path / "model")
    assert repr(found) == repr(model)
    assert [p.requires_grad for p in found.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [m.training for m in found.modules()] == [m.training for m in model.modules()]
    x, y = cr.randn(5, 2, 4), cr.randn(3, 2, 4)
    assert found.eval()(x, y).tolist() == model.eval()(x, y).tolist()


def test_a_weight_of_a_loss_is_the_files(tmp_path: Path) -> None:
    model = nn.CrossEntropyLoss(cr.tensor([1.0, 3.0]))
    found: Any = again(model, tmp_path / "model")
    x, y = cr.randn(4, 2), cr.tensor([0, 1, 1, 0])
    assert found(x, y).item() == model(x, y).item()


def test_an_activation_that_no_file_can_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        SettingError, match=r"TransformerEncoderLayer '0': activation must be one of nn\.functional's relu, gelu, "
    ):
        cr.save_model(nn.Sequential(nn.TransformerEncoderLayer(**WIDTHS, activation=lambda x: x)), tmp_path / "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["modules"].pop(0), "describes a TransformerEncoderLayer that cannot be: it has activation, dropout, "),
        (lambda a: a["modules"].append(["more", a["modules"][1][1]]), "cannot be: it has activation, "),
        (lambda a: a["arguments"].pop("norm_first"), "cannot be: it has activation, "),
        (lambda a: a["arguments"].update(activation="linear"), "activation must be one of nn.functional's relu"),
        (lambda a: a["arguments"].update(forward=1), "nothing is known of ['forward']"),
        (lambda a: a["modules"][1][1]["arguments"].update(out_features=10**9), "describes a layer of 4,000,000,000 numbers, and has 15"),
    ],
)  # fmt: skip
def test_a_description_of_a_composed_layer_that_cannot_be_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    cr.save_model(nn.TransformerEncoderLayer(**WIDTHS), tmp_path / "model")
    changed(tmp_path / "model", lambda m: change(m["architecture"]))
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        cr.load_model(tmp_path / "model")


@pytest.mark.parametrize(
    ("model", "change", "message"),
    [
        (nn.NLLLoss(cr.ones(2)), lambda a: a.update(weight=0.5), "weight must be true or none, got 0.5"),
        (nn.NLLLoss(), lambda a: a.update(weight=True), "describes a layer with the tensor 'weight', which it does not have"),
        (nn.ParameterList([cr.ones(2)]), lambda a: a.update({"1": True}), "describes a layer with the tensor '1', which it does not have"),
        (nn.ParameterList([cr.ones(2)]), lambda a: a.update({"x": True}), "arguments must be numbered from 0 on, got ['0', 'x']"),
        (nn.ParameterDict({"a": cr.ones(2)}), lambda a: a.pop("a"), "its tensors are not those of its architecture"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_in_the_file_are_refused(model: Any, change: Any, message: str, tmp_path: Path) -> None:
    cr.save_model(model, tmp_path / "model")
    changed(tmp_path / "model", lambda m: change(m["architecture"]["arguments"]))
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        cr.load_model(tmp_path / "model")


def deep() -> Any:
    """A model with names, a module that stands twice, a weight that two share, and a frozen part."""
    twice = nn.Linear(4, 4)
    model = nn.Sequential(
        OrderedDict(
            first=twice, act=nn.GELU("tanh"), again=twice, norm=nn.BatchNorm1d(4), last=nn.Sequential(nn.Linear(4, 4))
        )
    )
    model.last[0].weight = twice.weight
    model.norm.requires_grad_(False)
    model.norm.eval()
    return model


def test_names_modes_sharing_and_what_is_frozen_come_back(tmp_path: Path) -> None:
    model = deep()
    state = default_generator.get_state().tolist()
    found = again(model, tmp_path / "model")
    assert default_generator.get_state().tolist() == state, "building draws no numbers of the process's"
    assert found.first is found.again and found.last[0].weight is found.first.weight
    assert [m.training for m in found.modules()] == [m.training for m in model.modules()]
    assert [p.requires_grad for p in found.parameters()] == [p.requires_grad for p in model.parameters()]
    x = cr.randn(5, 4)
    assert (found(x).detach().numpy() == model(x).detach().numpy()).all()
    found(x).sum().backward()  # and it can be trained


def test_a_setting_that_was_changed_is_saved_as_it_is_now(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.LeakyReLU())
    model[0].p, model[1].negative_slope = 0.1, np.float64(0.2)
    found = again(model, tmp_path / "model")
    assert (found[0].p, found[1].negative_slope) == (0.1, 0.2)


def test_a_compiled_model_is_saved_as_what_it_was_made_of(tmp_path: Path) -> None:
    found = again(cr.compile(nn.Sequential(nn.Linear(2, 2))), tmp_path / "model")
    assert type(found) is nn.Sequential
    model = cr.compile(nn.Sequential(nn.Linear(2, 2)))
    assert cr.load_model(tmp_path / "model", model) is model
    assert (model[0].weight.detach().numpy() == found[0].weight.detach().numpy()).all()


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 2)


class Linear(nn.Linear):
    """Named like ours, and not ours."""


def test_a_class_of_ones_own_is_loaded_into_a_model(tmp_path: Path) -> None:
    path = tmp_path / "model"
    for model, what in ((Own(), "Own"), (nn.Sequential(Own()), "Own"), (Linear(2, 2), "Linear")):
        cr.save_model(model, path)
        with pytest.raises(SettingError) as caught:
            cr.load_model(path)
        assert str(caught.value) == (
            f"load_model: the {type(model).__name__} in {path} has a layer of the class {what}, which is not chainrule's own, and "
            f"no file can build that without its code. Build the model and pass it: cr.load_model(path, model)."
        )
        other = type(model)(*([Own()] if type(model) is nn.Sequential else [2, 2] if what == "Linear" else []))
        assert cr.load_model(path, other) is other
        mine, its = model.state_dict(), other.state_dict()
        assert all((mine[k].numpy() == its[k].numpy()).all() for k in mine)
    with pytest.raises(StateDictError, match="the state_dict does not fit Linear; nothing was loaded"):
        cr.load_model(path, nn.Linear(3, 2))


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm"])
def test_a_norm_is_put_on_by_code(tmp_path: Path, norm: str) -> None:
    def make() -> nn.Module:
        return nn.Sequential(getattr(nn.utils, norm)(nn.Linear(3, 2)), nn.Tanh())

    model, path, x = make().eval(), tmp_path / "model", cr.ones(1, 3)
    cr.save_model(model, path)
    with pytest.raises(SettingError) as caught:
        cr.load_model(path)
    assert str(caught.value) == (
        f"load_model: the Sequential in {path} has a Linear under nn.utils.{norm}, which no file can put on. Build the model "
        f"with it and pass it: cr.load_model(path, model). Or save it with the norm taken off: nn.utils.remove_{norm}(layer)."
    )
    expected = model(x).tolist()
    assert cr.load_model(path, make().eval())(x).tolist() == expected
    getattr(nn.utils, f"remove_{norm}")(model[0])
    cr.save_model(model, path)
    assert cr.load_model(path)(x)[0].tolist() == pytest.approx(expected[0])


def test_a_forward_of_ones_own_is_noticed(tmp_path: Path) -> None:
    model = nn.Sequential(nn.ReLU())
    object.__setattr__(model[0], "forward", lambda x: -x)
    cr.save_model(model, tmp_path / "model")
    with pytest.raises(SettingError, match="has a layer of the class ReLU, which is not chainrule's own"):
        cr.load_model(tmp_path / "model")


def test_what_no_file_can_hold_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight = nn.Parameter(cr.ones(3, 4))
    with pytest.raises(SettingError, match="this Sequential cannot be built from the arguments of its layers"):
        cr.save_model(model, tmp_path / "x")
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].register_parameter("extra", nn.Parameter(cr.ones(1)))
    with pytest.raises(SettingError, match="Parameters that were added to a layer"):
        cr.save_model(model, tmp_path / "x")
    model = nn.Sequential(nn.ELU(alpha="much"))
    with pytest.raises(SettingError) as caught:
        cr.save_model(model, tmp_path / "x")
    assert str(caught.value) == (
        "save_model: ELU '0': alpha must be a number to stand in a file, got 'much'. Set it to such a value."
    )
    model = nn.Sequential()
    for _ in range(70):
        model = nn.Sequential(model)
    with pytest.raises(SettingError, match="modules must not be nested in more than 64 levels"):
        cr.save_model(model, tmp_path / "x")
    with pytest.raises(SettingError, match="model must be an nn.Module, got OrderedDict. Tensors alone are saved by"):
        cr.save_model(nn.Linear(1, 1).state_dict(), tmp_path / "x")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def changed(path: Path, change: Any) -> None:
    """The file with another description, its checksum right."""
    tensors, meta = load_file(path)
    change(meta)
    save_file(tensors, path, meta)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["architecture"].update(layer="Network"), "describes the layer 'Network', which this version of chainrule"),
        (lambda m: m["architecture"]["arguments"].update(out_features="2"), "out_features must be a whole number, got '2'"),
        (lambda m: m["architecture"]["arguments"].update(out_features=10**9), "describes a layer of 3,000,000,000 numbers, and has 8"),
        (lambda m: m["architecture"]["arguments"].update(out_features=-2), "describes a Linear that cannot be: Linear: out_features"),
        (lambda m: m["architecture"]["arguments"].update(code="import os"), r"nothing is known of ['code']"),
        (lambda m: m["architecture"]["arguments"].update(dtype="float64"), "'bias' must be float64, got float32"),
        (lambda m: m["architecture"].update(training=0), "training must be true or false, got 0"),
        (lambda m: m.update(architecture={"same": ""}), "same must be the path of a layer before, got ''"),
        (lambda m: m.update(tied={"bias": "x"}), "tied must be names of parameters"),
        (lambda m: m.update(frozen=["x"]), "frozen must be a list of parameters"),
        (lambda m: m.update(architecture=None), "architecture: it must be an object with named fields, got None"),
        (lambda m: m.update(format="chainrule.trainer/3"), "there is not a model in this file that this version can read"),
    ],
)  # fmt: skip
def test_a_description_that_cannot_be_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model"
    cr.save_model(nn.Linear(3, 2), path)
    changed(path, change)
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        cr.load_model(path)


def test_many_layers_take_no_more_memory_than_their_file_has_numbers(tmp_path: Path) -> None:
    """None of them is large by itself."""
    cr.save_model(nn.Linear(3, 2), tmp_path / "model")
    layer = {"layer": "Linear", "arguments": {"in_features": 256, "out_features": 256}}
    many = {"layer": "Sequential", "modules": [[str(i), layer] for i in range(20_000)]}
    changed(tmp_path / "model", lambda m: m.update(architecture=many))
    with pytest.raises(DamagedFileError, match="describes a layer of 65,536 numbers, and has 0 of them"):
        cr.load_model(tmp_path / "model")


def test_tensors_without_a_model_say_what_to_do(tmp_path: Path) -> None:
    cr.save(nn.Linear(3, 2).state_dict(), tmp_path / "tensors")
    with pytest.raises(
        DamagedFileError, match="Tensors alone are read by cr.load, and put into a model that you build"
    ):
        cr.load_model(tmp_path / "tensors")


def test_no_code_stands_in_the_file(tmp_path: Path) -> None:
    cr.save_model(deep(), tmp_path / "model")
    _, meta = load_file(tmp_path / "model")
    assert sorted(meta) == ["architecture", "class", "foreign", "format", "frozen", "tied"]
    assert "lambda" not in json.dumps(meta) and "import" not in json.dumps(meta)


def test_what_predicts_but_is_no_module_is_told_of_bundles() -> None:
    made = cr.Trainer(nn.Linear(2, 1), "mse", "adam")
    with pytest.raises(
        SettingError, match=r"model must be an nn.Module, got Trainer. With what it takes .* cr.bundle\(it\).save"
    ):
        cr.save_model(made, "nowhere")
