"""PyTorch's mixed precision as it is where there is no GPU: off. Scripts that turn it on by what they found run as they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any

from chainrule.errors import SettingError


class autocast(ContextDecorator):  # PyTorch's name
    """A block (or decorated function) that computes in the dtypes of its tensors: nothing is cast by itself.

    Args:
        device_type: for another device than the CPU it is off, as in PyTorch where there is no such device.
        dtype: what PyTorch's would compute in.
        enabled: False on the CPU.
        cache_enabled: accepted, and without effect.

    Raises:
        SettingError: it is to be on for the CPU; layers and tensors are converted by name here.

    >>> import chainrule as cr
    >>> with cr.autocast("cpu", enabled=False):
    ...     cr.ones(2).dtype
    chainrule.float32
    """

    def __init__(
        self, device_type: str, dtype: object = None, enabled: bool = True, cache_enabled: bool | None = None
    ) -> None:
        if enabled and str(device_type).partition(":")[0] == "cpu":
            raise SettingError(
                "autocast: on the CPU enabled must be False, since nothing is cast by itself here. Make layers bfloat16 "
                "(model.bfloat16(), dtype=cr.bfloat16), and convert with x.bfloat16() and x.float()."
            )
        self.device, self.fast_dtype = device_type, dtype

    def __enter__(self) -> autocast:
        return self

    def __exit__(self, *error: object) -> None: ...


class GradScaler:
    """Scales nothing: what it is for, gradients too small for float16, cannot be here. Its methods do what PyTorch's do when it is off.

    Args:
        device: any.
        init_scale, growth_factor, backoff_factor, growth_interval, enabled: accepted, and without effect.

    >>> import chainrule as cr
    >>> scaler = cr.amp.GradScaler("cuda", enabled=cr.cuda.is_available())
    >>> scaler.scale(cr.tensor(2.0)), scaler.get_scale()
    (tensor(2.), 1.0)
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None: ...

    def scale(self, outputs: Any) -> Any:
        """The outputs themselves."""
        return outputs

    def unscale_(self, optimizer: Any) -> None:
        """Nothing."""

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step()``."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Nothing."""

    def get_scale(self) -> float:
        """1."""
        return 1.0

    def is_enabled(self) -> bool:
        """False."""
        return False

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing."""


def custom_fwd(fwd: Callable[..., Any] | None = None, **options: Any) -> Any:
    """The function itself: there is no autocast to leave."""
    return fwd if fwd is not None else lambda function: function


custom_bwd = custom_fwd
