"""Random programs cut anywhere: compiled whole, in pieces and line by line, they give the same bits.

``python -m tests.hunters.pieces --count 300 --first 0`` prints every program that differs, and how many ran.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
from tests.hunters.drawing import Array, Drawer, Program


def rounding(program: Program, seed: int) -> list[Array]:
    """Inputs of the program's shapes and kinds whose sums and products are rounded."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=a.shape).astype(a.dtype) if a.dtype.kind == "f" else a for a in program.inputs]


def pieces(program: Program, cuts: Sequence[int]) -> Iterator[tuple[range, list[int]]]:
    """The lines of each piece, and the values that it gives: those that later pieces read or that are asked for."""
    for first, last in pairwise([0, *cuts, len(program.lines)]):
        later = " ".join(program.lines[last:])
        read = {int(name[1:]) for name in re.findall(r"\bv\d+", later)} | set(program.outputs)
        made = range(len(program.inputs) + first, len(program.inputs) + last)
        yield range(first, last), [i for i in made if i in read]


def outputs(program: Program, inputs: Sequence[Array], cuts: Sequence[int]) -> list[Any]:
    """The program's outputs, the lines between two cuts compiled together."""
    found: dict[int, Any] = {i: cr.tensor(a) for i, a in enumerate(inputs)}

    def piece(lines: range, gives: list[int]) -> Any:
        def run(*given: Any) -> list[Any]:
            names: dict[str, Any] = {f"v{i}": x for i, x in zip(found, given, strict=True)} | {"lib": cr, "F": F}
            for i in lines:
                names[f"v{i + len(inputs)}"] = eval(program.lines[i], names)
            return [names[f"v{i}"] for i in gives]

        return cr.compile(run)

    for lines, gives in pieces(program, cuts):
        found |= zip(gives, piece(lines, gives)(*found.values()), strict=True)
    return [found[i] for i in program.outputs]


def differences(program: Program, seed: int, cuts: Sequence[int]) -> list[str]:
    """The outputs whose bits are others where the program is cut."""
    inputs = rounding(program, seed)
    whole, apart = outputs(program, inputs, ()), outputs(program, inputs, cuts)
    return [
        f"v{i} with cuts at {list(cuts)}"
        for i, a, b in zip(program.outputs, whole, apart, strict=True)
        if not np.array_equal(a.numpy(), b.numpy(), equal_nan=a.dtype.is_floating_point)
    ]


def hunt(first: int, count: int) -> dict[int, str]:
    """What differs, by the seed of the program: cut after every line, and in two places."""
    found = {}
    for seed in range(first, first + count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch: a variance of one number
            program, rng = Drawer(seed).draw(12), np.random.default_rng(seed)
            every = np.arange(1, len(program.lines))
            some = np.sort(rng.choice(every, min(2, len(every)), replace=False)) if len(every) else every
            differ = differences(program, seed, every.tolist()) + differences(program, seed, some.tolist())
        if differ:
            found[seed] = "\n".join([*differ, str(program)])
            print(f"seed {seed}:", found[seed], "", sep="\n", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    print(f"{options.count} programs, {len(hunt(options.first, options.count))} differ")


if __name__ == "__main__":
    main()
