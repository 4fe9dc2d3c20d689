"""Which parameters are updated together."""

from __future__ import annotations

import re

import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.errors import ShapeError
from chainrule.optim.together import batches


def test_parameters_of_one_layer_are_updated_together_and_those_that_share_memory_alone():
    layer, w = nn.Linear(3, 2), nn.Parameter(cr.ones(4))
    shared = nn.Parameter(w.data)
    given = [*layer.parameters(), w, shared]
    assert [len(batch) for batch in batches(given)] == [2, 1, 1]


@pytest.mark.parametrize("shape", [(3, 2), (6,), (2, 2), (1, 3)])
def test_numbers_of_another_shape_are_refused(shape):
    """PyTorch's step fails there, too, where the two do not broadcast."""
    weight = nn.Parameter(cr.ones(2, 3))
    optimizer = optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimizer.step()
    weight.data = cr.ones(*shape)
    text = (
        f": a parameter and its gradient must have one shape, got {shape} and (2, 3): its data was replaced by some of "
        f"another shape. Call zero_grad() and backward() again."
    )
    with pytest.raises(ShapeError, match=rf"^step \(test_together.py:\d+ in \w+\){re.escape(text)}$"):
        optimizer.step()
    optimizer.zero_grad()
    weight.sum().backward()
    with pytest.raises(
        ShapeError, match=r"its state 'momentum_buffer' must have one shape, .* Make a new optimizer for it\.$"
    ):
        optimizer.step()
    assert weight.tolist() == cr.ones(*shape).tolist()
