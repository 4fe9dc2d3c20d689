"""Layers that learn the size of their input from the first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from chainrule.devices import on_cpu
from chainrule.dtypes import DType, as_dtype, float32
from chainrule.errors import SettingError
from chainrule.graph import shape_error, tracing, who
from chainrule.nn.convolution import Conv1d, Conv2d, Conv3d, _Conv
from chainrule.nn.functional.normalization import CHANNELS
from chainrule.nn.layers import Linear
from chainrule.nn.module import Module
from chainrule.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d, check_rank
from chainrule.nn.parameter import UninitializedParameter
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, ones, zeros


def _begin(layer: Module, become: type[Module], size: str, found: int, shapes: dict[str, tuple[int, ...]]) -> None:
    """From now on it is the layer that it stands for, with parameters of these shapes."""
    if tracing():
        raise SettingError(
            f"{who(type(layer).__name__)}: its first call gives it its size, and must not be inside a compiled function. "
            f"Call the model once on some rows before: model(x)."
        )
    layer.__class__ = become
    setattr(layer, size, found)
    for name, shape in shapes.items():
        parameter = layer._parameters[name]
        if isinstance(parameter, UninitializedParameter):
            parameter.materialize(shape)


def _await_size(layer: Any, dtype: Any, weight: bool, bias: bool) -> DType:
    """Give it parameters that have no shape yet; their dtype, float32 unless one was given."""
    wanted = float32 if dtype is None else as_dtype(dtype)
    if weight:
        layer.weight = UninitializedParameter(wanted)
    if bias:
        layer.bias = UninitializedParameter(wanted)
    return wanted


class LazyLinear(Linear):
    """A ``Linear`` whose in_features is the last axis of its first input; from that call on it is a ``Linear``.

    Args:
        out_features: the length of the output's last axis.
        bias: learn an additive b.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Until then its parameters have no values: an optimizer takes them, everything else raises. Call the model once on some
    rows before you initialise, save, load, compile or train it by a ``Trainer``.

    Raises:
        SettingError: its first call is inside a compiled function.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.LazyLinear(2)
        >>> _ = layer(cr.zeros(5, 3))
        >>> layer
        Linear(in_features=3, out_features=2, bias=True)
    """

    def __init__(self, out_features: int, bias: bool = True, *, device: Any = None, dtype: Any = None) -> None:
        on_cpu(device)
        super().__init__(0, out_features, bias, dtype=dtype)
        _await_size(self, dtype, True, bias)

    def reset_parameters(self) -> None:
        """Nothing, until there are parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """Take the size of the input, and apply the layer."""
        input = given(input, "LazyLinear")
        if not input.ndim:
            raise shape_error("LazyLinear", "the input must have an axis of features", "shape ()", "Reshape it.")
        features = input.shape[-1]
        shapes = {"weight": (self.out_features, features), "bias": (self.out_features,)}
        _begin(self, Linear, "in_features", features, shapes)
        Linear.reset_parameters(self)
        return Linear.forward(self, input)


class LazyBatchNorm1d(BatchNorm1d):
    """A ``BatchNorm1d`` whose num_features is axis 1 of its first input; from that call on it is a ``BatchNorm1d``.

    Arguments as for ``BatchNorm1d``; what holds until then, as for ``LazyLinear``.
    """

    _become: type[BatchNorm1d] = BatchNorm1d

    def __init__(
        self,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__(0, eps, momentum, affine, track_running_stats, bias=bias, dtype=dtype)
        self._wanted = _await_size(self, dtype, self.weight is not None, self.bias is not None)

    def forward(self, input: Tensor) -> Tensor:
        """Take the size of the input, and apply the layer."""
        name, become = type(self).__name__, self._become
        input = given(input, name)
        check_rank(name, input, self._ranks)
        features = input.shape[CHANNELS]
        _begin(self, become, "num_features", features, {"weight": (features,), "bias": (features,)})
        if self.track_running_stats:
            self.running_mean = zeros(features, dtype=self._wanted)
            self.running_var = ones(features, dtype=self._wanted)
        become.reset_parameters(self)
        return become.forward(self, input)


class LazyBatchNorm2d(LazyBatchNorm1d):
    """A ``BatchNorm2d`` whose num_features is axis 1 of its first input; see `LazyBatchNorm1d`."""

    _become, _ranks = BatchNorm2d, BatchNorm2d._ranks


class LazyBatchNorm3d(LazyBatchNorm1d):
    """A ``BatchNorm3d`` whose num_features is axis 1 of its first input; see `LazyBatchNorm1d`."""

    _become, _ranks = BatchNorm3d, BatchNorm3d._ranks


class _LazyConv(_Conv):
    """A convolution that has no in_channels yet."""

    _become: ClassVar[type[_Conv]]

    def __init__(
        self, out_channels: int, kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0, dilation: int | Sequence[int] = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", *, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            0,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device=device,
            dtype=dtype,
        )
        _await_size(self, dtype, True, bias)

    def reset_parameters(self) -> None:
        """Nothing, until there are parameters."""

    def forward(self, input: Tensor) -> Tensor:
        """Take the channels of the input, and apply the layer."""
        name, rank = type(self).__name__, self._rank
        input = given(input, name)
        check_rank(name, input, (rank + 1, rank + 2))
        channels = input.shape[-rank - 1]
        if channels % self.groups:
            raise SettingError(
                f"{name}: the input's channels must be a multiple of groups={self.groups}, got {channels}."
            )
        shapes = {
            "weight": (self.out_channels, channels // self.groups, *self.kernel_size),
            "bias": (self.out_channels,),
        }
        _begin(self, self._become, "in_channels", channels, shapes)
        _Conv.reset_parameters(self)
        return _Conv.forward(self, input)


class LazyConv1d(_LazyConv):
    """A ``Conv1d`` whose in_channels are those of its first input; see `LazyConv2d`."""

    _rank, _formula, _become = 1, Conv1d._formula, Conv1d


class LazyConv2d(_LazyConv):
    """A ``Conv2d`` whose in_channels are those of its first input; from that call on it is a ``Conv2d``.

    Arguments as for ``Conv2d`` without in_channels; what holds until then, as for ``LazyLinear``.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.LazyConv2d(8, 3)
        >>> _ = layer(cr.zeros(1, 3, 5, 5))
        >>> layer
        Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1))
    """

    _rank, _formula, _become = 2, Conv2d._formula, Conv2d


class LazyConv3d(_LazyConv):
    """A ``Conv3d`` whose in_channels are those of its first input; see `LazyConv2d`."""

    _rank, _formula, _become = 3, Conv3d._formula, Conv3d
