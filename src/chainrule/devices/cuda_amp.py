"""PyTorch's mixed precision under its older address, ``torch.cuda.amp``: that of a GPU, which is not there, so it is off."""

from __future__ import annotations

from chainrule.devices import amp
from chainrule.devices.amp import custom_bwd as custom_bwd
from chainrule.devices.amp import custom_fwd as custom_fwd

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]


class autocast(amp.autocast):  # PyTorch's name
    """`chainrule.autocast` for ``"cuda"``: nothing is cast.

    Args:
        enabled, dtype, cache_enabled: accepted, and without effect.

    >>> import chainrule as cr
    >>> with cr.cuda.amp.autocast():
    ...     cr.ones(2).dtype
    chainrule.float32
    """

    def __init__(self, enabled: bool = True, dtype: object = None, cache_enabled: bool | None = True) -> None:
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """`chainrule.amp.GradScaler`: scales nothing.

    Args:
        init_scale, growth_factor, backoff_factor, growth_interval, enabled: accepted, and without effect.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
