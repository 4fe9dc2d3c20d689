"""A missing name or keyword of PyTorch's says that it is not there yet, and breaks nothing that asks for names."""

import copy
import doctest
import importlib.util
import inspect
import math
import pickle
import pkgutil
import pydoc
import re
import sys

import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import callbacks, nn, optim
from chainrule.autodiff.plain import Plain
from chainrule.errors import DtypeError, GradientError, MissingLibraryError, SettingError, ShapeError
from chainrule.names import ROOMS, theirs
from chainrule.names.modules import announce
from tests.optional import torch

MISSING = [
    (cr, "mps", "torch.mps of PyTorch is not in chainrule yet. There is only the CPU here: leave it out."),
    (cr, "float16", "torch.float16 of PyTorch is not in chainrule yet. There are bfloat16, float32 and float64"),
    (F, "conv_tbc", "torch.nn.functional.conv_tbc of PyTorch is not in chainrule yet."),
    (nn, "MaxUnpool1d", "torch.nn.MaxUnpool1d of PyTorch is not in chainrule yet."),
    (optim, "SparseAdam", "torch.optim.SparseAdam of PyTorch is not in chainrule yet."),
    (cr.linalg, "svd", "torch.linalg.svd of PyTorch is not in chainrule yet."),
    (cr.autograd, "detect_anomaly", "torch.autograd.detect_anomaly of PyTorch is not in chainrule yet."),
    (cr.autograd.function, "once_differentiable", "torch.autograd.function.once_differentiable of PyTorch is not in chainrule yet."),
    (cr.distributions, "MultivariateNormal", "torch.distributions.MultivariateNormal of PyTorch is not in chainrule yet."),
    (nn.utils, "parametrize", "torch.nn.utils.parametrize of PyTorch is not in chainrule yet."),
    (nn.init, "dirac_", "torch.nn.init.dirac_ of PyTorch is not in chainrule yet."),
    (cr.ones(2), "svd", "'Tensor' object has no attribute 'svd': torch.Tensor.svd of PyTorch is not in chainrule yet."),
    (nn.ReLU(), "share_memory", "torch.nn.Module.share_memory of PyTorch is not in chainrule yet."),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "name", "text"), MISSING, ids=[name for _, name, _ in MISSING])
def test_a_missing_name_says_so(owner, name, text):
    with pytest.raises(AttributeError, match=re.escape(text)):
        getattr(owner, name)
    assert not hasattr(owner, name)
    assert getattr(owner, name, 3) == 3


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_of_pytorchs_is_here_or_says_that_it_is_not(room):
    module, _, name = ROOMS[room].ours.partition(":")
    found = importlib.import_module(module)
    owner = {"Tensor": cr.ones(2, 2), "Module": nn.ReLU()}[name] if name else found
    for name in theirs(room):
        try:
            getattr(owner, name)
        except AttributeError as error:
            assert f"{ROOMS[room].pytorch}.{name} of PyTorch is not in chainrule yet." in str(error)  # noqa: PT017
        except MissingLibraryError:
            pass  # here, in a module that a library is needed for


def test_what_is_a_method_of_pytorchs_tensors_and_a_function_too_is_known_as_both():
    odd = {
        "dequantize",
        "eig",
        "lstsq",
        "narrow_copy",
        "qscheme",
        "solve",
        "symeig",
    }  # gone from PyTorch, or not meant for users
    assert {n for n in theirs("Tensor") if n not in theirs("torch") and hasattr(torch, n)} == odd


@pytest.mark.parametrize(("module", "name", "text"), [row for row in MISSING if inspect.ismodule(row[0])])
def test_an_import_of_a_missing_name_says_so(module, name, text):
    with pytest.raises(ImportError, match=re.escape(text)):
        exec(f"from {module.__name__} import {name}", {})


@pytest.mark.parametrize("owner", [cr, nn, F, optim, optim.lr_scheduler, cr.ones(2), nn.ReLU()], ids=str)
def test_a_name_that_is_nobodys_is_an_ordinary_error(owner):
    with pytest.raises(AttributeError, match="has no attribute 'nobodys'$"):
        owner.nobodys  # noqa: B018
    assert not hasattr(owner, "__wrapped__")


