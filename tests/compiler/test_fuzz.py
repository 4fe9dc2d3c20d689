"""Random programs: compiled, they give what they give in eager mode."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, note, settings

import chainrule as cr
from tests.compiler.plans import check_program
from tests.compiler.programs import Program, programs

EXAMPLES = int(os.environ.get("CHAINRULE_FUZZ", "60"))
TOLERANCE = {"float32": 2e-4, "float64": 1e-10}


def close(actual: Any, expected: Any, scale: float) -> None:
    """Equal to rounding; integers and bools exactly."""
    a, e = actual.detach().numpy(), expected.detach().numpy()
    assert (a.shape, a.dtype) == (e.shape, e.dtype)
    if a.dtype.kind == "f":
        tolerance = TOLERANCE[a.dtype.name]
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * scale)
    else:
        np.testing.assert_array_equal(a, e)


def compare(program: Program, calls: int = 2) -> None:
    arguments = [cr.tensor(a) for a in program.arguments]
    ours = [cr.tensor(p, requires_grad=True) for p in program.parameters]
    theirs = [cr.tensor(p, requires_grad=True) for p in program.parameters]
    compiled = cr.compile(lambda *args: program.run(list(args), ours))
    for call in range(calls):
        program.generator.manual_seed(5 + call)
        expected = program.run(arguments, theirs)
        state = program.generator.get_state().numpy()
        program.generator.manual_seed(5 + call)
        actual = compiled(*arguments)
        if not call and compiled._latest is not None:
            check_program(compiled._latest.program)
        assert program.generator.get_state().tolist() == state.tolist()
        scale = program.scale
        for a, e in zip(actual[0], expected[0], strict=True):
            close(a, e, scale)
        for a, e in zip([*actual[1], *ours], [*expected[1], *theirs], strict=True):
            assert (a is None) == (e is None)
            if e is not None:
                largest = float(np.abs(e.detach().numpy()).max(initial=0))
                close(a, e, scale * max(1.0, largest))


@settings(max_examples=EXAMPLES, deadline=None, derandomize="CHAINRULE_FUZZ" not in os.environ,
          suppress_health_check=list(HealthCheck), database=None)  # fmt: skip
@given(programs())
def test_random_programs(program: Program) -> None:
    note(repr(program))
    compare(program)
