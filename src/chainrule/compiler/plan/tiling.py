"""How a matrix product is cut up for a machine: the tile in registers, the panels, the blocks in cache.

The order of its sums is not decided here: it comes with the product (`Contraction.lanes`), and every plan keeps it.

The tile follows from counting: a turn of its loop costs its multiply-adds, two a cycle, or its loads, two a
cycle, whichever is more, and about a cycle besides; so the fewer tiles the better, and no tile may need more
registers than there are. Where only one multiply-add begins in a cycle, all else happens meanwhile, except that the
sums of a large tile are stored one after the other. Blocks keep what a tile reads again and again near (Goto & van de
Geijn, "Anatomy of high-performance matrix multiplication", 2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from chainrule.compiler.plan.cut import Cut
from chainrule.compiler.plan.target import BYTES, Target, power_of_two_above
from chainrule.ops.halves import LEAF, Leaf, leaves, places
from chainrule.tensor.memory import LINE

Tile = tuple[int, int]  # vectors across, rows down

# The figures below were found by timing products: those of a CPU where two wide multiply-adds begin in a cycle on an Intel server
# core with AVX-512, those of one where one begins on Zen 4. They choose among tiles; no bit depends on them.

# Bytes of a page of memory: lines so far apart meet in one set of the first-level cache.
_PAGE = 4096
# Lines that a panel may take of a set of the first-level cache: of its eight, A's and C's are the others.
_WAYS = 6
# Bytes that stay in the second-level cache while a panel passes.
NEAR = 1 << 20
# Bytes of sums that may wait beyond that cache, asked for in time: the fewer groups of panels, the less often A is packed.
_FAR = 8 << 20
# Bytes of a first-level cache of 48 KB that a block of a tile's rows and columns takes, give or take a half (measured: 40 KB is
# 1 % slower, 60 KB 3 %, for a panel is packed here, beside what it is packed from).
_NEAREST = 32 << 10
# Terms that are summed in one go where A stays in the second-level cache.
_LONG = 2048
# Terms for each row of a tile, from which on a tile asks for memory ahead of its use: what it asks for takes time to come.
_AHEAD = 4
# Cycles that one turn of a tile's loop costs beside its multiply-adds and loads.
_TURN = 0.6
# Cycles that each vector of B costs a turn of a tile's loop beside.
_VECTOR = 0.2
# How much slower, as a share, a product may be for each copy of the tile's code that it is spared.
_BODY = 0.02
# What `_BODY` is for a product of fewer than `_SMALL` multiply-adds: it is soon done, and takes as long to compile.
_SMALL_BODY = 0.04
# Multiply-adds below which a product counts as small.
_SMALL = 1 << 21
# Multiply-adds from which on a product should be even for threads to share.
_SHARED = 1 << 17
# How much counts, as a share, of what two and four threads lose by an uneven product: there may be only one.
_EVEN = 0.2
# Multiply-adds that a load beside them costs: not all hit the first-level cache, and those that do may cross its lines.
_LOAD = 1.3
# Multiply-adds of a lane that transposing a vector of C costs.
_TRANSPOSING = 8
# Cycles from a multiply-add to the next of the same sum.
_LATENCY = 4
# Multiply-adds that must be independent of each other to hide their latency, where two begin in a cycle.
_IN_FLIGHT = 8
# Cycles of a vector's load where one multiply-add begins in a cycle: it is taken in two halves, and may cross a line of the cache.
_WIDE = 2.6
# Cycles of a scalar's load there.
_SCALAR = 0.25
# Cycles that a load costs there even where multiply-adds hide it: it may miss the nearest cache.
_BESIDE = 0.01


class Inner(NamedTuple):
    """An axis of terms inside another, as the channels of a window's places are: its size, and its strides in A and B."""

    size: int
    a: int
    b: int