def test_an_import_of_a_name_that_is_nobodys_is_an_ordinary_error():
    with pytest.raises(ImportError, match="cannot import name 'nobodys' from 'chainrule' "):
        exec("from chainrule import nobodys", {})


def test_a_property_that_fails_gives_its_own_error():
    class Odd(nn.Module):
        @property
        def depth(self):
            return self.layers  # not there

    with pytest.raises(AttributeError, match="'Odd' object has no attribute 'layers'"):
        Odd().depth  # noqa: B018

    class Strange(cr.Tensor):
        @property
        def depth(self):
            return self.layers

    with pytest.raises(AttributeError, match="'Strange' object has no attribute 'layers'"):
        Strange(cr.ones(2)._node).depth  # noqa: B018


def test_a_tensor_has_no_missing_name_for_whoever_lists_its_names():
    for thing in (cr.Tensor, cr.eye(2), nn.Parameter):
        assert "sum" in dir(thing)
        assert not {"svd", "share_memory_"} & {*dir(thing), *dict(inspect.getmembers(thing))}
    assert "svd" not in pydoc.render_doc(cr.Tensor)
    x = cr.ones(2)
    x.note = 1
    assert "note" in dir(x)


def test_the_class_says_what_its_tensors_say():
    with pytest.raises(
        AttributeError, match="^type 'Tensor' has no attribute 'svd': torch.Tensor.svd of PyTorch is not in"
    ):
        cr.Tensor.svd  # noqa: B018
    assert not hasattr(cr.Tensor, "svd")


def test_a_missing_name_stands_in_the_way_of_nobodys_own():
    class Further:
        def svd(self):
            return "further"

    class Mixed(cr.Tensor, Further):
        cholesky = 7

    class Asked(cr.Tensor):
        def __getattr__(self, name):
            return f"asked for {name}"

    mixed = Mixed(cr.ones(2)._node)
    assert (mixed.svd(), mixed.cholesky) == ("further", 7)
    assert "svd" in dir(mixed)
    assert Asked(cr.ones(2)._node).svd == "asked for svd"
    x = cr.ones(2)
    x.svd = 3
    assert x.svd == 3


def test_no_attribute_of_a_tensor_is_looked_up_in_python():
    for kind in (cr.Tensor, nn.Parameter, Plain):
        assert "__getattr__" not in {name for base in kind.__mro__ for name in vars(base)}


KEYWORDS = {
    "ones: PyTorch's keyword 'size' is not in chainrule yet. Give the sizes by position, as in cr.ones(2, 3)": lambda: cr.ones(size=(2,)),
    "randn: PyTorch's keyword 'size' is not in chainrule yet. Give the sizes by position": lambda: cr.randn(size=(2,)),
    "zeros: PyTorch's keyword 'layout'": lambda: cr.zeros(2, layout=None),
    "randn: PyTorch's keyword 'layout'": lambda: cr.randn(2, layout=None),
    "nll_loss: PyTorch's keyword 'reduce'": lambda: F.nll_loss(cr.ones(2, 2), cr.tensor([0, 1]), reduce=True),
    "mse_loss: PyTorch's keyword 'size_average'": lambda: F.mse_loss(cr.ones(2), cr.ones(2), size_average=True),
    "load_state_dict: PyTorch's keyword 'assign' is not in chainrule yet. The values are copied": lambda: nn.ReLU().load_state_dict({}, assign=True),
    "state_dict: PyTorch's keyword 'destination'": lambda: nn.ReLU().state_dict(destination={}),
    "Adam: PyTorch's keyword 'fused'": lambda: optim.Adam([cr.ones(1, requires_grad=True)], fused=True),
}  # fmt: skip


@pytest.mark.parametrize("text", KEYWORDS, ids=lambda text: text.partition(":")[0])
def test_a_missing_keyword_says_so(text):
    with pytest.raises(TypeError, match=re.escape(text)) as error:
        KEYWORDS[text]()
    assert str(error.value).endswith("See docs/names.md")


