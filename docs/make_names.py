"""Write docs/names.md: PyTorch's public names beside ours, from the list that src/chainrule/names/torch.json holds.

    python docs/make_names.py            # write the page
    python docs/make_names.py --collect  # write the list anew, from the installed PyTorch

The list is read at run time too: a missing name says that it is PyTorch's and not there yet.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import chainrule as cr
from chainrule.errors import MissingLibraryError
from chainrule.names import LIST, ROOMS, keywords_of, known_names, theirs

PAGE = Path(__file__).with_name("names.md")

HEAD = """# PyTorch's names, and what of them is here

`import chainrule as cr` for `import torch`, `from chainrule import nn, optim` and `import chainrule.nn.functional as F`:
where PyTorch has a name, it has the same meaning here. What is not here yet raises an `AttributeError` (an `ImportError`
in `from chainrule import ...`) that says so and points to this page; so does the `TypeError` for a keyword that a function
or a constructor of PyTorch's has and ours has not (for a tensor's methods it is Python's own, which names the keyword). For a keyword
of Keras's or scikit-learn's it says what that is called here (`learning_rate`: use `lr`), for any other what there is.

Listed are the functions, classes, dtypes and constants of the places below, as far as they are meant for users; other
places (`torch.fft`, `torch.special` and so on) stand as one name each. Made from PyTorch {version} by `docs/make_names.py`.

