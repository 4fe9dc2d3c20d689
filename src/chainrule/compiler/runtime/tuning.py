"""An optional search for the fastest tile of each product, remembered on disk.

With ``cr.compile(..., tune=True)``, or ``CHAINRULE_TUNE=1`` for every program, the few tiles that should cost least are
timed on this machine when a product's shape is first met, which takes some tenths of a second; later processes read the
choice. Results do not depend on it in any bit: every sum runs over l in one order, whatever the tile.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

import numpy as np

from chainrule.compiler.codegen.emit import Emitter, Register
from chainrule.compiler.codegen.matmul.contraction import emit_contraction
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.tiling import Contraction, Tile, plan, scratch_elements
from chainrule.compiler.runtime import cache, native
from chainrule.compiler.runtime.buffers import address, aligned

CANDIDATES = 6  # tiles of a product that are timed: those that should be fastest
SMALLEST = 1 << 16  # multiply-adds; below, every tile is about as fast


def machine(tuned: bool = False) -> native.Machine:
    """This machine, for programs whose products are timed if they should be, or all are."""
    return _tuned() if tuned or os.environ.get("CHAINRULE_TUNE") else native.machine()


@lru_cache(maxsize=1)
def _tuned() -> native.Machine:
    return native.Machine(search=best)


def best(spec: Contraction, target: Target, candidates: list[Tile]) -> Tile:
    """The fastest of some tiles, cheapest by estimate first; the first where searching is no use."""
    few = candidates[:CANDIDATES]
    elsewhere = replace(target, search=None) != native.machine().target
    if spec.m * spec.n * spec.k < SMALLEST or len(few) < 2 or elsewhere:
        return few[0]
    known = _read()
    key = f"{spec.m}x{spec.n}x{spec.k} {spec.scalar} {spec.a_strides} {spec.b_strides}"
    if tuple(known.get(key, ())) not in few:
        known[key] = min(few, key=lambda tile: seconds(spec, target, tile))
        _write(known)
    across, down = known[key]
    return across, down


def seconds(spec: Contraction, target: Target, tile: Tile) -> float:
    """The time of one product with this tile: the least of several rounds."""
    code = native.Code([native.compiled(_program(spec, target, tile))])
    size = {"float": 4, "double": 8}[spec.scalar]
    extents = [_extent(spec.m, spec.k, spec.a_strides), _extent(spec.k, spec.n, spec.b_strides), spec.m * spec.n]
    extents.append(scratch_elements(spec, target, tile))
    a, b, c, scratch = (aligned(size * elements) for elements in extents)
    for array in (a, b):
        array.view(np.float32 if size == 4 else np.float64)[:] = 1
    repeats = max(1, 20_000_000 // (spec.m * spec.n * spec.k))
    frame = np.array([*map(address, (a, b, c, scratch)), repeats], np.int64)

    def once() -> float:
        start = time.perf_counter()
        code.run(address(frame))
        return (time.perf_counter() - start) / repeats

    return min(once() for _ in range(8))


def _extent(rows: int, columns: int, strides: tuple[int, int]) -> int:
    return (rows - 1) * strides[0] + (columns - 1) * strides[1] + 1


def _program(spec: Contraction, target: Target, tile: Tile) -> str:
    """A module whose ``run`` computes the product so many times."""
    a, b, c, scratch = (Register(f"%{name}", "ptr") for name in ("a", "b", "c", "scratch"))
    e = Emitter(target)

    def store(e: Emitter, row: Register, column: Register, sums: Register, mask: Register | None) -> None:
        line = e.address(c, e.binary("mul", row, e.const(spec.n, "i64")), spec.scalar)
        e.masked_store(sums, e.address(line, column, spec.scalar), mask)

    def touch(e: Emitter, row: Register, column: Register) -> None:
        line = e.address(c, e.binary("mul", row, e.const(spec.n, "i64")), spec.scalar)
        e.prefetch(e.address(line, column, spec.scalar), write=True)

    emit_contraction(e, spec, plan(spec, target, tile), a, b, store, scratch, touch=touch)
    e.ret()
    product = e.function("product", [a, b, c, scratch], attributes="#0")
    r, frame = Emitter(), Register("%frame", "ptr")
    types = ("ptr", "ptr", "ptr", "ptr", "i64")
    *pointers, repeats = (r.load(r.address(frame, r.const(i, "i64"), "i64"), type) for i, type in enumerate(types))
    with r.loop(repeats):
        r.write(f"call void @product({', '.join(pointer.typed for pointer in pointers)})")
    r.ret(r.const(0, "i64"))
    run = r.function("run", [frame], "i64")
    attributes = 'attributes #0 = { noinline "prefer-vector-width"="512" }'
    return "\n".join([*e.declared(), product, run, attributes])


# -- the file ---------------------------------------------------------------------------------------

_MOST = 4 << 20  # bytes


def _name() -> str:
    return f"tiles-{hashlib.sha256(native.machine().identity.encode()).hexdigest()[:16]}.json"


def _read() -> dict[str, Tile]:
    """What was found before; nothing where the file is missing, damaged or somebody else's."""
    try:
        with cache.opened() as folder:
            stored = json.loads(folder.read(_name(), _MOST))
    except (OSError, ValueError, RecursionError):
        return {}
    items = stored.items() if isinstance(stored, dict) else ()
    return {key: (tile[0], tile[1]) for key, tile in items if _is_tile(tile)}


def _is_tile(found: object) -> bool:
    return isinstance(found, list) and len(found) == 2 and all(type(side) is int for side in found)


def _write(known: dict[str, Tile]) -> None:
    """Whole or not at all; a cache that cannot be written is done without."""
    with suppress(OSError), cache.opened(make=True) as folder:
        text = json.dumps(known, indent=0, sort_keys=True)
        folder.replace(_name(), [text.encode()], durable=False, mode=0o600)