WRITTEN = {
    "matmul": lambda lib, out: lib.matmul(lib.ones(2, 2), lib.eye(2), out=out(2, 2)),
    "abs": lambda lib, out: lib.abs(-lib.ones(2), out=out(2)),
    "a wider dtype": lambda lib, out: lib.add(lib.arange(3), 1, out=out(3)),
    "arange": lambda lib, out: lib.arange(4, out=out(4)),
    "several": lambda lib, out: lib.sort(lib.tensor([3.0, 1.0]), out=(out(2), out(2).long())),
    "none": lambda lib, out: lib.mul(lib.ones(2), 3, out=None),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRITTEN)
def test_out_takes_what_a_function_gives_as_in_pytorch(kind):
    torch = pytest.importorskip("torch")
    seen, found = [], []
    for lib in (cr, torch):
        given = []

        def out(*sizes, lib=lib, given=given):
            given.append(lib.zeros(*sizes))
            return given[-1]

        result = WRITTEN[kind](lib, out)
        seen.append(
            [
                (str(part.dtype).rpartition(".")[2], part.tolist())
                for part in (result if isinstance(result, tuple) else [result])
            ]
        )
        found.append(given[0].tolist() if given else None)
        assert kind in ("none", "several") or result is given[0]
    assert seen[0] == seen[1] and found[0] == found[1]
    x = cr.ones(2)
    assert cr.compile(lambda a: cr.add(a, 1, out=x))(cr.ones(2)).tolist() == x.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: cr.exp(cr.ones(2), out=cr.ones(3)), ShapeError, "exp: out must have the shape of the result, (2,), got (3,). Assign the result, or make out by cr.empty(2,)."),
        (lambda: cr.exp(cr.ones(2), out=cr.arange(2)), DtypeError, "exp: the result has dtype float32, which out of int64 cannot hold. Assign the result."),
        (lambda: cr.exp(cr.ones(2, requires_grad=True), out=cr.ones(2)), GradientError, "exp: what goes into out has no history, and an argument requires a gradient. Assign the result, or write under cr.no_grad()."),
        (lambda: cr.exp(cr.ones(2), out=3), SettingError, "exp: out must be a tensor, got int. Assign the result."),
        (lambda: cr.sort(cr.ones(2), out=cr.ones(2)), SettingError, "sort: out must be a tuple of 2 tensors. Assign the results, or give so many."),
        (lambda: cr.exp(cr.ones(2), out=cr.ones(2), odd=1), TypeError, "exp: there is no keyword 'odd'. exp takes nothing."),
    ],
)  # fmt: skip
def test_what_does_not_fit_into_out_is_refused(call, error, text):
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        call()


OTHERS = {
    "Adam: there is no keyword 'learning_rate'. Use lr.": lambda: optim.Adam([], learning_rate=1),
    "SGD: there is no keyword 'beta_1'. SGD takes params, lr, momentum": lambda: optim.SGD([], beta_1=0.9),
    "AdamW: there is no keyword 'beta_2'. Use betas.": lambda: optim.AdamW([], beta_2=0.9),
    "Linear: there is no keyword 'activation'. Put it behind the layer: nn.Sequential(": lambda: nn.Linear(2, 1, activation="relu"),
    "Linear: there is no keyword 'units'. Use out_features.": lambda: nn.Linear(units=2),
    "Linear: there is no keyword 'use_bias'. Use bias.": lambda: nn.Linear(2, 1, use_bias=False),
    "Linear: there is no keyword 'kernel_initializer'. Use nn.init on the layer's parameters.": lambda: nn.Linear(2, 1, kernel_initializer=1),
    "Dropout: there is no keyword 'rate'. Use p.": lambda: nn.Dropout(rate=0.5),
    "BatchNorm1d: there is no keyword 'epsilon'. Use eps.": lambda: nn.BatchNorm1d(2, epsilon=1e-3),
    "Embedding: there is no keyword 'input_dim'. Use num_embeddings.": lambda: nn.Embedding(input_dim=2, output_dim=3),
    "zeros: there is no keyword 'devcie'. Did you mean 'device'?": lambda: cr.zeros(2, devcie="cpu"),
    "relu: there is no keyword 'devcie'. relu takes input, inplace.": lambda: F.relu(cr.ones(2), devcie=1),
    "softmax: there is no keyword 'axis'. Use dim.": lambda: F.softmax(cr.ones(2), axis=0),
    "add: there is no keyword 'odd'. add takes other, alpha.": lambda: cr.add(cr.ones(2), 1, odd=1),
    "StepLR: there is no keyword 'decay_rate'. Use gamma.": lambda: optim.lr_scheduler.StepLR(None, 1, decay_rate=0.1),
    "CSVLogger: there is no keyword 'filename'. Use path.": lambda: callbacks.CSVLogger(filename="x.csv"),
    "compile: there is no keyword 'jit_compile'. Leave it out: a Trainer compiles its steps": lambda: cr.compile(print, jit_compile=True),
    "load_model: there is no keyword 'file'. Use path.": lambda: cr.load_model(file="x"),
    "normal_: there is no keyword 'stddev'. Did you mean 'std'?": lambda: nn.init.normal_(cr.ones(2), stddev=1),
    "Trainer: there is no keyword 'learning_rate'. Use lr, beside an optimizer by its name.": lambda: cr.Trainer(nn.ReLU(), learning_rate=1),
}  # fmt: skip


