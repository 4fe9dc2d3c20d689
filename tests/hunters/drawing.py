"""Random programs as text that PyTorch and chainrule both run: shapes and kinds are known from PyTorch's values.

A value is *exact* while it was made by operations without rounding from multiples of a quarter; only exact values
reach operations with jumps or kinks, where a last bit would decide, so that whatever differs is a fault.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

SIZES = [1, 1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33]
LARGEST = 2000  # elements of one value
Array = np.ndarray[Any, Any]
Family = Callable[["Drawer"], None]  # adds a line or none


@dataclass
class Program:
    """Inputs, some of them with gradients, and lines over ``v0``, ``v1``, ..."""

    inputs: list[Array] = field(default_factory=list)
    differentiable: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    losses: list[int] = field(default_factory=list)

    def run(
        self, inputs: list[Any], library: Any, functional: Any, after: Callable[[int, Any], None] | None = None
    ) -> tuple[list[Any], Any]:
        """All outputs, and the loss (None where no output has a gradient).

        Args:
            after: gets each line's number and value.
        """
        names: dict[str, Any] = {f"v{i}": x for i, x in enumerate(inputs)}
        names |= {"lib": library, "F": functional}
        for i, line in enumerate(self.lines, len(inputs)):
            names[f"v{i}"] = eval(line, names)
            if after is not None:
                after(i - len(inputs), names[f"v{i}"])
        outputs = [names[f"v{i}"] for i in self.outputs]
        parts = [(names[f"v{i}"] * (0.5 + 0.25 * n)).sum() for n, i in enumerate(self.losses)]
        loss = parts[0] if parts else None
        for part in parts[1:]:
            loss = loss + part
        return outputs, loss

    def __str__(self) -> str:
        given = [
            f"v{i} = {a.dtype}{list(a.shape)}{' grad' if i in self.differentiable else ''}"
            for i, a in enumerate(self.inputs)
        ]
        made = [f"v{i} = {line}" for i, line in enumerate(self.lines, len(self.inputs))]
        return "\n".join([*given, *made, f"outputs {self.outputs}, losses {self.losses}"])


class Drawer:
    """Draws one program, running each line under PyTorch as it comes."""

    def __init__(self, seed: int, families: Sequence[Family] | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.families = list(families or FAMILIES)
        self.program = Program()
        self.values: list[Any] = []
        self.exact: list[bool] = []
        self.floating = self.pick(["float64", "float64", "float32"])

    def pick(self, items: list[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    # -- values -----------------------------------------------------------------------------------
    def draw(self, lines: int) -> Program:
        for _ in range(int(self.rng.integers(2, 5))):
            self._input()
        wanted = int(self.rng.integers(1, lines + 1))
        for _ in range(4 * wanted):
            if len(self.program.lines) < wanted:
                self.pick(self.families)(self)
        made = list(range(len(self.program.inputs), len(self.values))) or [0]
        chosen = {made[-1], *(self.pick(made) for _ in range(3))}
        self.program.outputs = sorted(chosen)
        self.program.losses = [i for i in sorted(chosen) if self.values[i].requires_grad]
        return self.program

    def _input(self) -> None:
        shape = self.shape()
        kind = self.pick([self.floating] * 4 + ["int64", "bool"])
        if kind == self.floating:
            array = (self.rng.integers(-12, 13, shape) / 4).astype(kind)
        else:
            array = self.rng.integers(0, 2 if kind == "bool" else 6, shape).astype(kind)
        if kind == self.floating and self.chance(0.8):
            self.program.differentiable.append(len(self.values))
        self.program.inputs.append(array)
        self.values.append(torch.tensor(array).requires_grad_(len(self.values) in self.program.differentiable))
        self.exact.append(True)

    def shape(self) -> tuple[int, ...]:
        sizes = [0 if self.chance(0.03) else self.pick(SIZES) for _ in range(int(self.rng.integers(0, 4)))]
        while math.prod(sizes) > LARGEST // 4:
            sizes[int(np.argmax(sizes))] = 2
        return tuple(sizes)

    def add(self, line: str, exact: bool) -> None:
        """Keep the line if PyTorch can run it and its values are worth comparing."""
        names: dict[str, Any] = {f"v{i}": x for i, x in enumerate(self.values)}
        try:
            value = eval(line, names | {"lib": torch, "F": torch.nn.functional})
        except (RuntimeError, IndexError, ValueError, TypeError, NotImplementedError):
            return  # PyTorch refuses it: nothing to compare with
        if not isinstance(value, torch.Tensor) or value.numel() > LARGEST or value.dtype not in KINDS:
            return
        values = value.detach()
        if values.is_floating_point() and values.numel() and not bool((values.abs() < 1e4).all()):
            return
        self.program.lines.append(line)
        self.values.append(value)
        self.exact.append(exact and (not values.is_floating_point() or bool((values.abs() < 2**9).all())))

    def where(self, accept: Callable[[int], bool]) -> int | None:
        found = [i for i in range(len(self.values)) if accept(i)]
        return self.pick(found[-4:] + found) if found else None

    def real(self, exact: bool = False, rank: int = 0) -> int | None:
        return self.where(
            lambda i: (
                self.values[i].is_floating_point() and (self.exact[i] or not exact) and self.values[i].ndim >= rank
            )
        )

    def axis(self, i: int) -> int:
        rank = self.values[i].ndim
        return int(self.rng.integers(-rank, rank)) if rank else 0

    def partner(self, i: int) -> int | None:
        """A value of the same kind that broadcasts with v_i."""

        def fits(j: int) -> bool:
            try:
                shape = np.broadcast_shapes(self.values[i].shape, self.values[j].shape)
            except ValueError:
                return False
            return self.values[i].dtype == self.values[j].dtype and math.prod(shape) <= LARGEST

        return self.where(fits)


KINDS = {torch.float32, torch.float64, torch.int64, torch.bool}


# -- families -------------------------------------------------------------------------------------------
def arithmetic(d: Drawer) -> None:
    a = d.where(lambda i: d.values[i].dtype != torch.bool)
    b = None if a is None else d.partner(a)
    if a is None or b is None:
        return
    op = d.pick(["+", "-", "*", "-", "*"])
    d.add(f"v{a} {op} v{b}", d.exact[a] and d.exact[b] and (op != "*" or d.chance(0.3)))


def quotient(d: Drawer) -> None:
    a = d.real()
    b = None if a is None else d.partner(a)
    if a is not None and b is not None:
        d.add(f"v{a} / (v{b} * v{b} + 0.5)", False)


def remainder(d: Drawer) -> None:
    """With a divisor far from zero, and exact operands: the result jumps."""
    a = d.where(lambda i: d.exact[i] and d.values[i].dtype != torch.bool)
    b = None if a is None else d.partner(a)
    if a is None:
        return
    by = d.pick([f"lib.where(v{b} == 0, 3, v{b})", "3", "-2", "0.75" if d.values[a].is_floating_point() else "4"])
    if b is None or not d.exact[b]:
        by = "3"
    far = f"(v{{a}}.detach() * {2 ** int(d.rng.integers(10, 40))}) % {d.pick(['0.13', '-0.7', '3'])}"
    form = d.pick(
        [far] * d.values[a].is_floating_point()
        + [
            "v{a} % {by}",
            "v{a}.detach() // lib.as_tensor({by}).detach()",
            "lib.remainder(v{a}, {by})",
            "lib.div(v{a}, {by}, rounding_mode='trunc')",
        ]
    )
    d.add(form.format(a=a, by=by), False)


def with_number(d: Drawer) -> None:
    a = d.where(lambda i: d.values[i].dtype != torch.bool)
    if a is not None:
        number = d.pick(["2", "-1", "0", "3"] + ["0.5", "-0.25"] * d.values[a].is_floating_point())
        d.add(
            d.pick(["v{a} + {n}", "{n} - v{a}", "v{a} * {n}", "v{a} ** 2", "-v{a}"]).format(a=a, n=number), d.exact[a]
        )


def smooth(d: Drawer) -> None:
    a = d.real()
    if a is not None:
        d.add(d.pick(SMOOTH).format(x=f"v{a}"), False)


SMOOTH = [
    "({x}.tanh() * 3).exp()", "({x} * {x} + 0.5).log()", "({x} * {x}).log1p()", "{x}.sin().expm1()",
    "({x} * {x} + 0.5).sqrt()", "({x} * {x} + 0.5).rsqrt()", "{x}.sin()", "{x}.cos()", "{x}.tanh()", "{x}.erf()",
    "{x}.sigmoid()", "({x} * {x} + 0.5) ** 1.7", "2.0 ** {x}.cos()", "F.softplus({x})", "F.logsigmoid({x})",
    "F.silu({x})", "F.gelu({x})", "F.gelu({x}, approximate='tanh')", "({x} * {x} + 1).log2()", "({x} * {x} + 1).reciprocal()",
]  # fmt: skip


def kinked(d: Drawer) -> None:
    a = d.real(exact=True)
    if a is not None:
        d.add(d.pick(KINKED).format(x=f"v{a}"), False)


KINKED = [
    "{x}.abs()", "{x}.relu()", "{x}.clamp(-1, 1.5)", "{x}.clamp_min(0.25)", "{x}.clamp_max(-0.5)", "F.leaky_relu({x}, 0.1)",
    "F.elu({x})", "F.selu({x})", "{x}.sign()", "{x}.floor()", "{x}.ceil()", "{x}.round()", "{x}.trunc()",
    "{x}.maximum(1 - {x})", "{x}.minimum({x} * 2)", "F.huber_loss({x}, {x} * 0.5, reduction='none')",
    "F.smooth_l1_loss({x}, {x} * 0.5, reduction='none')", "F.l1_loss({x}, {x} * 0 + 0.25, reduction='none')",
]  # fmt: skip


def fold(d: Drawer) -> None:
    a = d.where(lambda i: d.values[i].ndim > 0 and d.values[i].dtype != torch.bool)
    if a is None:
        return
    names = ["sum", "cumsum"] + ["mean", "softmax", "log_softmax", "logsumexp", "var", "std"] * d.values[
        a
    ].is_floating_point()
    name, axis = d.pick(names), d.axis(a)
    x = f"v{a}" if name != "std" else f"(v{a} + v{a}.sin() * 2).cumsum({axis})"
    keep = ", keepdim=True" if name in {"sum", "mean", "logsumexp", "var", "std"} and d.chance(0.4) else ""
    d.add(f"{x}.{name}({axis}{keep})", d.exact[a] and name == "sum")


def whole_fold(d: Drawer) -> None:
    a = d.real()
    if a is not None:
        d.add(f"v{a}.{d.pick(['sum()', 'mean()', 'norm()', 'prod()', 'norm(p=1)', 'var()'])}", False)


def extreme(d: Drawer) -> None:
    """With ties: who of equal ones gets the gradient is part of the meaning."""
    a = d.where(lambda i: d.values[i].ndim > 0 and d.exact[i] and d.values[i].dtype != torch.bool)
    if a is None:
        return
    axis = d.axis(a)
    form = d.pick(["v{a}.amax({d})", "v{a}.amin({d}, keepdim=True)", "v{a}.max({d})[0]", "v{a}.min({d})[0]",
                   "v{a}.argmax({d})", "v{a}.argmin({d})", "v{a}.max({d})[1]", "v{a}.max()", "v{a}.min()"])  # fmt: skip
    d.add(form.format(a=a, d=axis), True)


def product(d: Drawer) -> None:
    a, b = d.real(rank=1), d.real(rank=1)
    if a is None or b is None or d.values[a].dtype != d.values[b].dtype:
        return  # (of two kinds: PyTorch takes them where there is nothing to multiply)
    x = d.values[a]
    forms = ["v{a} @ v{b}", "v{a} @ v{b}.transpose(-1, -2)", "v{a}.transpose(-1, -2) @ v{b}", "F.linear(v{a}, v{b})"]
    forms.append("v{a} @ v{a}.transpose(-1, -2)" if x.ndim > 1 else "v{a}.dot(v{a})")
    forms.append("v{a}.outer(v{a})")
    for form in d.rng.permutation(forms):
        before = len(d.values)
        d.add(str(form).format(a=a, b=b), False)
        if len(d.values) > before:
            return


def reshaping(d: Drawer) -> None:
    a = d.where(lambda i: True)
    if a is None:
        return
    x, forms = (
        d.values[a],
        ["v{a}.reshape(-1)", "v{a}.unsqueeze(0)", "v{a}.squeeze()", "v{a}.flatten()", "v{a}.clone()"],
    )
    if x.ndim:
        i, j, size = d.axis(a), d.axis(a), x.shape[d.axis(a)]
        n = x.shape[i]
        start = int(d.rng.integers(0, n + 1))
        forms += [
            f"v{{a}}.transpose({i}, {j})", f"v{{a}}.flip({i})", f"v{{a}}.unsqueeze({i})", f"v{{a}}.movedim({i}, {j})",
            f"v{{a}}.narrow({i}, {start}, {n - start})", f"v{{a}}.chunk(2, {i})[0]", f"v{{a}}.split(2, {i})[-1]",
            f"v{{a}}.unbind({i})[0]", "v{a}[0]", "v{a}[-1]", f"v{{a}}[{start}:]", "v{a}[::2]", "v{a}[..., :1]", "v{a}[None]",
            "v{a}[..., 0]", f"lib.cat([v{{a}}, v{{a}}], {i})", f"lib.stack([v{{a}}, v{{a}}], {i})",
            f"v{{a}}.expand({size}, *v{{a}}.shape)", f"v{{a}}.repeat({', '.join(['2'] * x.ndim)})",
        ]  # fmt: skip
    if x.ndim > 1:
        forms += [
            "v{a}.tril()",
            "v{a}.triu(1)",
            "v{a}.tril(-1)",
            "v{a}.mT",
            "v{a}.flatten(0, 1)",
            "v{a}[:, 0]",
            "v{a}[:, 1:]",
        ]
    d.add(d.pick(forms).format(a=a), d.exact[a])


def picking(d: Drawer) -> None:
    a = d.where(lambda i: d.values[i].ndim > 0 and d.values[i].numel() > 0)
    if a is None:
        return
    axis = d.axis(a)
    size = d.values[a].shape[axis]
    numbers = d.rng.integers(0, size, int(d.rng.integers(0, 6))).tolist()
    index = f"lib.tensor({numbers}, dtype=lib.int64)"
    forms = [f"v{{a}}.index_select({axis}, {index})", f"v{{a}}.index_add({axis}, {index}, v{{a}}.index_select({axis}, {index}))",
             f"v{{a}}.take_along_dim(v{{a}}.argmax({axis}, keepdim=True), {axis})"]  # fmt: skip
    if axis % d.values[a].ndim == 0:
        forms += [f"v{{a}}[{index}]", f"v{{a}}[{numbers}]"]
    if d.values[a].dtype == torch.bool:
        forms = forms[:1]
    if not d.exact[a]:
        forms = forms[:2]
    d.add(d.pick(forms).format(a=a), d.exact[a])


def comparing(d: Drawer) -> None:
    a = d.where(lambda i: d.exact[i])
    b = None if a is None else d.partner(a)
    if a is not None and b is not None and d.exact[b]:
        d.add(f"v{a} {d.pick(['<', '<=', '>', '>=', '==', '!='])} v{b}", True)


def choosing(d: Drawer) -> None:
    c = d.where(lambda i: d.values[i].dtype == torch.bool)
    a = d.where(lambda i: d.values[i].dtype != torch.bool)
    b = None if a is None else d.partner(a)
    if c is None or a is None or b is None:
        return
    form = d.pick(
        ["lib.where(v{c}, v{a}, v{b})", "v{a}.masked_fill(v{c}, 2)", "lib.where(v{c}, v{a}, 1)", "v{a} * v{c}"]
    )
    d.add(form.format(a=a, b=b, c=c), d.exact[a] and d.exact[b])


def boolean(d: Drawer) -> None:
    a = d.where(lambda i: d.values[i].dtype == torch.bool)
    if a is None:
        return
    axis = d.axis(a)
    forms = ["~v{a}", "v{a} & ~v{a}", "v{a}.any()", "v{a}.all()", "v{a}.sum()", "v{a}.float()", "v{a}.long()"]
    if d.values[a].ndim:
        forms += [f"v{{a}}.any({axis})", f"v{{a}}.all({axis})", f"v{{a}}.sum({axis})"]
    d.add(d.pick(forms).format(a=a), True)


def casting(d: Drawer) -> None:
    a = d.where(lambda i: d.exact[i])
    if a is not None:
        d.add(f"v{a}.to(lib.{d.pick(['float64', 'float32', 'int64', d.floating])})", True)


def losing(d: Drawer) -> None:
    """A loss over classes, with what it takes beside the output."""
    a = d.where(lambda i: d.values[i].is_floating_point() and d.values[i].ndim == 2 and d.values[i].numel() > 0)
    if a is None:
        return
    n, c = d.values[a].shape
    labels = d.rng.integers(0, c, n).tolist()
    if d.chance(0.2):
        labels[0] = -100
    reduction = d.pick(["mean", "sum", "none"])
    smoothing = d.pick(["", ", label_smoothing=0.1"])
    target = f"lib.tensor({labels})"
    d.add(
        d.pick([
            f"F.cross_entropy(v{a}, {target}, reduction='{reduction}'{smoothing})",
            f"F.nll_loss(v{a}.log_softmax(1), {target}, reduction='{reduction}')",
            f"F.binary_cross_entropy_with_logits(v{a}, v{a}.detach().sigmoid(), reduction='{reduction}')",
            f"F.binary_cross_entropy((v{a}.tanh() * 4).sigmoid(), (v{a}.detach() * 0 + 0.25), reduction='{reduction}')",
            f"F.mse_loss(v{a}, v{a}.detach() * 0.5, reduction='{reduction}')",
            f"F.cross_entropy(v{a}, v{a}.detach().softmax(1), reduction='{reduction}'{smoothing})",
        ]),
        False,
    )  # fmt: skip


def writing(d: Drawer) -> None:
    """In-place operations on a fresh value, as part of an expression."""
    a = d.real()
    if a is not None:
        forms = [
            "v{a}.clone().mul_(0.5)",
            "v{a}.clone().add_(v{a}, alpha=0.5)",
            "v{a}.clone().zero_()",
            "(v{a} * 1).sin_()",
        ]
        d.add(d.pick(forms).format(a=a), False)


FAMILIES: list[Family] = [
    arithmetic, arithmetic, quotient, remainder, remainder, with_number, smooth, smooth, kinked, kinked, fold, fold,
    whole_fold, extreme, product, product, reshaping, reshaping, reshaping, picking, comparing, choosing, boolean, casting,
    losing, writing,
]  # fmt: skip


# -- statements that write in place, which PyTorch may refuse to differentiate ----------------------------
def statement(d: Drawer) -> None:
    """Writes to a value that other lines read before and after, through a view of it, or behind its history's back."""
    a = d.real()
    if a is None:
        return
    targets = ["v{a}", "v{a}", "v{a}.detach()", "v{a}.data", "v{a}.reshape(-1)", "v{a}.unsqueeze(0)", "v{a}.flatten()"]
    targets += ["v{a}[:1]", "v{a}[..., :1]", "v{a}[-1]", "v{a}.flip(0)"] * bool(d.values[a].ndim)
    targets += ["v{a}.mT"] * (d.values[a].ndim > 1)
    changes = [
        "mul_(2)",
        "add_(0.25)",
        "neg_()",
        "zero_()",
        "fill_(0.5)",
        "copy_(v{a} * 2)",
        "sub_(v{a})",
        "masked_fill_(v{a} > 0, 1)",
    ]
    d.add(f"{d.pick(targets)}.{d.pick(changes)}".format(a=a), d.exact[a])


