"""A model as a description in plain values, and back: names of our own layers and their arguments, and no code.

Grammar (JSON)::

    layer := {"layer": name, "arguments": {name: value | layer}, ["modules": [[name, layer], ...],] ["training": false]}
           | {"same": path}                 the layer at that dotted path once more

A tensor that is an argument stands among the file's tensors; the description has true in its place.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple, NoReturn

from chainrule import dtypes, nn
from chainrule.deploy.layers import Exp
from chainrule.errors import ChainruleError, DamagedFileError, SettingError
from chainrule.files.document import Fields, is_whole, short
from chainrule.nn import Module
from chainrule.nn import functional as F
from chainrule.nn.compiled import bare
from chainrule.tensor import Tensor
from chainrule.tensor.random import Generator, drawing_from
from chainrule.training import realmlp
from chainrule.training.configuration import Noise

DEEPEST = 64  # levels of modules in modules
MOST = 100_000  # layers
FREE = 1 << 20  # numbers that all layers together may have beyond the tensors in the file, which are missed only later

CONTAINERS: dict[str, type[Module]] = {
    "Sequential": nn.Sequential,
    "ModuleList": nn.ModuleList,
    "ModuleDict": nn.ModuleDict,
}
HOLDERS: dict[str, type[Module]] = {"ParameterList": nn.ParameterList, "ParameterDict": nn.ParameterDict}


class Composed(NamedTuple):
    """A layer that is not made by its arguments but of what they made: settings, and layers that are described themselves."""

    settings: dict[str, str]
    modules: tuple[str, ...]
    optional: tuple[str, ...] = ()


def _transformer_layer(parts: int, *more: str) -> Composed:
    numbered = (f"{what}{n}" for what in ("norm", "dropout") for n in range(1, parts + 1))
    names = ("self_attn", *more, "linear1", "dropout", "linear2", *numbered)
    return Composed({"norm_first": "bool", "activation": "Activation"}, names, ("activation",))


COMPOSED: dict[type[Module], Composed] = {
    nn.TransformerEncoderLayer: _transformer_layer(2),
    nn.TransformerDecoderLayer: _transformer_layer(3, "multihead_attn"),
    nn.TransformerEncoder: Composed({"num_layers": "int"}, ("layers",), ("norm",)),
    nn.TransformerDecoder: Composed({"num_layers": "int"}, ("layers",), ("norm",)),
    nn.Transformer: Composed({"d_model": "int", "nhead": "int", "batch_first": "bool"}, ("encoder", "decoder")),
}
ACTIVATIONS = {
    name: found
    for name in ("relu", "gelu", "elu", "selu", "celu", "leaky_relu", "silu", "mish", "tanh", "sigmoid")
    if (found := getattr(F, name, None)) is not None
}  # functions that a layer may have been given
_NOT_ASKED = ("device",)
_SIZES = (
    "in_features", "in1_features", "in2_features", "out_features", "num_embeddings", "embedding_dim", "num_features",
    "num_channels", "num_parameters", "normalized_shape", "features",
)  # fmt: skip
_LEARNING = ("affine", "elementwise_affine", "track_running_stats")
_RECIPES = (realmlp.Arranged, realmlp.Inputs, realmlp.Blend, realmlp.FadingDropout)
FLOATING = tuple(dtype.name for dtype in dtypes.ALL if dtype.is_floating_point)
_KINDS: dict[str, Callable[[Any], bool]] = {
    "int": is_whole,
    "float": lambda v: isinstance(v, (int, float)) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "None": lambda v: v is None,
    "Sequence[int]": lambda v: isinstance(v, (list, tuple)) and all(map(is_whole, v)),
    "Sequence[float]": lambda v: isinstance(v, (list, tuple)) and all(map(_KINDS["float"], v)),
    "Wanted": lambda v: all(n is None or is_whole(n) for n in (v if isinstance(v, (list, tuple)) else [v])),
    "tuple[int, int]": lambda v: isinstance(v, (list, tuple)) and len(v) == 2 and all(map(is_whole, v)),
    "dtype": lambda v: v in FLOATING,
    "Activation": lambda v: isinstance(v, str) and v in ACTIVATIONS,
    "Tensor": lambda v: v is True,
    "nn.Module": lambda v: isinstance(v, dict),  # a layer within
}
#: How many numbers a layer has whose arguments do not simply multiply.
_NUMBERS: dict[type[Module], Callable[[Mapping[str, Any]], int]] = {
    realmlp.Inputs: lambda a: (
        a["numbers"] * (a["waves"] * (2 + a["outputs"]) + a["outputs"]) + sum(map(abs, a["sizes"])) * a["length"]
    ),
    nn.RNN: lambda a: _of_recurrence(1, a),
    nn.GRU: lambda a: _of_recurrence(3, a),
    nn.LSTM: lambda a: _of_recurrence(4, a),
    nn.MultiheadAttention: lambda a: _of_attention(a),
    nn.RNNCell: lambda a: _of_cell(1, a),
    nn.GRUCell: lambda a: _of_cell(3, a),
    nn.LSTMCell: lambda a: _of_cell(4, a),
    nn.Conv1d: lambda a: _of_convolution(1, a),
    nn.Conv2d: lambda a: _of_convolution(2, a),
    nn.Conv3d: lambda a: _of_convolution(3, a),
    nn.ConvTranspose1d: lambda a: _of_convolution(1, a),
    nn.ConvTranspose2d: lambda a: _of_convolution(2, a),
    nn.ConvTranspose3d: lambda a: _of_convolution(3, a),
}


def _of_convolution(rank: int, a: Mapping[str, Any]) -> int:
    window, (width, out, groups) = a["kernel_size"], (abs(int(a[n])) for n in ("in_channels", "out_channels", "groups"))
    elements = abs(window) ** rank if isinstance(window, int) else math.prod(map(abs, window))
    return out * (width // max(1, groups) * int(elements) + 1)


def _of_attention(a: Mapping[str, Any]) -> int:
    width = abs(int(a["embed_dim"]))
    return width * (2 * width + sum(abs(int(a.get(name) or width)) for name in ("kdim", "vdim")) + 4)


def _of_recurrence(gates: int, a: Mapping[str, Any]) -> int:
    width, size, layers = (abs(int(a[name])) for name in ("input_size", "hidden_size", "num_layers"))
    directions = 2 if a.get("bidirectional") else 1
    return gates * size * directions * (width + layers * (directions * size + size + 2))


def _of_cell(gates: int, a: Mapping[str, Any]) -> int:
    return _of_recurrence(gates, {**a, "num_layers": 1})


@cache
def layers() -> dict[str, tuple[type[Module], dict[str, str]]]:
    """The layers that a description may name, and the kinds of their arguments."""
    found: dict[str, tuple[type[Module], dict[str, str]]] = {}
    for kind in [*(getattr(nn, name) for name in nn.__all__), Noise, Exp, *_RECIPES]:
        if not (isinstance(kind, type) and issubclass(kind, Module)) or kind is Module or kind.__name__[:4] == "Lazy":
            continue
        if kind in CONTAINERS.values() or kind in HOLDERS.values():
            continue
        arguments = COMPOSED[kind].settings if kind in COMPOSED else _arguments(kind)
        if all(part.strip() in _KINDS for text in arguments.values() for part in text.split("|")):
            found[kind.__name__] = kind, arguments
    return found


def _arguments(kind: type[Module]) -> dict[str, str]:
    given = list(inspect.signature(kind.__init__).parameters.values())[1:]
    named = [p for p in given if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name[0] != "_"]
    return {p.name: "dtype" if p.name == "dtype" else str(p.annotation) for p in named if p.name not in _NOT_ASKED}


# -- out ---------------------------------------------------------------------------------------------------


def foreign(model: Module) -> Module | None:
    """A module in the model that only code can build, that of its class or what put a norm on it; None where there is none."""
    for module in map(bare, model.modules()):
        name = type(module).__name__
        known = layers()[name][0] if name in layers() else CONTAINERS.get(name, HOLDERS.get(name))
        if known is not type(module) or "forward" in vars(module):
            return module
    return None


def describe(model: Module, predicting: bool = False) -> dict[str, Any]:
    """The description of a model in which nothing is `foreign`; where it is to predict, in evaluation mode.

    Raises:
        SettingError: it is too deep, or one of its settings is nothing that a file can hold.
    """
    return _describe(bare(model), "", {}, 0, predicting)


def _describe(module: Module, path: str, seen: dict[int, str], depth: int, predicting: bool) -> dict[str, Any]:
    if id(module) in seen:
        return {"same": seen[id(module)]}
    if depth > DEEPEST:
        raise SettingError(
            f"save_model: modules must not be nested in more than {DEEPEST} levels, as at {path[:60]!r}."
        )
    seen[id(module)] = path
    name = type(module).__name__
    found: dict[str, Any] = {"layer": name}
    composed = COMPOSED.get(type(module))
    if name in HOLDERS:
        found["arguments"] = dict.fromkeys(module._parameters, True)
    elif name in CONTAINERS or composed:
        found.update({"arguments": _values(module, path)} if composed else {})
        below = ((key, bare(child)) for key, child in module._modules.items() if child is not None)
        found["modules"] = [
            [key, _describe(child, _joined(path, key), seen, depth + 1, predicting)] for key, child in below
        ]
    else:
        found["arguments"] = _values(module, path)
        within = {n: bare(v) for n, v in module._modules.items() if v is not None and n in layers()[name][1]}
        described = {n: _describe(v, _joined(path, n), seen, depth + 1, predicting) for n, v in within.items()}
        found["arguments"].update(described)
    return found if module.training and not predicting else {**found, "training": False}


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _values(module: Module, path: str) -> dict[str, Any]:
    """The arguments that make such a layer, as its attributes have them now."""
    found: dict[str, Any] = {}
    for name, kinds in layers()[type(module).__name__][1].items():
        if name == "dtype":
            own = [*module._parameters.values(), *module._buffers.values()]
            floating = [t.dtype.name for t in own if t is not None and t.dtype.is_floating_point]
            found.update({"dtype": floating[0]} if floating else {})
        elif kinds == "nn.Module" or name in module._modules:
            continue
        elif kinds == "Tensor | None":
            found[name] = None if getattr(module, name) is None else True
        elif name == "bias":
            value = getattr(module, name)
            found[name] = value if isinstance(value, bool) else value is not None  # a flag, or the parameter itself
        elif hasattr(module, name):
            value = getattr(module, name)
            value = value.item() if hasattr(value, "item") and not isinstance(value, Tensor) else value
            if kinds == "Activation":
                value = next((known for known, function in ACTIVATIONS.items() if function is value), value)
            if not _fits(kinds, value):
                raise SettingError(
                    f"save_model: {type(module).__name__} {path!r}: {name} must be {_words(kinds)} to stand in a file, got "
                    f"{short(value)}. Set it to such a value."
                )
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _fits(kinds: str, value: object) -> bool:
    return any(_KINDS[part.strip()](value) for part in kinds.split("|"))


def _words(kinds: str) -> str:
    words = {
        "int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text", "None": "none",
        "Sequence[int]": "whole numbers", "Sequence[float]": "numbers", "Wanted": "whole numbers or none", "tuple[int, int]": "two whole numbers", "dtype": " or ".join(map(repr, FLOATING)),
        "Activation": f"one of nn.functional's {', '.join(ACTIVATIONS)}", "Tensor": "true", "nn.Module": "a layer",
    }  # fmt: skip
    return " or ".join(words[part.strip()] for part in kinds.split("|"))


# -- in ----------------------------------------------------------------------------------------------------


class Builder:
    """Builds the model of a description, whose tensors have these shapes; the generator of the process stays as it is.

    Raises:
        DamagedFileError: from `build`: it is no description, or of larger layers than its tensors are.
    """

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        self._tensors = tensors
        self._numbers: dict[str, int] = {}  # by the path of the layer that has them, itself or below
        for name, value in tensors.items():
            path = name
            while path:
                path = path.rpartition(".")[0]
                self._numbers[path] = self._numbers.get(path, 0) + math.prod(value.shape)
        self._made: dict[str, Module] = {}
        self._free = FREE

    def build(self, found: Fields) -> Module:
        """The model, in the mode that it was in."""
        with drawing_from(Generator(0)):
            return self._build(found, "", 0)

    def _build(self, found: Fields, path: str, depth: int) -> Module:
        if len(self._made) >= MOST or depth > DEEPEST:
            _refuse(found, f"more than {MOST:,} layers, or more than {DEEPEST} levels of them")
        if found.has("same"):
            found.names({"same"})
            same = self._made.get(found.text("same"))
            if same is None:
                found.refuse("same", "the path of a layer before", found.value["same"])
            return same
        found.names({"layer", "arguments", "modules", "training"})
        name = found.text("layer")
        if name in CONTAINERS:
            made = self._filled(CONTAINERS[name](), found, path, depth)
        elif name in HOLDERS:
            made = self._holder(HOLDERS[name](), found, path)
        else:
            made = self._layer(found, name, path, depth)
        if found.value.get("training", True) is not True:
            made.training = found.flag("training")
            described = {*found.value.get("arguments", ()), *(pair[0] for pair in found.value.get("modules", ()))}
            for child in (child for key, child in made._modules.items() if child is not None and key not in described):
                child.train(made.training)
        self._made[path] = made
        return made

    def _filled(self, made: Module, found: Fields, path: str, depth: int) -> Module:
        """The module with the layers that are described to be in it."""
        for i, pair in enumerate(found.items("modules", _is_pair, "a list of pairs of a name and a layer")):
            below = Fields(pair[1], f"{found.source}.modules[{i}]", found.remedy)
            if pair[0] in made._modules:
                found.refuse("modules", "layers of different names", pair[0])
            child = self._build(below, _joined(path, pair[0]), depth + 1)
            try:
                made.register_module(pair[0], child)
            except ChainruleError as error:
                _refuse(found, str(error))
        return made

    def _holder(self, made: Module, found: Fields, path: str) -> Module:
        names = found.fields("arguments").names()
        if isinstance(made, nn.ParameterList) and names != [str(i) for i in range(len(names))]:
            found.refuse("arguments", "numbered from 0 on", names)
        for name in names:
            made.register_parameter(name, nn.Parameter(self._own(found, path, name)))
        return made

    def _own(self, found: Fields, path: str, name: str) -> Tensor:
        """A copy of the file's tensor that is an argument of the layer at the path."""
        tensor = self._tensors.get(_joined(path, name))
        if tensor is None:
            _refuse(found, f"a layer with the tensor {short(name)}, which it does not have")
        return tensor.detach().clone()  # type: ignore[no-any-return]

    def _composed(self, kind: type[Module], given: Fields, found: Fields, path: str, depth: int) -> Module:
        """A layer of `COMPOSED`: its constructor would make its layers anew, from arguments that it does not keep."""
        composed = COMPOSED[kind]
        made = kind.__new__(kind)
        Module.__init__(made)
        for name, value in given.value.items():
            setattr(made, name, ACTIVATIONS[value] if composed.settings[name] == "Activation" else value)
        self._filled(made, found, path, depth)
        known = {*composed.settings, *composed.modules, *composed.optional}
        there = {*given.value, *made._modules}
        if not {*composed.settings, *composed.modules} <= there or not there <= known:
            _refuse(found, f"a {kind.__name__} that cannot be: it has {', '.join(sorted(there))}")
        for name in set(composed.optional) - there:
            setattr(made, name, None)
        return made

    def _layer(self, found: Fields, name: str, path: str, depth: int) -> Module:
        if name not in layers():
            _refuse(found, f"the layer {short(name)}, which this version of chainrule does not have")
        kind, kinds = layers()[name]
        given = found.fields("arguments")
        given.names(kinds)
        for argument, value in given.value.items():
            if not _fits(kinds[argument], value):
                given.refuse(argument, _words(kinds[argument]), value)
        if kind in COMPOSED:
            return self._composed(kind, given, found, path, depth)
        self._check_size(kind, given, path)
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.value.items()}
        for argument in [k for k, v in values.items() if v is True and kinds[k] == "Tensor | None"]:
            values[argument] = self._own(found, path, argument)
        for argument in [k for k, v in values.items() if isinstance(v, dict)]:
            values[argument] = self._build(given.fields(argument), _joined(path, argument), depth + 1)
        try:
            return kind(**values)
        except (ChainruleError, ArithmeticError, TypeError, ValueError, MemoryError) as error:
            _refuse(found, f"a {name} that cannot be: {error}")

    def _check_size(self, kind: type[Module], given: Fields, path: str) -> None:
        """A layer of so many numbers has them in the file: what a description asks for is bounded by what came with it."""
        numbers, there = _numbers(kind, given), self._numbers.get(path, 0)
        self._free -= max(0, numbers - there)
        if self._free < 0:
            _refuse(given, f"a layer of {numbers:,} numbers, and has {there:,} of them")


def _numbers(kind: type[Module], given: Fields) -> int:
    """How many numbers a layer with these arguments has, or more."""
    counted = _NUMBERS.get(kind)
    if counted is not None:
        for name, kinds in _arguments(kind).items():  # all are there, or it could not be counted
            if kinds.partition(" |")[0] in ("int", "Sequence[int]"):
                given.required(name)
        return counted(given.value)
    flags = [given.value[name] for name in _LEARNING if name in given.value]
    sizes = [given.value[name] for name in _SIZES if name in given.value]
    if not sizes or (flags and not any(flags)):
        return 0
    return math.prod(abs(n) for size in sizes for n in (size if isinstance(size, list) else [size]))


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _refuse(found: Fields, what: str) -> NoReturn:
    raise DamagedFileError(f"{found.source} describes {what[:300]}. {found.remedy}")