@pytest.mark.parametrize("text", OTHERS, ids=lambda text: text.split(". ")[0])
def test_another_keyword_says_what_there_is(text):
    with pytest.raises(TypeError, match=re.escape(text)):
        OTHERS[text]()


#: Those of which Python's own word is enough: nothing can be given to them, or only by place.
PLAIN = {
    "BoolTensor", "ByteTensor", "DoubleTensor", "FloatTensor", "IntTensor", "LongTensor", "autocast", "dtype", "inference_mode", "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_tensors", "broadcast_shapes", "cartesian_prod", "chain_matmul", "einsum", "meshgrid", "finfo", "iinfo", "get_default_dtype", "are_deterministic_algorithms_enabled", "get_float32_matmul_precision", "is_inference_mode_enabled", "is_storage", "seed", "memory_format",
    "Bundle", "Callback", "Compiled", "Cursor", "DType", "Dataset", "EpochLog", "Generator", "Halving", "Identity", "IterableDataset", "Module",
    "OnnxModule", "Optimizer", "Parameter", "Source", "StackDataset", "Summary", "Tensor", "WandB", "Window", "as_dtype", "device", "enable_grad",
    "get_default_device", "get_num_threads", "get_rng_state", "get_worker_info", "initial_seed", "is_grad_enabled", "is_tensor", "no_grad", "set_default_device",
    "check_outside", "check_state", "is_ahead", "set_grad_enabled", "sweep",
}  # fmt: skip


def public(room):
    """What users take from a place: its list of names, or what is made there."""
    listed = getattr(room, "__all__", None) or [
        name for name, value in vars(room).items()
        if name[0] != "_" and getattr(value, "__module__", "").startswith(("chainrule.nn.init", "chainrule.optim.sched", "chainrule.training."))
    ]  # fmt: skip
    return {name: getattr(room, name, None) for name in listed if name not in PLAIN}


def test_every_public_function_and_class_answers_an_unknown_keyword():
    for library in ("polars", "pyarrow"):  # which some are imported with
        pytest.importorskip(library, reason=f"{library} is not installed: pip install '.[data]'")
    bare = []
    for room in (cr, nn, F, nn.init, nn.utils, optim, optim.lr_scheduler, cr.utils.data, callbacks, cr.data):
        for name, value in public(room).items():
            ours = callable(value) and str(getattr(value, "__module__", "")).startswith("chainrule.")
            if not ours or (isinstance(value, type) and issubclass(value, BaseException)):
                continue
            with pytest.raises(TypeError) as error:
                value(no_such_keyword=1)
            said = str(error.value)
            if "there is no keyword 'no_such_keyword'" not in said and "argument: 'input'" not in said:
                bare.append(f"{room.__name__}.{name}: {said}")
    assert bare == []


@pytest.mark.parametrize("name", ["copy_", "split", "bmm", "norm", "numpy", "exp", "clone", "view", "add_"])
def test_a_keyword_that_a_tensors_method_has_not_is_named_with_the_method(name):
    with pytest.raises(TypeError, match=rf"^Tensor\.{name.rstrip('_')}_?\(\) got an unexpected keyword argument 'odd'"):
        getattr(cr.ones(2, 2), name)(odd=1)


