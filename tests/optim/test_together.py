"""Which parameters are updated together."""

from __future__ import annotations

import chainrule as cr
from chainrule import nn
from chainrule.optim.together import batches


def test_parameters_of_one_layer_are_updated_together_and_those_that_share_memory_alone():
    layer, w = nn.Linear(3, 2), nn.Parameter(cr.ones(4))
    shared = nn.Parameter(w.data)
    given = [*layer.parameters(), w, shared]
    assert [len(batch) for batch in batches(given)] == [2, 1, 1]
