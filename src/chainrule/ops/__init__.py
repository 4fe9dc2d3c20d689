"""The primitives, one file a family; each op is one declaration (see `graph.Op`).

Everything else in chainrule is composed from these, so whatever they gain (a derivative, a faster
lowering, a check) everything gains.
"""

from chainrule.graph import Op
from chainrule.ops import contraction, convolution, elementwise, indexing, random, reduction, shaping

ALL: dict[str, Op] = {
    op.name: op
    for family in (elementwise, reduction, shaping, contraction, convolution, indexing, random)
    for op in family.OPS
}