def test_pytorchs_keywords_of_tensor_methods():
    x, y = cr.tensor([[1.0, 2.0], [3.0, 4.0]]), cr.eye(2)
    assert cr.zeros(2, 2).copy_(src=x).tolist() == x.mm(mat2=y).tolist() == cr.mm(x, mat2=y).tolist() == x.tolist()
    assert x[None].bmm(mat2=y[None]).tolist() == [x.tolist()]
    assert (x[0].dot(tensor=x[1]).item(), x[0].outer(vec2=x[1]).tolist()) == (11.0, [[3.0, 4.0], [6.0, 8.0]])
    assert x.addcmul(tensor1=x, tensor2=y, value=2).tolist() == [[3.0, 2.0], [3.0, 12.0]]
    assert x.addcdiv(tensor1=y, tensor2=x).tolist() == [[2.0, 2.0], [3.0, 4.25]]
    assert y.long().type_as(tensor=x).dtype == cr.float32
    for new in (x.new_zeros(3, dtype=cr.int64), x.new_ones(3, dtype=cr.int64), x.new_full((3,), 2, dtype=cr.int64)):
        assert new.dtype == cr.int64
    assert x.new_ones(2, requires_grad=True).requires_grad
    assert cr.ones(2, requires_grad=True).numpy(force=True).tolist() == [1.0, 1.0]
    shared = nn.ReLU()
    twice = nn.Sequential(shared, shared)
    assert (len(list(twice.modules())), len(list(twice.modules(remove_duplicate=False)))) == (2, 3)


def test_pytorchs_constants():
    assert (cr.inf, cr.pi, cr.e, cr.newaxis, cr.nan != cr.nan) == (math.inf, math.pi, math.e, None, True)


def test_what_asks_for_names_is_not_disturbed():
    for thing in (cr.ones(2), nn.Linear(2, 1), F.relu, nn.Linear, optim.Adam, optim.lr_scheduler.StepLR):
        assert pickle.loads(pickle.dumps(thing)) is not None
        assert copy.copy(thing) is not None
        assert copy.deepcopy(thing) is not None
    for module in (cr, nn, F, optim, optim.lr_scheduler):
        assert dict(inspect.getmembers(module))
        assert doctest.DocTestFinder().find(module) is not None
    assert list(inspect.signature(nn.Linear).parameters) == ["in_features", "out_features", "bias", "device", "dtype"]
    assert list(inspect.signature(F.relu).parameters) == ["input", "inplace"]


def test_the_schedules_stand_at_pytorchs_address():
    from chainrule.optim.lr_scheduler import StepLR

    assert StepLR is optim.lr_scheduler.StepLR


@pytest.mark.parametrize("room", ROOMS)
def test_every_place_has_names_of_pytorchs(room):
    assert len(theirs(room)) > 5
    assert not any(name.startswith("_") for name in theirs(room))


def test_the_other_form_of_einsum_is_refused():
    with pytest.raises(
        SettingError,
        match=r"einsum .*: the equation must be a text such as 'ij,jk->ik', got .*\. PyTorch's other form, with lists of numbers of axes, is not in chainrule: see docs/names\.md\.$",
    ):
        cr.einsum(cr.ones(2, 2), [0, 1], [1, 0])


# -- modules -------------------------------------------------------------------------------------------------------

ABSENT = {
    "distributed": "torch.distributed of PyTorch is not in chainrule yet. One process trains, on several threads: leave it out.",
    "distributed.fsdp": "torch.distributed of PyTorch is not in chainrule yet.",
    "random": "torch.random of PyTorch is not in chainrule yet. cr.manual_seed,",
    "nn.modules.linear": "torch.nn.modules of PyTorch is not in chainrule yet. Its classes are in nn: nn.Linear. What is there",
    "nn.utils.parametrize": "torch.nn.utils.parametrize of PyTorch is not in chainrule yet.",
    "nn.utils.parametrizations": "torch.nn.utils.parametrizations of PyTorch is not in chainrule yet.",
    "utils.checkpoint": "torch.utils.checkpoint of PyTorch is not in chainrule yet. cr.backward_in_micro_batches takes less memory",
    "utils.tensorboard": "torch.utils.tensorboard of PyTorch is not in chainrule yet. chainrule.callbacks.TensorBoard writes its files.",
    "utils.data.distributed": "torch.utils.data.distributed of PyTorch is not in chainrule yet.",
    "nn.utils.clip_grad": "torch.nn.utils.clip_grad of PyTorch is not in chainrule yet. nn.utils.clip_grad_norm_ is in nn.utils itself.",
    "testing": "torch.testing of PyTorch is not in chainrule yet. np.testing.assert_allclose compares x.numpy().",
    "autograd.graph": "torch.autograd.graph of PyTorch is not in chainrule yet. What is there",
    "cuda.nvtx": "cr.cuda has no attribute 'nvtx': there is only the CPU here.",
    "backends.mkldnn": "cr.backends has no attribute 'mkldnn': none of PyTorch's libraries is here,",
}  # fmt: skip


