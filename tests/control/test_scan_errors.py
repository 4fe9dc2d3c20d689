"""What ``cr.scan`` refuses, and in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

import chainrule as cr
from chainrule import Tensor, nn
from chainrule.errors import DtypeError, GradientError, SettingError, ShapeError, TraceError

Function = Callable[..., Any]

ZERO, THREE = cr.zeros(2), cr.zeros(3, 2)
OUTSIDE = cr.zeros(2)
WEIGHT = cr.ones(2, requires_grad=True)


def _backward(h: Tensor, x: Tensor) -> Any:
    (h * WEIGHT).sum().backward()
    return h, x


REFUSED: list[tuple[type[Exception], str, Function]] = [
    (SettingError, "f must be a function (carry, x) -> (carry, y), got NoneType. Pass the step's function first.",
     lambda: cr.scan(None, ZERO, THREE)),
    (ShapeError, "the number of steps must be told by xs or length, got neither. Pass one.", lambda: cr.scan(lambda h, x: (h, x), ZERO)),
    (ShapeError, "length must be that of xs, got length=2 and first axes of 3. Leave length out, or cut xs.",
     lambda: cr.scan(lambda h, x: (h, x), ZERO, THREE, 2)),
    (ShapeError, "length must be a number from 0 to 9223372036854775807, got -1.", lambda: cr.scan(lambda h, x: (h, x), ZERO, None, -1)),
    (ShapeError, "length must be a number from 0 to 9223372036854775807, got 18446744073709551619.",
     lambda: cr.scan(lambda h, x: (h, None), ZERO, None, 2**64 + 3)),
    (DtypeError, "length must be an integer, got 2.5. Use int(...).", lambda: cr.scan(lambda h, x: (h, x), ZERO, None, 2.5)),
    (ShapeError, "all tensors in xs must have first axes of one length, got 3, 2. Cut them.",
     lambda: cr.scan(lambda h, x: (h, x), ZERO, (THREE, ZERO))),
    (ShapeError, "every tensor in xs must have a first axis, along which the steps go, got one without axes.",
     lambda: cr.scan(lambda h, x: (h, x), ZERO, cr.tensor(1.0))),
    (TraceError, "the function must return a pair (carry, y), got Tensor. Where there is no y, return (carry, None).",
     lambda: cr.scan(lambda h, x: h, ZERO, THREE)),
    (TraceError, "the function must return a pair (carry, y), got 3 results.", lambda: cr.scan(lambda h, x: (h, x, x), ZERO, THREE)),
    (ShapeError, "the function must return a carry built as init, (*, *), got *. Return it in the same structure.",
     lambda: cr.scan(lambda h, x: (h[0], x), (ZERO, ZERO), THREE)),
    (ShapeError, "the carry must keep its shapes and dtypes, but carry['h'][1] was f32[2] and came back as f32[1, 2]. Give init "
     "that shape and dtype, or convert what the function returns.",
     lambda: cr.scan(lambda c, x: ({"h": (c["h"][0], c["h"][1][None])}, x), {"h": (ZERO, ZERO)}, THREE)),
    (DtypeError, "the carry must keep its shapes and dtypes, but carry was i64[] and came back as f32[]. Give init that shape",
     lambda: cr.scan(lambda n, x: (n + x.sum(), x), 0, THREE)),
    (DtypeError, "init must hold tensors, arrays or numbers (alone, or in lists, tuples and dicts), got str. Convert it",
     lambda: cr.scan(lambda h, x: (h, x), "zero", THREE)),
    (DtypeError, "y must hold tensors, arrays or numbers", lambda: cr.scan(lambda h, x: (h, "y"), ZERO, THREE)),
    (TraceError, "the function writes to a tensor from outside, of f32[2], in a way that has a gradient, which a later step could "
     "not find. Carry it: pass it in init, and return what it becomes.",
     lambda: cr.scan(lambda h, x: (h, OUTSIDE.add_(x * WEIGHT)), ZERO, THREE)),
    (GradientError, "the function reads or sets the grad of a tensor from outside (backward does both), which would happen once and "
     "not at each step. Take derivatives with cr.grad inside, or call backward outside.", lambda: cr.scan(_backward, ZERO, THREE)),
    (TraceError, "a traced tensor has no value yet, but Python asked for one", lambda: cr.scan(lambda h, x: (h if h.sum() > 0 else x, x), ZERO, THREE)),
]  # fmt: skip


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("error", "text", "call"), REFUSED, ids=[text[:40] for _, text, _ in REFUSED])
def test_what_has_no_meaning_is_refused(error: type[Exception], text: str, call: Function, compiled: bool) -> None:
    with pytest.raises(error, match=re.escape(text)) as caught:
        cr.compile(call)() if compiled else call()
    assert "test_scan_errors.py:" in str(caught.value)
    assert OUTSIDE.tolist() == [0.0, 0.0]
    assert WEIGHT.grad is None


def test_a_tensor_of_a_step_is_refused_outside() -> None:
    kept: list[Tensor] = []
    for f in (lambda: cr.scan(lambda h, x: (kept.append(h * 2) or h, x), ZERO, THREE), lambda: kept[-1] + 1):
        if f() is not None and kept:
            break
    with pytest.raises(TraceError, match="was used after tracing ended"):
        kept[-1] + 1


def test_an_attribute_assigned_inside_is_refused() -> None:
    class Keeps(nn.Module):
        def forward(self, xs: Tensor) -> Any:
            return cr.scan(self.step, cr.zeros(2), xs)

        def step(self, h: Tensor, x: Tensor) -> Any:
            self.last = h
            return h + x, h

    expected = re.escape(
        "the function assigns Keeps.last, which Python does once and not at each step. Return the value"
    )
    for f in (Keeps(), cr.compile(Keeps())):
        with pytest.raises(TraceError, match=expected):
            f(THREE)
