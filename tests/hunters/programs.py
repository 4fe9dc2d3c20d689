"""Random programs with gradients: chainrule eager and compiled beside PyTorch.

``python -m tests.hunters.programs --count 3000 --first 0`` prints every program that differs, and how many ran.
"""

from __future__ import annotations

import argparse
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

import chainrule as cr
import chainrule.nn.functional as F
from tests.hunters import recorded
from tests.hunters.drawing import FAMILIES, ROWS, STATEMENTS, Drawer, Family, Program


def differences(program: Program, compiled: bool = True) -> list[str]:
    """What differs from PyTorch: outputs and gradients, eager and compiled."""
    expected = _run(program, [torch.tensor(a) for a in program.inputs], torch, torch.nn.functional)
    tolerance = _tolerance(program)
    found = [f"eager: {text}" for text in _compare(tolerance, _run(program, _ours(program), cr, F), expected)]
    if compiled:
        # A parameter is state and its gradient read afterwards; everything else is an argument.
        inputs = _ours(program)
        places = [i for i in range(len(inputs)) if i not in program.differentiable]

        def step(*arguments: Any) -> Any:
            given = list(inputs)
            for place, argument in zip(places, arguments, strict=True):
                given[place] = argument
            outputs, loss = program.run(given, cr, F)
            if loss is not None and loss.requires_grad:
                loss.backward()
            return outputs

        function = cr.compile(step)
        for call in range(2):
            for i in program.differentiable:
                inputs[i].grad = None
            outputs = function(*(inputs[i] for i in places))
            gradients = [inputs[i].grad for i in program.differentiable]
            found += [f"compiled, call {call}: {text}" for text in _compare(tolerance, (outputs, gradients), expected)]
    return found


def _ours(program: Program) -> list[Any]:
    return [cr.tensor(a, requires_grad=i in program.differentiable) for i, a in enumerate(program.inputs)]


def _run(program: Program, inputs: list[Any], library: Any, functional: Any) -> tuple[list[Any], list[Any]]:
    for i in program.differentiable:
        inputs[i].requires_grad_()
    outputs, loss = program.run(inputs, library, functional)
    if loss is not None and loss.requires_grad:  # of floor and sign alone: PyTorch's zeros are our None
        loss.backward()
    return outputs, [inputs[i].grad for i in program.differentiable]


def _tolerance(program: Program) -> float:
    """As the coarsest type on the way allows."""
    rounds = any(a.dtype == np.float32 for a in program.inputs) or any("float" in line for line in program.lines)
    return 3e-4 if rounds else 1e-9


def _compare(tolerance: float, ours: tuple[list[Any], list[Any]], theirs: tuple[list[Any], list[Any]]) -> list[str]:
    found = []
    for what, a_all, e_all in (("output", ours[0], theirs[0]), ("gradient", ours[1], theirs[1])):
        for n, (a, e) in enumerate(zip(a_all, e_all, strict=True)):
            text = _difference(a, e, tolerance)
            if text:
                found.append(f"{what} {n}: {text}")
    return found


def _difference(ours: Any, theirs: Any, tolerance: float) -> str | None:
    if ours is None or theirs is None:
        # What is reached by no path has no gradient; PyTorch fills zeros where a path's derivative is zero everywhere.
        none = theirs if ours is None else ours
        empty = none is None or not bool((none != 0).any())
        return None if empty else f"{ours} instead of {theirs}"
    a, e = ours.detach().numpy(), theirs.detach().numpy()
    if (a.shape, a.dtype) != (e.shape, e.dtype):
        return f"{a.dtype}{a.shape} instead of {e.dtype}{e.shape}"
    if a.dtype.kind != "f":
        return None if np.array_equal(a, e) else f"{a} instead of {e}"
    scale = float(np.abs(e[np.isfinite(e)]).max(initial=1))
    if np.allclose(a, e, tolerance, tolerance * scale, equal_nan=True):
        return None
    return f"{a.ravel()[:6]} instead of {e.ravel()[:6]}, at most {np.nanmax(np.abs(a - e)):.3g} apart"


def hunt(
    first: int,
    count: int,
    lines: int = 12,
    compiled: bool = True,
    families: Sequence[Family] = FAMILIES,
    waiting: bool = False,
) -> dict[int, str]:
    """The programs among `count` seeds that differ or raise, as text.

    Args:
        compiled: run them compiled, too.
        waiting: only run them with their operations recorded, beside the same computed at once.
    """
    found = {}
    for seed in range(first, first + count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch: a variance of one number
            program = Drawer(seed, families).draw(lines)
            try:
                if waiting:
                    texts = recorded.differences(program, seed, _tolerance(program))
                else:
                    texts = differences(program, compiled)
            except Exception:
                texts = [traceback.format_exc(limit=-4)]
        if texts:
            found[seed] = "\n".join([str(program), *texts])
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--eager", action="store_true", help="leave out the compiled runs")
    parser.add_argument("--recorded", action="store_true", help="computed at once, and recorded round after round")
    parser.add_argument(
        "--rows", action="store_true", help="only folds over rows, and what moves elements in their rows"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    families = ROWS if options.rows else STATEMENTS if options.recorded else FAMILIES
    bad = hunt(options.first, options.count, compiled=not options.eager, families=families, waiting=options.recorded)
    for seed, text in bad.items():
        print(f"=== seed {seed}\n{text}\n")
    print(f"{options.count} programs, {len(bad)} differ: {list(bad)}")
