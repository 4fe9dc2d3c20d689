"""Who trains: every implementation of the same step, ours first.

An implementation is a class; its module is imported in a process of its own, and only there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from chainrule.cli.bench.workloads import Array, Workload
from chainrule.errors import unknown_name


class Step(Protocol):
    """A training under way."""

    def __init__(self, workload: Workload, weights: list[Array], X: Array, y: Array) -> None: ...

    def run(self, steps: int) -> Sequence[Any]:
        """Train so many steps, from the first batch on; the loss of each. Returns when all are done."""
        ...

    def weights(self) -> list[Array]:
        """As `Workload.weights`."""
        ...


@dataclass(frozen=True)
class Peer:
    """An implementation: the class `step` of a module in this folder, and the distribution it needs."""

    name: str
    module: str
    step: str
    needs: str
    caches: bool = False  # keeps compiled code on disk
    tolerance: float = 1e-4  # of the first losses, relative: float32, sums in any order, up to a hundred layers
    note: str = ""  # where its work differs from ours

    @property
    def ours(self) -> bool:
        return self.needs == "chainrule"

    def missing(self) -> bool:
        return find_spec(self.needs) is None

    def load(self) -> type[Step]:
        step: type[Step] = getattr(import_module(f"chainrule.cli.bench.peers.{self.module}"), self.step)
        return step


OURS = "chainrule"
# Two classes: a step moves the difference of two outputs by twice the rate, and one output by once the rate.
_SKLEARN = "Adam computes in float64; of two classes it trains one logistic output instead of two"
PEERS = {
    peer.name: peer
    for peer in (
        Peer(OURS, "ours", "Loop", "chainrule", caches=True),
        Peer("chainrule call", "ours", "Call", "chainrule", caches=True),
        Peer("torch", "with_torch", "Eager", "torch"),
        Peer("torch fused", "with_torch", "Fused", "torch"),
        Peer("torch.compile", "with_torch", "Compiled", "torch", caches=True),
        Peer("jax.jit", "with_jax", "Jit", "jax"),
        Peer("jax scan", "with_jax", "Scan", "jax"),
        Peer("scikit-learn", "with_sklearn", "PartialFit", "sklearn", tolerance=1e-3, note=_SKLEARN),
        Peer("numpy", "with_numpy", "ByHand", "numpy"),
    )
}


def chosen(names: Sequence[str]) -> list[Peer]:
    """Ours and the implementations whose name, or whose library, is among `names`; all of them for no names.

    >>> [peer.name for peer in chosen(["numpy", "jax"])]
    ['chainrule', 'chainrule call', 'jax.jit', 'jax scan', 'numpy']
    """
    for name in names:
        if not any(name in (peer.name, peer.needs) for peer in PEERS.values()):
            raise unknown_name("peer", name, list(PEERS))
    return [peer for peer in PEERS.values() if peer.ours or not names or {peer.name, peer.needs} & set(names)]
