"""Random functions with derivatives inside, nested three deep, in chainrule and in JAX (float64).

A composition is drawn from a seed and written once, against a small vocabulary that both libraries speak. Every
derivative's closure, tangent and cotangent may depend on everything around it: the outer variables, two parameters
and a direction. What is compared is the value and its gradient by all of them.

    python -m tests.autodiff.compositions 500
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import chainrule as cr

SIZE = 2
Vector = Any
Field = Callable[[Vector, Sequence[Vector]], Vector]  # of a vector, and of what stands around it


class Ours:
    """chainrule's words."""

    tanh, sin, exp = staticmethod(cr.tanh), staticmethod(cr.sin), staticmethod(cr.exp)
    grad, value_and_grad = staticmethod(cr.grad), staticmethod(cr.value_and_grad)
    vjp, jvp = staticmethod(cr.vjp), staticmethod(cr.jvp)
    jacobian, hessian = staticmethod(cr.jacobian), staticmethod(cr.hessian)


class Theirs:
    """JAX's words."""

    def __init__(self) -> None:
        import jax

        jax.config.update("jax_enable_x64", True)
        self.tanh, self.sin, self.exp = jax.numpy.tanh, jax.numpy.sin, jax.numpy.exp
        self.grad, self.value_and_grad, self.vjp, self.jvp = jax.grad, jax.value_and_grad, jax.vjp, jax.jvp
        self.jacobian, self.hessian, self.array = jax.jacrev, jax.hessian, jax.numpy.asarray


def formula(dice: random.Random, say: Any) -> Field:
    """A smooth function of x and of two things around it."""
    first, second, bend, join = dice.random(), dice.random(), dice.randrange(4), dice.randrange(3)

    def field(x: Vector, around: Sequence[Vector]) -> Vector:
        a, b = (around[int(share * len(around))] for share in (first, second))
        y = [say.tanh(x * a), say.sin(x + b), x * x * a, say.exp(-x * x)][bend]
        return [y * b + x, y + a * (x * b).sum(), y * say.tanh(b + a) - x * x * 0.3][join]

    return field


def composition(dice: random.Random, say: Any, depth: int) -> Field:
    """A field made of one derivative of a composition that is less deep; all the parts are drawn."""
    if not depth:
        return formula(dice, say)
    inner = composition(dice, say, depth - 1)
    point, move, weigh = (formula(dice, say) for _ in range(3))
    kind = dice.choice(("grad", "value_and_grad", "vjp", "jvp", "jacobian", "hessian"))

    def field(x: Vector, around: Sequence[Vector]) -> Vector:
        outside = [*around, x]
        at, v, w = point(x, around), move(x, around), weigh(x, around)
        f = lambda z: inner(z, outside)  # noqa: E731 - a formula
        if kind == "grad":
            return say.grad(lambda z, weights: (f(z) * weights).sum(), argnums=0)(at, w)
        if kind == "value_and_grad":
            value, slopes = say.value_and_grad(lambda weights, z: (f(z) * weights).sum(), argnums=-1)(w, at)
            return slopes * v + value
        if kind == "vjp":
            value, pullback = say.vjp(f, at)
            return pullback(w)[0] + value
        if kind == "jvp":
            value, moved = say.jvp(f, (at,), (v,))
            return moved * w + value
        if kind == "jacobian":
            return say.jacobian(f)(at) @ w
        return say.hessian(lambda z: (f(z) * v).sum())(at) @ w

    return field


def start(seed: int) -> list[np.ndarray[Any, Any]]:
    """x and the three things around it."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, SIZE) for _ in range(4)]


def total(seed: int, say: Any, depth: int = 3) -> Callable[..., Any]:
    """The scalar function of (x, p, q, v) that a seed stands for."""
    field = composition(random.Random(seed), say, depth)
    return lambda x, *around: field(x, around).sum()


def ours_transformed(seed: int) -> list[np.ndarray[Any, Any]]:
    """The gradients by one more transform around."""
    return [g.numpy() for g in cr.grad(total(seed, Ours), argnums=(0, 1, 2, 3))(*map(cr.tensor, start(seed)))]


def ours_backward(seed: int) -> list[np.ndarray[Any, Any]]:
    """The gradients by backward() from leaves that stand outside."""
    leaves = [cr.tensor(a, requires_grad=True) for a in start(seed)]
    total(seed, Ours)(*leaves).backward()
    return [np.zeros(SIZE) if leaf.grad is None else leaf.grad.numpy() for leaf in leaves]


def theirs(seed: int, say: Theirs) -> list[np.ndarray[Any, Any]]:
    found = say.grad(total(seed, say), argnums=(0, 1, 2, 3))(*map(say.array, start(seed)))
    return [np.asarray(g) for g in found]


def worst(seed: int, say: Theirs) -> float:
    """The largest difference, relative to the largest gradient."""
    right = theirs(seed, say)
    scale = max(1.0, *(float(np.abs(g).max()) for g in right))
    found = (ours_transformed(seed), ours_backward(seed))
    return max(float(np.abs(a - b).max()) / scale for way in found for a, b in zip(way, right, strict=True))


def main(count: int) -> None:
    say = Theirs()
    errors = [worst(seed, say) for seed in range(count)]
    bad = [seed for seed, error in enumerate(errors) if not error < 1e-10]
    print(f"{count} compositions, largest relative difference {max(errors):.2g}, beyond 1e-10: {bad or 'none'}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
