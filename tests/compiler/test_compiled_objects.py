"""Compiled functions as objects: keywords of PyTorch's, modules that stay modules, copies, pickles, forks, one derivative."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from typing import Any

import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn, optim
from chainrule.compiler.runtime.run import Run
from chainrule.errors import SettingError
from tests.optional import torch

# -- PyTorch's keywords --------------------------------------------------------------------------------------------


def test_pytorchs_keywords_are_taken() -> None:
    f = cr.compile(
        lambda x: x * 2, mode="reduce-overhead", fullgraph=True, dynamic=False, backend="inductor", options={"a": 1}
    )
    assert f(cr.ones(2)).tolist() == [2.0, 2.0]

    @cr.compile(mode="default")
    def g(x: Tensor) -> Tensor:
        return x * 3

    assert g(cr.ones(2)).tolist() == [3.0, 3.0]
    assert cr.compile(len, disable=True) is len
    assert cr.compile(disable=True)(len) is len  # type: ignore[comparison-overlap]
    with pytest.raises(SettingError, match=r"^cr.compile: mode must be one of None, 'default', .*, got 'fast'\.$"):
        cr.compile(len, mode="fast")
    assert cr.compile(lambda x: x, mode="max-autotune")._tuned and not f._tuned


# -- compiled modules ------------------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self, compiled: bool) -> None:
        super().__init__()
        first: nn.Module = nn.Linear(3, 4)
        self.first = cr.compile(first) if compiled else first
        self.rest = nn.Sequential(nn.Tanh(), nn.Dropout(0.5), nn.Linear(4, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.rest(self.first(x))


def test_a_compiled_module_is_a_child_like_any_other() -> None:
    plain, net = Net(False), Net(True)
    assert list(net.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in net.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert repr(net) == repr(plain)
    net.load_state_dict(plain.state_dict())
    net.eval(), plain.eval()
    assert not net.first.training
    x = cr.ones(2, 3)
    assert net(x).tolist() == plain(x).tolist()
    assert cr.compile(net)(x).flatten().tolist() == pytest.approx(plain(x).flatten().tolist(), rel=1e-5, abs=1e-6)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    before = net.first.weight.tolist()
    net(x).sum().backward()
    optimizer.step()
    assert net.first.weight.tolist() != before


def test_a_compiled_container_is_used_like_the_container() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    compiled = cr.compile(model)
    assert len(compiled) == 2 and compiled[0] is model[0] and list(compiled) == list(model)
    assert compiled.eval() is compiled and not model[1].training
    compiled.note, compiled.extra = 3, nn.Parameter(cr.ones(1))
    assert model.note == 3 and "extra" in model.state_dict()
    del compiled.extra
    assert "extra" not in model.state_dict()
    compiled.register_buffer("count", cr.ones(1))
    assert model.count.item() == 1.0
    assert compiled.double() is compiled and model[0].weight.dtype is cr.float64


def test_a_compiled_model_trains_as_in_pytorch() -> None:
    cr.manual_seed(0)
    source = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    peer = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    peer.load_state_dict({k: torch.tensor(v.detach().numpy()) for k, v in source.state_dict().items()})
    model = cr.compile(source)
    ours, theirs = optim.Adam(model.parameters(), lr=0.05), torch.optim.Adam(peer.parameters(), lr=0.05)
    x, y = cr.rand(16, 4), cr.arange(16) % 3
    tx, ty = torch.tensor(x.numpy()), torch.tensor(y.numpy())
    for _ in range(10):
        loss = F.cross_entropy(model(x), y)
        ours.zero_grad()
        loss.backward()
        ours.step()
        other = torch.nn.functional.cross_entropy(peer(tx), ty)
        theirs.zero_grad()
        other.backward()
        theirs.step()
        assert loss.item() == pytest.approx(other.item(), rel=1e-4)


# -- one derivative -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used", [[0], [1], [0, 1], [0, 1, 2, 3], [3, 1]])
def test_the_backward_program_runs_once_whichever_results_are_used(
    used: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)

    def f(x: Tensor) -> list[Tensor]:
        return [(w * x).sum(), w * w, x * 3, (w.exp() * x)]

    def loss(results: list[Tensor]) -> Tensor:
        return sum(((i + 1.0) * results[i]).sum() for i in used)  # type: ignore[return-value]

    x = cr.tensor([0.5, -1.0])
    loss(f(x)).backward()
    expected, w.grad = w.grad, None
    compiled = cr.compile(f)
    loss(compiled(x)).backward()
    w.grad = None
    runs: list[Any] = []
    go = Run.go
    monkeypatch.setattr(Run, "go", lambda self, steps: (runs.append(self), go(self, steps))[1])
    for _ in range(2):
        result = loss(compiled(x))
        runs.clear()
        result.backward()
        assert len(runs) == 1
        assert w.grad.tolist() == pytest.approx(expected.tolist())
        w.grad = None


def test_a_derivative_keeps_its_memory_and_what_it_gave() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    f = cr.compile(lambda x: (w * w * x).sum())
    found = []
    for i in range(4):
        w.grad = None
        f(cr.tensor([i + 1.0, 1.0])).backward()
        found.append(w.grad)
    assert [g.tolist() for g in found] == [[2.0 * (i + 1), 4.0] for i in range(4)]
    (variants,) = f._variants.values()
    assert len(next(iter(variants[0].derivative._passes.values()))._idle) == 1


def test_what_no_result_depends_on_has_no_gradient() -> None:
    w, v = cr.ones(2, requires_grad=True), cr.ones(2, requires_grad=True)
    f = cr.compile(lambda x: (w * x, (v * x).detach())[0])
    f(cr.ones(2)).sum().backward()
    assert w.grad is not None and v.grad is None


# -- copies and other processes --------------------------------------------------------------------------------------------


@cr.compile
def module_level(x: Tensor) -> Tensor:
    return x * 2


def plain(x: Tensor) -> Tensor:
    return x * 5


def test_pickles_and_copies_leave_the_programs_behind() -> None:
    module_level(cr.ones(2))
    again = pickle.loads(pickle.dumps(module_level))
    assert again is module_level and copy.deepcopy(module_level) is module_level
    other = cr.compile(plain, tune=False)
    other(cr.ones(2))
    for made in (pickle.loads(pickle.dumps(other)), copy.deepcopy(other)):
        assert made is not other and not made._variants and made(cr.ones(2)).tolist() == [5.0, 5.0]
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(cr.compile(lambda x: x))


def test_a_compiled_model_is_pickled_and_copied_with_its_weights() -> None:
    model = cr.compile(nn.Linear(2, 1))
    x = cr.ones(3, 2)
    expected = model(x).tolist()
    for made in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert made(x).tolist() == expected and made.weight is not model.weight
        with cr.no_grad():
            made.weight.zero_()
        assert model(x).tolist() == expected


def test_a_spawned_process_calls_a_compiled_function() -> None:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(_spawned, [(cr.compile(nn.Linear(2, 1)), 2.0)])[0] == (3, 1)


def _spawned(given: Any) -> tuple[int, ...]:
    model, value = given
    return tuple(model(cr.ones(3, 2) * value).shape)