@pytest.mark.parametrize("name", ABSENT)
def test_an_import_of_a_module_of_pytorchs_says_that_it_is_not_here(name):
    first = next(part for part in _above(name) if importlib.util.find_spec(f"chainrule.{part}") is None)
    with pytest.raises(
        ModuleNotFoundError, match=re.escape(f"No module named 'chainrule.{first}': {ABSENT[name]}")
    ) as error:
        importlib.import_module(f"chainrule.{name}")
    assert error.value.name == f"chainrule.{first}"


def _above(name):
    parts = name.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


@pytest.mark.parametrize("name", ["nobodys", "nn.nobodys", "save"])
def test_an_import_of_a_module_that_is_nobodys_is_an_ordinary_error(name):
    with pytest.raises(ModuleNotFoundError, match=f"^No module named 'chainrule.{name}'$"):
        importlib.import_module(f"chainrule.{name}")


def test_every_public_module_of_pytorchs_below_ours_is_here_or_says_that_it_is_not():
    assert torch.nn
    for room in ROOMS.values():
        owner = None if ":" in room.ours else importlib.import_module(room.pytorch)
        ours = importlib.import_module(room.ours.partition(":")[0])
        names = [found.name for found in pkgutil.iter_modules(getattr(owner, "__path__", ())) if found.name[0] != "_"]
        for name in (name for name in names if not hasattr(ours, name)):
            with pytest.raises(ModuleNotFoundError, match=f"{room.pytorch}.{name} of PyTorch is not in chainrule yet"):
                importlib.import_module(f"{room.ours}.{name}")


def test_modules_stand_at_pytorchs_addresses():
    import chainrule.backends.cudnn as cudnn
    from chainrule.amp import GradScaler
    from chainrule.cuda import is_available

    from chainrule.nn.utils.rnn import pad_sequence

    assert (cudnn, GradScaler, is_available) == (cr.backends.cudnn, cr.amp.GradScaler, cr.cuda.is_available)
    assert nn.utils.rnn.pad_sequence is pad_sequence
    assert optim.lr_scheduler._LRScheduler is optim.lr_scheduler.LRScheduler


def test_who_announces_twice_is_asked_once():
    announce({})
    assert sum(getattr(finder, "of_chainrule", False) for finder in sys.meta_path) == 1


NEAR = {
    (cr, "int16"): " There are uint8, int32 and int64. What is there: docs/names.md",
    (cr.Tensor, "short"): " There are uint8, int32 and int64. What is there: docs/names.md",
    (cr.Tensor, "mode"): " cr.unique(x, return_counts=True) counts each value. What is there: docs/names.md",
    (cr.Tensor, "geqrf"): " What is there: docs/names.md",
    (cr, "ldexp_"): " There is cr.ldexp. What is there: docs/names.md",
    (nn.utils, "clip_grad_norm"): " There is nn.utils.clip_grad_norm_. What is there: docs/names.md",
    (nn, "LPPool1d"): " What is there: docs/names.md",
}  # fmt: skip


@pytest.mark.parametrize(("owner", "name"), NEAR, ids=[name for _, name in NEAR])
def test_only_what_does_the_same_is_called_near(owner, name):
    with pytest.raises(AttributeError, match=f"of PyTorch is not in chainrule yet.{re.escape(NEAR[owner, name])}$"):
        getattr(owner, name)
