"""Random programs of Tensor operations, for comparing compiled runs with eager ones.

A program is a list of steps over an environment of tensors. Values of discontinuous operations (floor,
comparisons, casts to integers) only come from tensors that are exact in any order of rounding: `bits`
bounds the significant bits of each, None where rounding has happened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import chainrule as cr
from chainrule import Tensor
from chainrule.dtypes import computed
from chainrule.tensor.core import numbers

Env = list[Tensor]
Step = Callable[[Env], Tensor]
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]
INTEGERS = (cr.int32, cr.int64, cr.uint8)
LIMIT = 3000  # elements of a tensor
EXACT = {cr.bfloat16: 7, cr.float32: 20, cr.float64: 40}
COMPUTED = (cr.float64, cr.float64, cr.float32)


def standardised(x: Tensor, dim: int) -> Tensor:
    centred = x - x.mean(dim, keepdim=True)
    return centred * ((centred * centred).mean(dim, keepdim=True) + 0.1).rsqrt()


def over_range(x: Tensor, dim: int) -> Tensor:
    low, high = (x.detach().amin(dim, keepdim=True), x.detach().amax(dim, keepdim=True))
    return (x - low) / (high - low + 1)


# Several folds over one axis and what follows from them: kernels over rows, where the axis is the last.
ROWS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "softmax": Tensor.softmax,
    "log_softmax": Tensor.log_softmax,
    "logsumexp": Tensor.logsumexp,
    "standardised": standardised,
    "over_range": over_range,
}


def tensor_of(floating: Any, array: np.ndarray[Any, Any], requires_grad: bool = False) -> Tensor:
    """An array, in a floating dtype if it is of floats."""
    return cr.tensor(array, floating if array.dtype.kind == "f" else None, requires_grad)


@dataclass
class Program:
    """What was drawn: how to make the inputs, and the steps."""

    floating: Any
    arguments: list[np.ndarray[Any, Any]] = field(default_factory=list)
    parameters: list[np.ndarray[Any, Any]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    losses: list[int] = field(default_factory=list)
    generator: cr.Generator = field(default_factory=lambda: cr.Generator(5))
    update: bool = False
    scale: float = 1.0  # the largest magnitude on the way, for the tolerance

    def tensor(self, array: np.ndarray[Any, Any], requires_grad: bool = False) -> Tensor:
        """An array in the program's dtypes; of bfloat16, which NumPy has not, it has the numbers."""
        return tensor_of(self.floating, array, requires_grad)

    def run(self, arguments: list[Tensor], parameters: list[Tensor]) -> tuple[list[Tensor], list[Tensor | None]]:
        env = [*arguments, *parameters]
        for parameter in parameters:
            parameter.grad = None
        for step in self.steps:
            env.append(step(env))
        results = [env[i] for i in self.outputs]
        gradients: list[Tensor | None] = []
        if self.losses:
            loss = sum((env[i] * (0.5 + 0.25 * n)).mean() for n, i in enumerate(self.losses))
            loss.backward()  # type: ignore[union-attr]
            gradients = [p.grad for p in parameters]
            if self.update:
                with cr.no_grad():
                    for p in parameters:
                        if p.grad is not None:
                            p.sub_(p.grad * 0.125)
        return results, gradients

    def __repr__(self) -> str:
        inputs = [f"v{i} = {a.dtype}{a.shape}" for i, a in enumerate([*self.arguments, *self.parameters])]
        return "\n".join([*inputs, *self.texts, f"outputs {self.outputs} losses {self.losses} update {self.update}"])