@dataclass(frozen=True)
class Contraction:
    """C[i, j] = sum over l of A[i, l] B[l, j]: extents, and strides in elements, all known.

    A dense layer's x W^T, with x of (64, 128) and W of (10, 128), both row-major:

    >>> layer = Contraction(64, 10, 128, "float", a_strides=(128, 1), b_strides=(1, 128))
    >>> plan(layer, Target(64, 32)).vectors
    1
    """

    m: int
    n: int
    k: int
    scalar: str
    a_strides: tuple[int, int]  # (row m, column k)
    b_strides: tuple[int, int]  # (row k, column n)
    lanes: int = 1  # that share each sum along l, see `vectorize.lanes_of_product`; 1: its terms are added in order
    halved: bool = False  # l are the rows of a batch, added up in halves, see `ops.halves`
    carried: bool = False  # sums go on from what stands where they are stored
    inner: tuple[Inner, ...] = ()  # further axes of terms, inside l, whose own k and the strides are; one in another

    @property
    def terms(self) -> int:
        """How many products each sum has."""
        return self.k * math.prod(axis.size for axis in self.inner)

    def swapped(self) -> Contraction:
        """The same product as C^T = B^T A^T."""
        a, b = self.b_strides[::-1], self.a_strides[::-1]
        return replace(self, m=self.n, n=self.m, a_strides=a, b_strides=b)


@dataclass(frozen=True)
class Panels:
    """Neighbouring panels of equal width: the number of the first, how many, its first column, the width.

    The `rest` last ones of its columns are computed by vectors along the rows of C.
    """

    first: int
    count: int
    column: int
    width: int
    rest: int = 0