The last column names missing keywords first, then what a name takes and refuses with an error, then what differs without one.
Left out below are keywords that choose where and how tensors lie in memory or how PyTorch runs ({ignored}).
Where PyTorch's functions take `out=`, so do ours: the result is written there, and must have its shape.
There is one device, the CPU: wherever PyTorch takes `device=`, it may be named here, and another one is refused.
"""

# Keywords of PyTorch's that speak of memory and layouts, or that PyTorch itself has deprecated.
IGNORED = (
    "layout", "pin_memory", "memory_format", "non_blocking", "out", "size_average", "reduce", "_stacklevel",
    "foreach", "fused", "capturable", "differentiable",
)  # fmt: skip


# What stands in the documentation of arguments and is none.
NO_KEYWORDS = ("self", "input", "List", "kwargs", "args", "axis", "axis0", "axis1", "dividend", "divisor", "orig_func")

# What users write that is neither a function of torch's list nor a class meant to be made.
MORE = (
    "autocast", "e", "enable_grad", "inf", "inference_mode", "nan", "newaxis", "no_grad", "pi", "set_default_dtype",
    "set_grad_enabled", "unique", "quantile", "broadcast_shapes", "from_dlpack", "to_dlpack", "index_copy", "lu", "svd_lowrank",
    "pca_lowrank", "layout", "strided", "BoolTensor", "ByteTensor", "DoubleTensor", "FloatTensor", "IntTensor", "LongTensor",
)  # fmt: skip


# Places that list their public names themselves.
LISTED = ("data", "autograd", "function", "distributions", "rnn", "autograd_functional", "swa_utils", "func")

# What differs without an error, for whoever relies on it.
DIFFERENT = {
    ("torch", "Size"): "is `tuple`: a shape prints as `(2, 3)`, and has no `numel()` (`x.numel()`)",
    ("torch", "as_tensor"): "an array is copied (PyTorch shares its memory): `cr.from_numpy` shares it",
    ("torch", "from_numpy"): "an in-place operation gives the tensor memory of its own, and does not write to the array",
    ("torch", "onnx"): "`cr.onnx` has functions of its own",
    ("nn", "attention"): "holds `MultiheadAttention`; `sdpa_kernel` and `SDPBackend` are not here",
    ("Tensor", "grad_fn"): "names operations of chainrule's: one of PyTorch's may be several; forgotten with the history",
    ("Tensor", "numpy"): "the array is read-only, and keeps the values of that moment: later writes to the tensor do not reach it",
}  # fmt: skip

# What a name takes as a keyword and refuses with some values, by place and name; tests/docs/test_names_page.py tries each.
_CEIL, _WHERE, _ZEROS = "`ceil_mode=True`", "`return_indices=True`", "`padding_mode` other than `'zeros'`"
_CUBIC, _TABLE = "`mode='bicubic'`", "`max_norm`, `scale_grad_by_freq=True`, `sparse=True`"
_FLOAT32, _SINGULAR, _WEIGHTS = "a dtype other than float32", "`'nuc'` and the spectral norms", "`fweights`, `aweights`"
REFUSED: dict[str, dict[str, str]] = {
    "torch": {
        "autocast": "`enabled=True` on the CPU", "set_default_dtype": _FLOAT32, "set_default_tensor_type": _FLOAT32,
        "set_default_device": "another device than the CPU", "einsum": "lists of axes in place of a text", "cov": _WEIGHTS, "norm": "`'nuc'`",
    },
    "nn": {
        **dict.fromkeys(("Conv1d", "Conv2d", "Conv3d", "LazyConv1d", "LazyConv2d", "LazyConv3d"), _ZEROS),
        **dict.fromkeys(("MaxPool1d", "MaxPool2d", "MaxPool3d"), f"{_CEIL}, {_WHERE}"),
        **dict.fromkeys(("AvgPool1d", "AvgPool2d", "AvgPool3d"), _CEIL),
        **dict.fromkeys(("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"), _WHERE),
        **dict.fromkeys(("Embedding", "EmbeddingBag"), _TABLE),
        "LSTM": "`proj_size`", "MultiheadAttention": "`add_bias_kv=True`, `add_zero_attn=True`", "Upsample": _CUBIC,
    },
    "functional": {
        **dict.fromkeys(("max_pool1d", "max_pool2d", "max_pool3d"), f"{_CEIL}, {_WHERE}"),
        **dict.fromkeys(("avg_pool1d", "avg_pool2d", "avg_pool3d"), _CEIL),
        **dict.fromkeys(("adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"), _WHERE),
        **dict.fromkeys(("embedding", "embedding_bag"), _TABLE), "interpolate": f"{_CUBIC}, `antialias=True`",
    },
    "autograd_functional": {"jacobian": "`strict=True`, `strategy='forward-mode'`", "hessian": "`strict=True`, `outer_jacobian_strategy='forward-mode'`"},
    "linalg": {"norm": _SINGULAR, "matrix_norm": _SINGULAR},
    "Tensor": {"norm": "`'nuc'`", "fill_diagonal_": "`wrap=True`", "view": "a dtype"},
}  # fmt: skip


# -- the page --------------------------------------------------------------------------------------


def build() -> str:
    """The text of the page."""
    known = json.loads(LIST.read_text(encoding="utf-8"))
    ignored = ", ".join(f"`{name}`" for name in IGNORED if name != "_stacklevel")
    parts = [HEAD.format(version=known["version"], ignored=ignored)]
    return "\n".join([*parts, *(section(room) for room in ROOMS)])


def section(room: str) -> str:
    """One place of names: a table of what is here, and the names that are not."""
    ours = ours_of(room)
    names = theirs(room)
    here = [name for name in names if is_there(ours, name)]
    missing = [name for name in names if name not in here]
    rows = [row(room, name, value_of(ours, name)) for name in here]
    title = ROOMS[room].pytorch
    table = ["| PyTorch | here | missing keywords, and what differs |", "|---|---|---|", *rows]
    listed = ", ".join(f"`{name}`" for name in missing)
    return "\n".join(
        [f"## {title}", "", f"{len(here)} of {len(names)} names.", "", *table, "", f"Not there yet: {listed}.", ""]
    )


def value_of(owner: Any, name: str) -> Any:
    """What has that name; for a module whose library is not installed here, an empty one."""
    try:
        return getattr(owner, name)
    except MissingLibraryError:
        return types.ModuleType(name)


def is_there(owner: Any, name: str) -> bool:
    """Has it that name?"""
    try:
        value_of(owner, name)
    except AttributeError:
        return False
    return True


def ours_of(room: str) -> Any:
    module, _, name = ROOMS[room].ours.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def row(room: str, name: str, ours: Any) -> str:
    missing = [keyword for keyword in keywords_of(room, name) if keyword not in IGNORED and not takes(ours, keyword)]
    refused = REFUSED.get(room, {}).get(name)
    notes = [
        ", ".join(f"`{keyword}`" for keyword in missing),
        f"refused: {refused}" if refused else "",
        DIFFERENT.get((room, name), ""),
    ]
    return f"| `{name}` | `{ROOMS[room].prefix}{name}` | {'; '.join(filter(None, notes))} |"


def takes(ours: Any, keyword: str) -> bool:
    """Does the function take this keyword? (True where that cannot be seen.)"""
    if isinstance(ours, (type(cr), property, cr.DType)) or not callable(ours):
        return True
    try:
        parameters = inspect.signature(ours).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.name == keyword or p.kind is p.VAR_KEYWORD for p in parameters) or variadic(parameters, keyword)


def variadic(parameters: Any, keyword: str) -> bool:
    """``zeros(*size)`` takes PyTorch's ``size``, and a method's first tensor is itself."""
    return keyword in ("input", "self") or (
        keyword in ("size", "sizes", "repeats") and any(p.kind is p.VAR_POSITIONAL for p in parameters)
    )


# -- the list --------------------------------------------------------------------------------------


def collect() -> dict[str, Any]:
    """PyTorch's public names by place, each with its keywords."""
    import torch

    return {
        "version": torch.__version__.partition("+")[0],
        **{room: names_in(room, torch) for room in ROOMS},
    }