class Drawer:
    """Draws a program while running it eagerly, so that every shape is known."""

    def __init__(self, draw: Any, floating: Sequence[Any]) -> None:
        self.draw = draw
        self.program = Program(self.pick(floating))
        self.rng = np.random.default_rng(self.draw(st.integers(0, 9)))
        self.env: Env = []
        self.bits: list[int | None] = []

    # -- drawing ------------------------------------------------------------------------------
    def pick(self, items: Any) -> Any:
        return self.draw(st.sampled_from(list(items)))

    def integer(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def shape(self, rank: int | None = None) -> tuple[int, ...]:
        rank = self.integer(0, 3) if rank is None else rank
        sizes = tuple(0 if self.draw(st.integers(0, 60)) == 60 else self.pick(SIZES) for _ in range(rank))
        while math.prod(sizes) > LIMIT // 4:
            sizes = tuple(min(s, 3) for s in sizes)
        return sizes

    def array(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
        if dtype.is_floating_point:
            return (self.rng.integers(-12, 13, shape) / 4).astype(computed(dtype).numpy)
        if dtype == cr.bool:
            return self.rng.integers(0, 2, shape).astype(bool)
        low = 0 if dtype == cr.uint8 else -5
        return np.asarray(self.rng.integers(low, 6, shape), dtype.numpy)

    # -- choosing operands --------------------------------------------------------------------
    def which(self, accept: Callable[[Tensor], bool], exact: bool = False) -> int | None:
        found = [i for i, t in enumerate(self.env) if accept(t) and (not exact or self.bits[i] is not None)]
        return self.pick(found[-6:] + found[:3]) if found else None

    def floating(self, exact: bool = False, accept: Callable[[Tensor], bool] = lambda t: True) -> int | None:
        return self.which(lambda t: t.dtype == self.program.floating and accept(t), exact)

    def any(self, accept: Callable[[Tensor], bool] = lambda t: True) -> int | None:
        return self.which(accept)

    def partner(self, i: int) -> int | None:
        """A tensor of the same dtype whose shape broadcasts with v_i's."""
        x = self.env[i]

        def fits(t: Tensor) -> bool:
            if t.dtype != x.dtype:
                return False
            try:
                return math.prod(np.broadcast_shapes(t.shape, x.shape)) <= LIMIT
            except ValueError:
                return False

        return self.which(fits)

    def combined(self, a: int, b: int, extra: int = 1, product: bool = False) -> int | None:
        x, y = self.bits[a], self.bits[b]
        if x is None or y is None:
            return None
        return self.bounded(x + y if product else max(x, y) + extra)

    def bounded(self, bits: int | None) -> int | None:
        return bits if bits is not None and bits <= EXACT[self.program.floating] else None

    # -- recording ----------------------------------------------------------------------------
    def add(self, text: str, step: Step, bits: int | None) -> bool:
        value = step(self.env)
        if value.numel() > LIMIT:
            return False
        if value.dtype.is_floating_point:
            with np.errstate(all="ignore"):
                largest = float(np.abs(numbers(value)).max(initial=0))
            if not largest < 1e5:  # also NaN: keep the comparison meaningful
                return False
            self.program.scale = max(self.program.scale, largest)
        self.program.steps.append(step)
        self.program.texts.append(f"v{len(self.env)} = {text}  # {value.dtype.short}{list(value.shape)}")
        self.env.append(value)
        self.bits.append(bits)
        return True

    def build(self, steps: int) -> Program:
        p = self.program
        kinds = [p.floating, p.floating, p.floating, cr.int64, cr.int32, cr.bool, cr.uint8]
        for _ in range(self.integer(1, 3)):
            p.arguments.append(self.array(self.shape(), self.pick(kinds)))
        for _ in range(self.integer(1, 2)):
            p.parameters.append(self.array(self.shape(), p.floating))
        self.env += [p.tensor(a) for a in p.arguments] + [p.tensor(a, requires_grad=True) for a in p.parameters]
        self.bits += [5] * len(self.env)
        first = len(self.env)
        families = [getattr(self, name) for name in FAMILIES]
        for _ in range(self.integer(1, steps)):
            self.pick(families)()
        made = range(first, len(self.env)) or range(first)
        p.outputs = sorted({self.pick(made) for _ in range(self.integer(1, 4))})
        p.losses = sorted({
            i for i in p.outputs if self.env[i].requires_grad and self.env[i].numel()
        })  # fmt: skip
        p.update = self.flag()
        return p

    # -- families of operations -----------------------------------------------------------------
    def binary(self) -> None:
        a = self.any(lambda t: t.dtype != cr.bool)
        if a is None:
            return
        b = self.partner(a)
        if b is None:
            return
        name = self.pick(["+", "-", "*"] if self.kinks(a) or self.kinks(b) else ["+", "-", "*", "max", "min"])
        act = {
            "+": lambda x, y: x + y, "-": lambda x, y: x - y, "*": lambda x, y: x * y,
            "max": lambda x, y: x.maximum(y), "min": lambda x, y: x.minimum(y),
        }[name]  # fmt: skip
        floating = self.env[a].dtype.is_floating_point
        bits = self.combined(a, b, 1 if name in "+-" else 0, name == "*") if floating else 5
        self.add(f"v{a} {name} v{b}", lambda env: act(env[a], env[b]), bits)

    def number(self) -> None:
        a = self.any(lambda t: t.dtype != cr.bool)
        if a is None:
            return
        floating = self.env[a].dtype.is_floating_point
        c = self.pick([0, 1, 2, -1, 3] + ([0.5, -0.25, 0.0, -0.0, 1.0] if floating else []))
        name = self.pick(["+", "-", "*", "r-", "**2", "/2"])
        act = {
            "+": lambda x: x + c, "-": lambda x: x - c, "*": lambda x: x * c, "r-": lambda x: c - x,
            "**2": lambda x: x**2, "/2": lambda x: (x / 2) if floating else x,
        }[name]  # fmt: skip
        old = self.bits[a]
        bits = None if old is None else self.bounded(2 * old if name == "**2" else old + 3)
        self.add(f"v{a} {name} {c}", lambda env: act(env[a]), bits if floating else 5)

    def smooth(self) -> None:
        a = self.floating()
        if a is None:
            return
        functions: dict[str, Any] = {
            "exp": lambda x: (x.tanh() * 3).exp(), "log": lambda x: (x * x + 0.5).log(),
            "log1p": lambda x: (x * x).log1p(), "expm1": lambda x: x.sin().expm1(),
            "sqrt": lambda x: (x * x + 0.5).sqrt(), "rsqrt": lambda x: (x * x + 0.5).rsqrt(),
            "sin": lambda x: x.sin(), "cos": lambda x: x.cos(), "tanh": lambda x: x.tanh(), "erf": lambda x: x.erf(),
            "sigmoid": lambda x: x.sigmoid(), "reciprocal": lambda x: 1 / (x * x + 0.5),
            "pow": lambda x: (x * x + 0.5) ** 1.7, "rpow": lambda x: 2.0 ** x.cos(),
        }  # fmt: skip
        name = self.pick(functions)
        self.add(f"{name}(v{a})", lambda env: functions[name](env[a]), None)

    def divide(self) -> None:
        a = self.floating()
        b = None if a is None else self.partner(a)
        if b is not None:
            self.add(f"v{a} / (v{b}**2 + 0.5)", lambda env: env[a] / (env[b] ** 2 + 0.5), None)

    def kinked(self) -> None:
        a = self.floating(exact=True)
        if a is None:
            return
        functions: dict[str, Any] = {
            "abs": lambda x: x.abs(), "sign": lambda x: x.sign(), "floor": lambda x: x.floor(), "neg": lambda x: -x,
            "round": lambda x: x.round(), "ceil": lambda x: x.ceil(), "relu": lambda x: x.relu(),
            "clamp": lambda x: x.clamp(-1, 1.5), "trunc": lambda x: x.trunc(), "int": lambda x: x.int(),
            "long": lambda x: x.long(), "bool": lambda x: x.bool(), "//": lambda x: x // 1.5, "%": lambda x: x % 1.5,
            "u8": lambda x: x.abs().clamp(0, 200).to(cr.uint8),
        }  # fmt: skip
        name = self.pick(functions)
        self.add(f"{name}(v{a})", lambda env: functions[name](env[a]), self.bits[a])

    def kinks(self, i: int) -> bool:
        """May a rounding error show in the gradient of a function with a kink?"""
        return self.bits[i] is None and self.env[i].requires_grad

    def continuous(self) -> None:
        a = self.floating()
        a = None if a is None or self.kinks(a) else a
        if a is not None:
            name = self.pick(["relu", "abs", "clamp", "neg"])
            act = {"relu": Tensor.relu, "abs": Tensor.abs, "clamp": lambda x: x.clamp(-1, 1.5), "neg": Tensor.neg}[name]
            self.add(f"{name}(v{a})", lambda env: act(env[a]), self.bits[a])

    def compare(self) -> None:
        a = self.which(lambda t: True, exact=True)
        b = None if a is None else self.partner(a)
        if a is None or b is None or self.bits[b] is None:
            return
        name = self.pick(["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"])
        self.add(f"v{a} {name} v{b}", lambda env: getattr(env[a], name)(env[b]), 1)

    def select(self) -> None:
        c = self.any(lambda t: t.dtype == cr.bool)
        a = self.any(lambda t: t.dtype != cr.bool)
        if c is None or a is None:
            return
        b = self.partner(a)
        try:
            np.broadcast_shapes(self.env[c].shape, self.env[a].shape, self.env[b if b is not None else a].shape)
        except ValueError:
            return
        if b is None:
            self.add(f"where(v{c}, v{a}, 2)", lambda env: cr.where(env[c], env[a], 2), self.bits[a])
        else:
            self.add(f"where(v{c}, v{a}, v{b})", lambda env: cr.where(env[c], env[a], env[b]), self.combined(a, b, 0))

    def cast(self) -> None:
        a = self.which(lambda t: not t.dtype.is_floating_point)
        if a is not None:
            to = self.pick([*INTEGERS, cr.bool, self.program.floating, self.program.floating])
            self.add(f"v{a}.to({to})", lambda env: env[a].to(to), 32 if to == cr.float64 else None)

    def bitwise(self) -> None:
        a = self.which(lambda t: not t.dtype.is_floating_point)
        b = None if a is None else self.partner(a)
        if a is None or b is None:
            return
        logical = self.env[a].dtype == cr.bool
        functions: dict[str, Any] = {
            "and": lambda x, y: x & y,
            "or": lambda x, y: x | y,
            "xor": lambda x, y: x ^ y,
            "not": lambda x, y: ~x,
        }
        if not logical:
            functions |= {
                "shl": lambda x, y: x << (y & 3), "shr": lambda x, y: x >> (y & 3),
                "//": lambda x, y: x // cr.where(y == 0, 3, y), "%": lambda x, y: x % cr.where(y == 0, 3, y),
            }  # fmt: skip
        name = self.pick(functions)
        self.add(f"v{a} {name} v{b}", lambda env: functions[name](env[a], env[b]), 5)

    def reduce(self) -> None:
        a = self.any(lambda t: t.ndim > 0)
        if a is None:
            return
        x = self.env[a]
        dims = sorted({self.integer(0, x.ndim - 1) for _ in range(self.integer(1, x.ndim))})
        keep = self.flag()
        floating = x.dtype.is_floating_point
        names = (
            ["sum"]
            + ["amax", "amin"] * (not self.kinks(a))
            + ["mean", "var"] * floating
            + ["any", "all"] * (self.bits[a] is not None)
        )
        name = self.pick(names)
        count = math.prod(x.shape[d] for d in dims)
        if (not count and name != "sum") or (name == "var" and count < 2) or (x.dtype == cr.bool and name == "sum"):
            return
        bits = self.bits[a]
        if name == "sum" and bits is not None:
            bits = self.bounded(bits + max(1, count).bit_length())
        elif name in ("mean", "var"):
            bits = None
        spec: Any = dims if len(dims) < x.ndim or self.flag() else None
        self.add(f"v{a}.{name}({spec}, keepdim={keep})", lambda env: getattr(env[a], name)(spec, keepdim=keep), bits)

    def arg(self) -> None:
        a = self.which(lambda t: t.ndim > 0 and t.numel() > 0, exact=True)
        if a is not None:
            dim = self.pick([None, *range(self.env[a].ndim)])
            name = self.pick(["argmax", "argmin"])
            self.add(f"v{a}.{name}({dim})", lambda env: getattr(env[a], name)(dim), 5)

    def rows(self) -> None:
        a = self.floating(accept=lambda t: t.ndim > 0 and t.numel() > 0)
        if a is not None:
            dim = self.integer(0, self.env[a].ndim - 1)
            name = self.pick(["softmax", "log_softmax", "logsumexp", "standardised", "over_range"])
            self.add(f"v{a}.{name}({dim})", lambda env: ROWS[name](env[a], dim), None)

    def view(self) -> None:
        a = self.any()
        if a is None:
            return
        x = self.env[a]
        kinds = ["reshape", "unsqueeze", "flip", "flatten", "squeeze", "permute", "expand"]
        kind = self.pick(kinds)
        argument: Any = None
        if kind == "reshape":
            argument = self._factors(x.numel())
        elif kind == "unsqueeze":
            argument = self.integer(0, x.ndim)
        elif kind == "permute":
            argument = tuple(self.draw(st.permutations(range(x.ndim))))
        elif kind == "flip":
            argument = tuple(sorted({self.integer(0, x.ndim - 1) for _ in range(2)})) if x.ndim else ()
        elif kind == "expand":
            front = (self.pick([2, 3]),) if self.flag() else ()
            argument = front + tuple(self.pick([2, 3, 5]) if s == 1 else s for s in x.shape)
        self.add(
            f"v{a}.{kind}({argument})",
            lambda env: getattr(env[a], kind)(*(() if argument is None else (argument,))), self.bits[a],
        )  # fmt: skip

    def _factors(self, count: int) -> tuple[int, ...]:
        if not count:
            return (0, 3)
        shape = []
        for factor in (2, 3, 4, 5, 7, 8):
            if count % factor == 0 and self.flag():
                shape.append(factor)
                count //= factor
        return tuple(self.draw(st.permutations([*shape, count])))

    def slice(self) -> None:
        a = self.any(lambda t: t.ndim > 0)
        if a is None:
            return
        key: list[Any] = []
        for size in self.env[a].shape:
            kind = self.integer(0, 3)
            if kind == 0 and size:
                key.append(self.integer(-size, size - 1))
            elif kind == 1:
                key.append(slice(None))
            else:
                low, high = self.integer(0, size), self.integer(0, size)
                key.append(slice(min(low, high), max(low, high), self.pick([1, 1, 2, 3])))
        if self.flag():
            key.insert(self.integer(0, len(key)), None)
        spec = tuple(key)
        self.add(f"v{a}[{spec}]", lambda env: env[a][spec], self.bits[a])

    def assign(self) -> None:
        a = self.any(lambda t: t.ndim > 0)
        if a is None:
            return
        x = self.env[a]
        spec = tuple(slice(self.integer(0, s), None, self.pick([1, 2, 3])) for s in x.shape[: self.integer(1, x.ndim)])
        b = self.which(lambda t: t.dtype == x.dtype and t.ndim == 0)
        if x.dtype == cr.bool:
            return

        def write(env: Env) -> Tensor:
            copy = env[a].clone()
            copy[spec] = 2 if b is None else env[b]
            return copy

        self.add(f"v{a}[{spec}] = v{b}", write, self.bits[a] if b is None else self.combined(a, b, 0))

    def join(self) -> None:
        a = self.any(lambda t: t.ndim > 0)
        if a is None:
            return
        x = self.env[a]
        dim = self.integer(0, x.ndim - 1)
        rest = x.shape[:dim] + x.shape[dim + 1 :]
        b = self.which(lambda t: t.ndim == x.ndim and t.dtype == x.dtype and t.shape[:dim] + t.shape[dim + 1 :] == rest)
        if b is None:
            return
        stacked = self.flag() and self.env[b].shape == x.shape
        act = cr.stack if stacked else cr.cat
        self.add(
            f"{act.__name__}([v{a}, v{b}, v{a}], {dim})",
            lambda env: act([env[a], env[b], env[a]], dim),
            self.combined(a, b, 0),
        )

    def split(self) -> None:
        a = self.any(lambda t: t.ndim > 0 and t.numel() > 1)
        if a is not None:
            dim = self.integer(0, self.env[a].ndim - 1)
            at = self.integer(1, 4)
            self.add(f"v{a}.split({at}, {dim})[-1]", lambda env: env[a].split(at, dim)[-1], self.bits[a])

    def product(self) -> None:
        dtype = self.program.floating  # not `self`, of which a compiled step would look at all that it holds
        a = self.which(lambda t: t.ndim > 0 and t.dtype in (self.program.floating, self.program.floating, cr.int64))
        if a is None:
            return
        x = self.env[a]
        turned = self.flag() and x.ndim > 1
        shape = x.mT.shape if turned else x.shape

        def fits(t: Tensor) -> bool:
            if t.dtype != x.dtype or not t.ndim:
                return False
            try:
                return bool(np.matmul(np.zeros(shape), np.zeros(t.shape)).size <= LIMIT)
            except ValueError:
                return False

        b = self.which(fits)
        if b is None:  # make a factor that fits
            width, k = self.pick(SIZES), shape[-1]
            data = self.array((k, width), x.dtype)
            if not self.add(f"constant({k}, {width})", lambda env: tensor_of(dtype, data), 5):
                return
            b = len(self.env) - 1
            if not fits(self.env[b]):
                return
        other: int = b

        def multiply(env: Env) -> Tensor:
            return (env[a].mT if turned else env[a]) @ env[other]

        bits = self.combined(a, b, max(1, shape[-1]).bit_length(), product=True) if x.dtype.is_floating_point else 5
        self.add(f"v{a}{'.mT' if turned else ''} @ v{b}", multiply, bits)

    def linear(self) -> None:
        dtype = self.program.floating  # not `self`, of which a compiled step would look at all that it holds
        """A layer on rows: product, bias, activation."""
        a = self.floating(accept=lambda t: t.ndim >= 1 and t.shape[-1] > 0)
        if a is None:
            return
        width, k = self.pick(SIZES), self.env[a].shape[-1]
        data, bias = self.array((width, k), self.program.floating), self.array((width,), self.program.floating)
        self.add(
            f"tanh(v{a} @ ({width}, {k}).T + bias)",
            lambda env: (env[a] @ tensor_of(dtype, data).T * 0.1 + tensor_of(dtype, bias)).tanh(), None,
        )  # fmt: skip

    def take(self) -> None:
        dtype = self.program.floating  # not `self`, of which a compiled step would look at all that it holds
        a = self.any(lambda t: t.ndim > 0 and t.numel() > 0)
        if a is None:
            return
        x = self.env[a]
        dim = self.integer(0, x.ndim - 1)
        count = self.integer(1, 6)
        low = -x.shape[dim]
        index = self.rng.integers(low, x.shape[dim], count)
        kind = self.pick(["index_select", "gather", "index_add", "scatter_add", "fancy"])
        if kind == "index_select":
            self.add(
                f"v{a}.index_select({dim}, {index})",
                lambda env: env[a].index_select(dim, cr.tensor(index)),
                self.bits[a],
            )
        elif kind == "gather":
            at = self.rng.integers(low, x.shape[dim], tuple(count if d == dim else s for d, s in enumerate(x.shape)))
            self.add(f"v{a}.gather({dim}, {at.shape})", lambda env: env[a].gather(dim, cr.tensor(at)), self.bits[a])
        elif kind == "fancy":
            key = (slice(None),) * dim + (index.reshape(1, -1) if self.flag() else index,)
            self.add(f"v{a}[{key}]", lambda env: env[a][key], self.bits[a])
        elif x.dtype.is_floating_point:
            rows = tuple(count if d == dim else s for d, s in enumerate(x.shape))
            values = self.array(rows, x.dtype)
            if kind == "index_add":
                act: Step = lambda env: env[a].index_add(dim, cr.tensor(index), tensor_of(dtype, values))  # noqa: E731
            else:
                at = self.rng.integers(low, x.shape[dim], rows)
                act = lambda env: env[a].scatter_add(dim, cr.tensor(at), tensor_of(dtype, values))  # noqa: E731
            self.add(f"v{a}.{kind}({dim}, {rows})", act, None)

    def by_data(self) -> None:
        """An index that is itself computed: an integer tensor modulo the axis."""
        a = self.floating(accept=lambda t: t.ndim > 0 and t.shape[0] > 0)
        b = self.which(lambda t: t.dtype in (cr.int64, cr.int32))
        if a is None or b is None:
            return
        size = self.env[a].shape[0]
        if self.env[b].numel() * math.prod(self.env[a].shape[1:]) <= LIMIT:
            self.add(f"v{a}[v{b} % {size}]", lambda env: env[a][env[b] % size], self.bits[a])

    def triangle(self) -> None:
        a = self.floating(accept=lambda t: t.ndim >= 2)
        if a is not None:
            name, k = self.pick(["tril", "triu"]), self.integer(-1, 1)
            self.add(f"v{a}.{name}({k})", lambda env: getattr(env[a], name)(k), self.bits[a])

    def random(self) -> None:
        shape, generator = self.shape(), self.program.generator
        kind = self.pick(["rand", "randn", "randint", "mask"])
        p = self.program.floating
        acts: dict[str, Step] = {
            "rand": lambda env: cr.rand(shape, dtype=p, generator=generator),
            "randn": lambda env: cr.randn(shape, dtype=p, generator=generator),
            "randint": lambda env: cr.randint(-3, 9, shape, generator=generator),
            "mask": lambda env: cr.rand(shape, generator=generator) < 0.5,
        }
        self.add(f"{kind}({shape})", acts[kind], None if kind in ("rand", "randn") else 5)

    def counting(self) -> None:
        n = self.pick(SIZES)
        to = self.pick([cr.int64, cr.int32, self.program.floating])
        self.add(f"arange({n}, {to})", lambda env: cr.arange(n, dtype=to), 6)

    def detached(self) -> None:
        a = self.floating()
        if a is not None:
            self.add(f"v{a}.detach()", lambda env: env[a].detach() * 1, self.bits[a])


FAMILIES = [
    "binary", "binary", "binary", "number", "smooth", "divide", "kinked", "continuous", "compare", "select", "cast",
    "bitwise", "reduce", "reduce", "arg", "rows", "view", "view", "view", "view", "view", "slice", "slice", "assign", "join", "split",
    "product", "product", "linear", "take", "by_data", "triangle", "random", "counting", "detached",
]  # fmt: skip


@st.composite
def programs(draw: Any, steps: int = 14, floating: Sequence[Any] = COMPUTED) -> Program:
    """A random program of up to `steps` operations in one of some floating dtypes."""
    return Drawer(draw, floating).build(steps)