@dataclass(frozen=True)
class Tiling:
    """How C is cut into tiles, and how a tile is computed.

    A tile has `mr` rows and `nr` columns. `large` row tiles of `mr` rows come first, then `small` of one row less.
    `widths` lists the panels of columns. With `dot`, a tile's lanes along l are vectors. `pack` and `pack_a` say which
    factors are copied side by side first. A block goes over `kc` elements of l, over MC = `tiles` x `mr` rows and over NC =
    `together` x `nr` columns. With `ahead` a tile asks for the memory it will finish in while it sums.

    The names are those of Van Zee & van de Geijn, "BLIS: a framework for rapidly instantiating BLAS functionality" (2015).
    """

    mr: int
    large: int
    small: int
    lanes: int
    widths: tuple[Panels, ...]
    dot: bool
    pack: bool
    pack_a: bool
    kc: int
    tiles: int
    together: int
    ahead: bool = False
    blocked: bool = False
    transposed: bool = False  # what is computed is C^T = B^T A^T, and C is stored tile by tile transposed
    transposes_b: bool = False  # B, contiguous along l, is not packed but transposed in registers by each tile
    halves: int = 0  # least terms of a block, where l is added up in halves and blocks are halves of halves

    @property
    def row_tiles(self) -> int:
        return self.large + self.small

    @property
    def column_panels(self) -> int:
        return sum(panels.count for panels in self.widths)

    @property
    def nr(self) -> int:
        """Columns of the widest panel, in whole vectors."""
        widest = max((panels.width for panels in self.widths), default=0)
        return -(-widest // self.lanes) * self.lanes

    @property
    def vectors(self) -> int:
        """Vectors of columns of the widest panel, beside its rest."""
        return max((self._vectors(panels) for panels in self.widths), default=0)

    @property
    def wide_panels(self) -> int:
        """How many panels, the first, are of the widest kind; the others are one vector less."""
        return sum(panels.count for panels in self.widths if self._vectors(panels) == self.vectors)

    def _vectors(self, panels: Panels) -> int:
        return -(-(panels.width - panels.rest) // self.lanes)

    def cut_of_rows(self, m: int) -> Cut:
        """Where threads may divide the rows: between tiles."""
        return Cut(m, self.row_tiles, self.mr, self.large)

    def cut_of_columns(self, n: int) -> Cut:
        """Where threads may divide the columns: between panels."""
        if self.dot:  # vectors lie along l, so that panels are of so many columns and not of whole vectors
            return Cut.even(n, max(panels.width for panels in self.widths))
        return Cut(n, self.column_panels, self.vectors * self.lanes, self.wide_panels, self.lanes)


@lru_cache(maxsize=4096)
def plan(spec: Contraction, target: Target, tile: Tile | None = None) -> Tiling:
    """The tiles for a shape; `tile` says which, where it is not to be chosen."""
    if spec.lanes > 1:
        return _lanes_plan(spec, target)
    if spec.inner or spec.carried:
        return _nested_plan(spec, target)
    transposed = _fits_better_transposed(spec, target)
    upright = spec.swapped() if transposed else spec
    if _turns(upright, target):
        return replace(_transposing_tiling(upright, target), transposed=transposed)
    lanes = min(target.lanes(spec.scalar), power_of_two_above(upright.n))
    rest = 0 if transposed else _rest(upright, target)
    across, down = tile or _best_tile(spec, _grid(upright, lanes, target, transposed, rest), target)
    widths = tuple(_with_rest(list(_even_panels(upright.n - rest, lanes, across)), rest))
    chosen = Tiling(down, *_split(upright.m, down), lanes, widths, False, False, False, spec.k, 0, 0)
    return replace(_blocks(upright, chosen), transposed=transposed)


def _best_tile(spec: Contraction, grid: _Grid, target: Target) -> Tile:
    ranked = sorted(grid.tiles(), key=lambda tile: grid.cost(*tile))
    return ranked[0] if target.search is None else target.search(spec, target, ranked)


def _fits_better_transposed(spec: Contraction, target: Target) -> bool:
    """Would vectors along A's rows waste fewer lanes, by more than transposing the tiles of C, or A's blocks, costs?"""
    lanes = target.lanes(spec.scalar)
    if not spec.m or not spec.n or not spec.k:
        return False
    if spec.a_strides[0] != 1 or spec.a_strides[1] == 1:
        return _turns(spec.swapped(), target) and _narrow(spec, target)
    transposing = _TRANSPOSING * lanes / (spec.k * min(spec.n, lanes))
    return _waste(spec.n, lanes) > _waste(spec.m, lanes) * (1 + transposing)


def _narrow(spec: Contraction, target: Target) -> bool:
    """Do so few columns leave so many lanes empty that it is quicker to transpose A in registers? In cycles for a vector of rows."""
    lanes = target.lanes(spec.scalar)
    halved = target.fmas == 1 and spec.n * BYTES[spec.scalar] <= target.vector_bytes // 2
    upright = lanes * max(0.5, -(-spec.n // lanes) * (0.5 if halved else 1 / target.fmas))
    transposed = spec.n / target.fmas + math.log2(lanes) - 1
    return transposed * _waste(spec.m, lanes) < upright


def _waste(extent: int, lanes: int) -> float:
    """Lanes computed for each that counts."""
    return -(-extent // lanes) * lanes / extent


def _split(m: int, rows: int) -> tuple[int, int]:
    """How many tiles have `rows` rows, and how many one less."""
    tiles = -(-m // rows)
    small = tiles * rows - m
    return tiles - small, small


def _even(extent: int, most: int) -> int:
    """The larger size where an extent is cut into as few parts as `most` allows, none two longer than another."""
    return -(-extent // -(-extent // most)) if extent else 1


def _even_panels(n: int, lanes: int, vectors: int) -> Iterator[Panels]:
    """Panels of `vectors` vectors, then of one less, so that they share n evenly; the last one may be ragged."""
    total = -(-n // lanes)
    if not total:
        return
    wide, narrow = _split(total, vectors)
    ragged = n % lanes > 0
    first = 0
    for count, size in ((wide, vectors), (narrow, vectors - 1)):
        last = ragged and count > 0 and first + count == wide + narrow
        column = min(first, wide) * vectors * lanes + max(0, first - wide) * (vectors - 1) * lanes
        if count - last > 0:
            yield Panels(first, count - last, column, size * lanes)
        if last:
            column += (count - 1) * size * lanes
            yield Panels(first + count - 1, 1, column, n - column)
        first += count


def _rest(spec: Contraction, target: Target) -> int:
    """How many of the last columns are computed otherwise: few, that would leave a vector all but empty.

    Where A is contiguous along its rows, a tile's rows are one vector more to read, and each of those columns one
    multiply-add for all its rows. At the end they are transposed, which pays where l is long. To lay out A so first
    does not pay (measured).
    """
    lanes = target.lanes(spec.scalar)
    rest = spec.n % lanes
    worth = spec.n > lanes and spec.m >= lanes and spec.k >= 2 * lanes
    # A vector holds the rows of the best tiles: not in float64 (measured).
    fits = (target.registers - 3) // 2 <= lanes and spec.a_strides[0] == 1 != spec.a_strides[1]
    if not (worth and fits and 0 < 4 * rest <= lanes and _stays(spec)):
        return 0
    costs = {columns: _grid(spec, lanes, target, False, columns).least() for columns in (0, rest)}
    return min(costs, key=lambda columns: costs[columns])


def _with_rest(panels: list[Panels], rest: int) -> list[Panels]:
    """The last of the panels takes them."""
    if not rest:
        return panels
    last = panels[-1]
    kept = [*panels[:-1], replace(last, count=last.count - 1)] if last.count > 1 else panels[:-1]
    before = last.count - 1
    column = last.column + before * last.width
    return [*kept, Panels(last.first + before, 1, column, last.width + rest, rest)]


# -- the tile ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """Rows and vectors of columns to be cut into tiles, and what that costs."""

    target: Target
    terms: int
    m: int
    vectors: int
    most_rows: int
    body: float  # how much slower it may be for each copy of the tile's code it is spared
    closing: float  # cycles that each vector of columns costs a tile when its sums are done
    rest: int = 0  # columns that the last tile of each row of tiles computes otherwise: by vectors along rows
    even: float = 0.0  # what it is worth that threads have equal shares
    halved: bool = False  # the rows of the batch are the terms: rows and columns of C are shared alike

    def tiles(self) -> list[Tile]:
        """Every tile that fits: its sums, the vectors of B and one element of A in registers."""
        found: dict[Tile, None] = {}
        for across in range(1, 9):
            for down in range(1, self.most_rows + 1):
                beside = self.rest + 1 if self.rest else 0
                if across * down + across + 1 + beside <= self.target.registers - self.target.spare:
                    found[_even(self.vectors, across), _even(self.m, down)] = None
        return list(found)

    def least(self) -> float:
        return min(self.cost(*tile) for tile in self.tiles())

    def cost(self, across: int, down: int) -> float:
        """Cycles."""
        widths, heights = _counts(self.vectors, across), _counts(self.m, down)
        cycles = sum(w * h * self._tile(v, r) for v, w in widths for r, h in heights)
        kinds = len(widths)
        if self.rest:
            last, of_last = widths[-1]
            cycles += sum(h * (self._tile(last, r, self.rest) - self._tile(last, r)) for r, h in heights)
            kinds += of_last > 1
        cycles *= 1 + self.body * (kinds * len(heights) - 1)
        return cycles * (1 + self.even * self._unevenness(across, down)) if self.even else cycles

    def _unevenness(self, across: int, down: int) -> float:
        """By rows, which are those of the batch from layer to layer; elsewhere, and where all are in one tile, by columns too."""
        of_rows = _unevenness(self.m, down)
        return min(of_rows, _unevenness(self.vectors, across)) if self.halved or down >= self.m else of_rows

    def _tile(self, across: int, down: int, rest: int = 0) -> float:
        """Cycles of one tile; `rest` columns are vectors along its rows."""
        work, loads = across * down + rest, across + down + rest + (rest > 0)
        closing = across * self.closing
        if self.target.fmas == 1:
            reading = _WIDE * across + _SCALAR * down  # neither hides the other quite where they take about as long
            turn = math.pow(max(work, _IN_FLIGHT // 2) ** 6 + reading**6, 1 / 6) + _BESIDE * (loads + across)
        else:
            turn = max(work, _LOAD * loads, _IN_FLIGHT) / 2 + _TURN + _VECTOR * (across + (rest > 0))
        return self.terms * turn + closing + _storing(work) / self.target.fmas


def _grid(spec: Contraction, lanes: int, target: Target, transposed: bool, rest: int) -> _Grid:
    work = spec.m * spec.n * spec.terms
    body = _SMALL_BODY if work < _SMALL else _BODY
    full = target.lanes(spec.scalar)
    closing = _TRANSPOSING * full / target.fmas if transposed else 0.0
    most = full if transposed or rest else 28
    even = _EVEN if work >= _SHARED else 0.0
    vectors = -(-(spec.n - rest) // lanes)
    return _Grid(target, max(1, spec.terms), spec.m, vectors, most, body, closing, rest, even, spec.halved)


def _counts(extent: int, size: int) -> list[tuple[int, int]]:
    large, small = _split(extent, size)
    return [(s, count) for s, count in ((size, large), (size - 1, small)) if count and s]


@lru_cache(maxsize=1024)
def _unevenness(extent: int, size: int) -> float:
    """How much longer than with equal shares threads take for tiles of such a size: two and four of them, on average."""
    large, small = _split(extent, size)
    cut = Cut(extent, large + small, size, large)
    return sum(threads * cut.largest(threads) - 1 for threads in (2, 4)) / 2


def _storing(sums: int) -> float:
    """Cycles until a tile's sums are stored: a few vectors are while the next tile begins (measured on Zen 4).

    Where two multiply-adds of whole vectors begin in a cycle, a whole vector is stored in one, and not in two halves.
    """
    return 2 + 1.6 * max(0, sums - _IN_FLIGHT)


# -- sums in lanes along l --------------------------------------------------------------------------


def _lanes_plan(spec: Contraction, target: Target) -> Tiling:
    """A row whose sums are shared by `spec.lanes` along l each.

    Where B is contiguous along l they are neighbours in vectors, several of them where registers are narrow. Elsewhere
    each is a vector of its own, along the columns: one after the other the terms of l go round them.
    """
    whole, many = target.lanes(spec.scalar), 16 if target.registers >= 32 else 8
    dot = spec.b_strides[0] == 1 and not spec.inner
    lanes = spec.lanes if dot else min(whole, power_of_two_above(spec.n))
    most = min(8, max(1, many * whole // lanes)) if dot else 2 * lanes if target.registers >= 32 else lanes
    width = min(most, power_of_two_above(spec.n))
    full, ragged = divmod(spec.n, width)
    widths = [Panels(0, full, 0, width)] * (full > 0) + [Panels(full, 1, full * width, ragged)] * (ragged > 0)
    pack, pack_a = not dot and spec.n > 1 and spec.b_strides[1] != 1, dot and spec.a_strides[1] != 1
    if spec.inner and pack:  # one column at a time
        lanes, widths, pack = 1, [Panels(0, spec.n, 0, 1)], False
    return Tiling(1, spec.m, 0, lanes, tuple(widths), dot, pack, pack_a, spec.k, spec.m, full + 1)


# -- terms along several axes -----------------------------------------------------------------------


def _nested_plan(spec: Contraction, target: Target) -> Tiling:
    """Tiles that read both factors where they lie: by vectors along columns, if they are side by side."""
    beside = spec.b_strides[1] == 1 or spec.n == 1
    lanes = min(target.lanes(spec.scalar), power_of_two_above(spec.n)) if beside else 1
    grid = _grid(spec, lanes, target, False, 0)
    fitting = [tile for tile in grid.tiles() if beside or tile[0] == 1]
    across, down = min(fitting, key=lambda tile: grid.cost(*tile))
    widths = tuple(_even_panels(spec.n, lanes, across))
    tiles, panels = -(-spec.m // down), sum(panels.count for panels in widths)
    chosen = Tiling(down, *_split(spec.m, down), lanes, widths, False, False, False, spec.k, tiles, panels)
    return _in_pieces(spec, chosen) if spec.inner and not spec.carried else chosen


def _in_pieces(spec: Contraction, chosen: Tiling) -> Tiling:
    """In blocks of the outermost terms, images or channels, that stay near while every tile passes over them."""
    each = spec.terms // spec.k * (spec.m + spec.n) * BYTES[spec.scalar]  # bytes of both factors for one of those terms
    if chosen.row_tiles * chosen.column_panels == 1 or spec.k * each <= NEAR:
        return chosen
    return replace(chosen, kc=_even(spec.k, max(1, NEAR // 4 // each)), blocked=True)


# -- few rows ---------------------------------------------------------------------------------------


def _turns(spec: Contraction, target: Target) -> bool:
    """Are there so few rows that it does not pay to write B transposed, as each panel is read but once?"""
    fits = 4 <= _transposing_lanes(spec, target) <= spec.k and spec.n > 1 and spec.m <= _most_transposing(target)
    return fits and spec.b_strides[0] == 1 != spec.b_strides[1] and not spec.halved


def _transposing_lanes(spec: Contraction, target: Target) -> int:
    """Of a square of columns and terms."""
    return min(target.lanes(spec.scalar), max(4, power_of_two_above(spec.n)))


def _most_transposing(target: Target) -> int:
    """Rows whose sums stay in registers beside a transposed block."""
    return 12 if target.registers >= 32 else 6


def _transposing_tiling(spec: Contraction, target: Target) -> Tiling:
    lanes = _transposing_lanes(spec, target)
    # A square's exchanges, lanes log2(lanes) of them, go on while its sums wait for each other, as many terms of `_LATENCY` cycles.
    waits = spec.m == 1 or math.log2(lanes) < _LATENCY
    across = 2 if waits and spec.n > lanes and 2 * spec.m <= _most_transposing(target) else 1
    widths = tuple(_even_panels(spec.n, lanes, across))
    return Tiling(spec.m, 1, 0, lanes, widths, False, False, False, spec.k, 1, len(widths), transposes_b=True)


# -- blocks and packing -----------------------------------------------------------------------------


def _blocks(spec: Contraction, chosen: Tiling) -> Tiling:
    """The plan with what is packed, and how far apart the loops come back to the same data.

    A block of A stays near while the panels of B pass by, and a panel of B while the rows of that block do; the sums
    of a block of C wait a little farther off.
    """
    size = BYTES[spec.scalar]
    tiles, panels = chosen.row_tiles, chosen.column_panels
    far = spec.m * spec.n * size > NEAR // 2 and spec.k >= _AHEAD * chosen.mr
    chosen = replace(
        chosen, pack=_packs_b(spec, size) or _collides(spec, size, chosen), tiles=tiles, together=panels, ahead=far
    )
    if _stays(spec):
        return replace(chosen, pack_a=_packs_a(spec, size))
    pieces = max(1, round(spec.k * (chosen.mr + chosen.nr) * size / _NEAREST))
    depth = min(spec.k, -(-spec.k // pieces // 16) * 16)
    tiles = _even(tiles, max(1, NEAR // 2 // (depth * size * chosen.mr)))
    if spec.halved and depth < spec.k:
        chosen = replace(chosen, halves=max(LEAF, depth * 2 // 3))
        depth = max(end - start for start, end in pairwise([0, *(part.end for part in blocks_of(spec, chosen))]))
    if depth < spec.k:
        panels = _even(panels, max(1, _FAR // (tiles * waiting_sums(spec, chosen) * size)))
    pack_a = _packs_a(spec, size) or _crowds(spec, size)
    return replace(
        chosen, pack_a=pack_a, kc=depth, tiles=tiles, together=panels, ahead=far or depth < spec.k,
        blocked=True,
    )  # fmt: skip


def blocks_of(spec: Contraction, chosen: Tiling) -> tuple[Leaf, ...]:
    """The blocks of a product that is added up in halves."""
    return leaves(spec.k, chosen.halves)


def waiting_sums(spec: Contraction, chosen: Tiling) -> int:
    """Elements in which the sums of a tile wait for the next block of l: of halves, several of each at a time."""
    return chosen.mr * chosen.nr * (places(blocks_of(spec, chosen)) if spec.halved else 1)


def _stays(spec: Contraction) -> bool:
    """Does A stay near while every panel passes, so that nothing need be cut into blocks?"""
    return spec.m * spec.k * BYTES[spec.scalar] <= NEAR // 2 and spec.k <= _LONG


def _crowds(spec: Contraction, size: int) -> bool:
    """Do A's rows, contiguous along l, begin in the same set of a first-level cache, so that a tile's do not fit?"""
    return spec.a_strides[1] == 1 and spec.a_strides[0] * size % _PAGE == 0 and spec.n >= 192


def _packs_b(spec: Contraction, size: int) -> bool:
    """Must B's panels be copied? Where its columns are contiguous, only if it lies wide and is used often."""
    if spec.n <= 1 or not spec.k:
        return False
    if spec.b_strides[1] != 1:
        return True
    far = spec.b_strides[0] * size
    crowded = far % 1024 == 0 and far * spec.k >= NEAR and spec.m >= 24
    return crowded or far * spec.k * spec.m > 64 * NEAR


def _collides(spec: Contraction, size: int, chosen: Tiling) -> bool:
    """Do the rows of a panel of B begin in so few sets of a first-level cache that they push each other out?

    With vectors of less than a line: then a packed panel made products of 128 to 512 up to 20 % faster (AVX2, 32 KB).
    Where a vector is a line (AVX-512, 48 KB), products of 128 that read B in place reach 90 % of the peak.
    """
    far = spec.b_strides[0] * size
    sets = _PAGE // math.gcd(far, _PAGE)  # that different rows begin in
    narrow = chosen.lanes * size < LINE
    return narrow and spec.n > 1 and spec.m >= 24 and far % LINE == 0 and spec.k > _WAYS * sets


def _packs_a(spec: Contraction, size: int) -> bool:
    """Is it worth copying the rows of A, contiguous along them, so that a tile's lie side by side?"""
    if spec.a_strides[0] != 1 or spec.a_strides[1] == 1:
        return False
    span = spec.a_strides[1] * spec.k * size
    return (span >= 16 * _PAGE and spec.n >= 192) or (span >= 64 * _PAGE and spec.n >= 160)


def scratch_elements(spec: Contraction, target: Target, tile: Tile | None = None) -> int:
    """How many elements of scratch memory each thread gives to the kernel; 0 where it needs none."""
    return sum(scratch_parts(spec, plan(spec, target, tile)))


def scratch_parts(spec: Contraction, chosen: Tiling) -> tuple[int, int, int]:
    """Elements of scratch memory for a panel of B, a block of A, the sums of a block of C."""
    panel = chosen.kc * chosen.nr if chosen.pack else 0
    block = chosen.kc * chosen.tiles * chosen.mr if chosen.pack_a else 0
    sums = chosen.tiles * chosen.together * waiting_sums(spec, chosen) if chosen.kc < spec.k else 0
    return tuple(-(-elements // 16) * 16 for elements in (panel, block, sums))  # type: ignore[return-value]
