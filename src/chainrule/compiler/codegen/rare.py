"""What only few lanes of a vector ever need: computed lane by lane, and jumped over where none does."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.codegen.emit import Emitter, Register, lanes_of


def rarely(
    e: Emitter, name: str, needed: Register, usual: Register, exactly: Callable[..., Register], *args: Register
) -> Register:
    """`usual`, and where `needed` holds `exactly(emitter, *args)` of that lane. To be written inside a routine."""
    before, far, done = e.block, e.fresh("far"), e.fresh("done")
    e.branch(_any(e, needed), far, done)
    e.label(far)
    lanes = zip(*(e.split(value, 1) for value in (needed, usual, *args)), strict=True)
    found = [e.select(asked, e.routine(name, exactly, *lane), there) for asked, there, *lane in lanes]
    patched = found[0] if lanes_of(usual.type) == 1 else _together(e, found, usual.type)
    e.jump(done)
    e.label(done)
    return e.phi((usual, before), (patched, far))


def _any(e: Emitter, mask: Register) -> Register:
    lanes = lanes_of(mask.type)
    return mask if lanes == 1 else e.call(f"llvm.vector.reduce.or.v{lanes}i1", "i1", mask)


def _together(e: Emitter, lanes: list[Register], type: str) -> Register:
    made = Register("poison", type)
    for i, lane in enumerate(lanes):
        made = e.assign(type, f"insertelement {made.typed}, {lane.typed}, i64 {i}")
    return made