STATEMENTS: list[Family] = [*FAMILIES, *[statement] * 8]


# -- rows that are folded, moved and folded again -------------------------------------------------------
def of_each_row(d: Drawer) -> None:
    a = d.real(rank=2)
    if a is not None:
        d.add(
            d.pick(["v{a}.sum(-1, keepdim=True)", "v{a}.mean(-1, keepdim=True)", "v{a}.softmax(-1)"]).format(a=a), False
        )


def moved_in_its_row(d: Drawer) -> None:
    a = d.real(rank=2)
    if a is not None:
        move(d, a)


def move(d: Drawer, a: int) -> None:
    """The same elements in other places of their rows."""
    n = d.values[a].shape[-1]
    if n < 2:
        return
    by = next(size for size in range(2, n + 1) if n % size == 0)
    forms = ["v{a}.flip(-1)", "lib.cat([v{a}[..., 1:], v{a}[..., :1]], -1)", "F.pad(v{a}[..., 1:], (0, 1))",
             "F.pad(v{a}, (1, 0))[..., :-1]", f"v{{a}}[..., lib.tensor({d.rng.permutation(n).tolist()})]",
             f"v{{a}}.unflatten(-1, (-1, {by})).transpose(-1, -2).flatten(-2)", "F.pad(v{a}, (1, 1)).unfold(-1, 3, 1).sum(-1)"]  # fmt: skip
    d.add(d.pick(forms).format(a=a), False)


def beside_moved(d: Drawer) -> None:
    """Folds of two values beside each other, then one that reads the row as it is and moved."""
    a = d.real(rank=2)
    b = (
        None
        if a is None
        else d.where(lambda i: d.values[i].is_floating_point() and d.values[i].shape == d.values[a].shape)
    )
    if a is None or b is None or not d.values[a].numel():
        return
    d.add(f"v{a}.tanh().exp()", False)
    e = len(d.values) - 1
    d.add(f"v{b}.sum(-1, keepdim=True) / v{e}.sum(-1, keepdim=True)", False)
    d.add(f"v{e + 1} * v{e}", False)
    move(d, len(d.values) - 1)
    d.add(f"(v{len(d.values) - 1} * v{e}).{d.pick(['sum', 'mean', 'softmax'])}(-1)", False)


def bounded(d: Drawer) -> None:
    a = d.real(rank=2)
    if a is not None:
        d.add(d.pick(["v{a}.tanh().exp()", "v{a}.sin()", "v{a}.sigmoid()"]).format(a=a), False)


ROWS: list[Family] = [
    of_each_row, of_each_row, moved_in_its_row, moved_in_its_row, beside_moved, beside_moved, bounded, arithmetic, arithmetic, quotient,
]  # fmt: skip
