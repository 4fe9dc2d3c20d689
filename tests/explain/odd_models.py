"""Models that are odd but ordinary: what looks back at a training must be able to look at these."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import chainrule as cr
from chainrule import Tensor, nn


class _Model(nn.Module):
    """Two layers, and between them what makes the model odd."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 2)

    def between(self, h: Tensor) -> Tensor:
        return h.tanh()

    def forward(self, x: Tensor) -> Any:
        return self.last(self.between(self.first(x)))


class Thrice(_Model):
    """One layer, used three times."""

    def between(self, h: Tensor) -> Tensor:
        return self.first(self.first(h.tanh()).tanh()).tanh()


class Tied(_Model):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(5, 5)
        self.other.weight = self.first.weight

    def between(self, h: Tensor) -> Tensor:
        return self.other(h.tanh()).tanh()


class Indexed(_Model):
    """A parameter of which single rows are read, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(cr.randn(3, 5))

    def between(self, h: Tensor) -> Tensor:
        return ((h + self.table[1]).tanh() * self.table[1] + self.table[2]).tanh()


class Detached(_Model):
    """A layer that the loss does not reach."""

    def between(self, h: Tensor) -> Tensor:
        return h.detach().tanh()


class Frozen(_Model):
    """A first layer that is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.first.requires_grad_(False)


class Unused(_Model):
    """A layer that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(5, 5)


class OwnDerivative(_Model):
    """An op with a derivative of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.own = cr.custom_vjp(lambda x: x.tanh(), lambda dY, Y, x: dY * (1 - Y * Y))

    def between(self, h: Tensor) -> Tensor:
        return self.own(h)


class Scaled(_Model):
    """A parameter without axes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(cr.tensor(1.5))

    def between(self, h: Tensor) -> Tensor:
        return (h * self.scale).tanh()


MODELS: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind for kind in (Thrice, Tied, Indexed, Detached, Frozen, Unused, OwnDerivative, Scaled)
}