def names_in(room: str, torch: Any) -> dict[str, list[str]]:
    owner = torch if room in ("Tensor", "Module") else importlib.import_module(ROOMS[room].pytorch)
    for part in ROOMS[room].pytorch.split(".")[1:] if owner is torch else ():
        owner = getattr(owner, part)
    public = sorted(name for name in dir(owner) if not name.startswith("_"))
    found = {name: getattr(owner, name) for name in public}
    if room == "Tensor":  # the methods' own documentation often has other names than they take
        found = {name: getattr(torch, name, value) for name, value in found.items()}
    inner: dict[str, list[str]] = {name: [] for name in submodules(owner)}
    names = {name: keywords(value) for name, value in found.items() if belongs(room, name, value, torch)}
    return dict(sorted({**inner, **names}.items()))


def submodules(owner: Any) -> list[str]:
    """The public modules of a package, also those that it does not import by itself."""
    return [
        found.name for found in pkgutil.iter_modules(getattr(owner, "__path__", ())) if not found.name.startswith("_")
    ]


def belongs(room: str, name: str, value: Any, torch: Any) -> bool:
    """Is the name meant for users, not merely imported there?"""
    if room in ("Tensor", "Module"):
        return True
    if room == "utils":
        return callable(value) and not inspect.isclass(value)
    if room == "tools":
        return False  # its modules alone
    if room in LISTED:
        return name in importlib.import_module(ROOMS[room].pytorch).__all__
    if isinstance(value, types.ModuleType):
        return value.__name__.startswith("torch.") and "._" not in value.__name__ and name not in ("classes", "ops")
    if room == "torch" and name in MORE:
        return True
    if room == "torch":
        inner = re.search(
            r"^(Sym|sym_|q(uint|int)|.+(Storage|Tensor)$)|_copy$|quantize|fake_|fbgemm|cudnn|miopen|mkldnn", name
        )
        if inspect.isclass(value):
            return name in ("Tensor", "Generator", "Size", "device", "dtype", "finfo", "iinfo")
        return not inner and (isinstance(value, torch.dtype) or (name in torch.__all__ and callable(value)))
    if room in ("functional", "init", "linalg"):
        return callable(value) and not inspect.isclass(value) and "torch_function" not in name
    return inspect.isclass(value) and value.__module__.startswith("torch.")


def keywords(value: Any) -> list[str]:
    """The names of the arguments, from the signature or from the first line of the documentation."""
    if isinstance(value, (types.ModuleType, property)) or not callable(value):
        return []
    try:
        found = inspect.signature(value).parameters.values()
        named = [p.name for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY)]
    except (TypeError, ValueError):
        named = []
    return [name for name in named or documented(value) if name not in NO_KEYWORDS and not name.startswith("_")]


def documented(value: Any) -> list[str]:
    documentation = value.__doc__ if isinstance(value.__doc__, str) else ""
    names: list[str] = []
    for call in re.findall(rf"(?m)^\s*{getattr(value, '__name__', '-')}\((.*?)\)\s*->", documentation):
        names += [name for name in re.findall(r"(?:^|,)\s*\**(\w+)", call) if name not in names]
    return [name for name in names if not name.isdigit()]


def main(arguments: list[str]) -> None:
    if "--collect" in arguments:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = json.dumps(collect(), separators=(",", ":"))
        LIST.write_text(
            re.sub(r'(?<=[\]{]),?(?="\w+":[\[{])', lambda m: m.group() + "\n", text) + "\n", encoding="utf-8"
        )
        known_names.cache_clear()
    PAGE.write_text(build(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
