"""Random programs: compiled, they give what they give in eager mode."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, note, settings

import chainrule as cr
from chainrule.tensor.core import numbers
from tests.compiler.plans import check_program
from tests.compiler.programs import Program, programs

EXAMPLES = int(os.environ.get("CHAINRULE_FUZZ", "60"))
TOLERANCE = {"bfloat16": 2.0**-6, "float32": 2e-4, "float64": 1e-10}


def close(actual: Any, expected: Any, scale: float) -> None:
    """Equal to rounding; integers and bools exactly."""
    a, e = numbers(actual), numbers(expected)
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if a.dtype.kind == "f":
        tolerance = TOLERANCE[actual.dtype.name]
        np.testing.assert_allclose(a, e, rtol=tolerance, atol=tolerance * scale)
    else:
        np.testing.assert_array_equal(a, e)


def compare(program: Program, calls: int = 2) -> None:
    arguments = [program.tensor(a) for a in program.arguments]
    ours = [program.tensor(p, requires_grad=True) for p in program.parameters]
    theirs = [program.tensor(p, requires_grad=True) for p in program.parameters]
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
                largest = float(np.abs(numbers(e)).max(initial=0))
                close(a, e, scale * max(1.0, largest))


@settings(max_examples=EXAMPLES, deadline=None, derandomize="CHAINRULE_FUZZ" not in os.environ,
          suppress_health_check=list(HealthCheck), database=None)  # fmt: skip
@given(programs())
def test_random_programs(program: Program) -> None:
    note(repr(program))
    compare(program)


@settings(max_examples=EXAMPLES // 10, deadline=None, derandomize="CHAINRULE_FUZZ" not in os.environ,
          suppress_health_check=list(HealthCheck), database=None)  # fmt: skip
@given(programs(floating=[cr.bfloat16]))
def test_random_programs_in_bfloat16(program: Program) -> None:
    note(repr(program))
    compare(program)
