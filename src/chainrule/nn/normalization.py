"""The normalisations as layers, their scale and shift learned and their running statistics kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32, int64
from chainrule.errors import SettingError
from chainrule.graph import shape_error
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.normalization import CHANNELS, Factor, sizes_of
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, ones, zeros
from chainrule.tensor.functions import no_grad


class _Affine(Module):
    """What all have: a scale that starts at 1, and a shift that starts at 0."""

    weight: Parameter | None
    bias: Parameter | None

    def _learn(self, shape: tuple[int, ...], weight: bool, bias: bool, dtype: Any) -> None:
        wanted = float32 if dtype is None else as_dtype(dtype)
        self.register_parameter("weight", Parameter(ones(*shape, dtype=wanted)) if weight else None)
        self.register_parameter("bias", Parameter(zeros(*shape, dtype=wanted)) if bias else None)

    def reset_parameters(self) -> None:
        """The scale is 1 again, the shift 0."""
        if self.weight is not None:
            init.ones_(self.weight)
        if self.bias is not None:
            init.zeros_(self.bias)


class LayerNorm(_Affine):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over the last axes of each row; see ``F.layer_norm``.

    Args:
        normalized_shape: the sizes of the axes to normalise over, or the size of the last one.
        eps: keeps the division finite.
        elementwise_affine: learn weight and bias.
        bias: learn a bias, if a weight is learned.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: input and output (..., *normalized_shape), ``weight`` and ``bias`` normalized_shape; they start at 1 and 0.

    Raises:
        SettingError: normalized_shape names no axis.
        ShapeError: when called, if the input does not end in normalized_shape.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.LayerNorm(2)(cr.tensor([[1.0, 3.0]])).detach()
        tensor([[-1.0000,  1.0000]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__()
        self.normalized_shape = sizes_of("LayerNorm", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._learn(self.normalized_shape, elementwise_affine, elementwise_affine and bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise an input of shape (..., *normalized_shape)."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
            f"bias={self.bias is not None}"
        )


class RMSNorm(_Affine):
    """``x / sqrt(mean(x^2) + eps) * weight`` over the last axes of each row; see ``F.rms_norm``.

    Args:
        normalized_shape: the sizes of the axes to normalise over, or the size of the last one.
        eps: keeps the division finite; None is the dtype's rounding unit.
        elementwise_affine: learn the weight.
        device: the CPU, or left out.
        dtype: of the parameter (float32).

    Raises:
        SettingError: normalized_shape names no axis.
        ShapeError: when called, if the input does not end in normalized_shape.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__()
        self.normalized_shape = sizes_of("RMSNorm", normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        wanted = float32 if dtype is None else as_dtype(dtype)
        weight = Parameter(ones(*self.normalized_shape, dtype=wanted)) if elementwise_affine else None
        self.register_parameter("weight", weight)

    def reset_parameters(self) -> None:
        """The scale is 1 again."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise an input of shape (..., *normalized_shape)."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Affine):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` over groups of channels; see ``F.group_norm``.

    Args:
        num_groups: how many groups the channels form.
        num_channels: how many channels there are; a multiple of num_groups.
        eps: keeps the division finite.
        affine: learn weight and bias, one for each channel.
        bias: learn a bias, if a weight is learned.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Raises:
        SettingError: the channels do not divide into the groups.
        ShapeError: when called, if axis 1 of the input is not num_channels.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__()
        self.num_groups = size("GroupNorm", "num_groups", num_groups)
        self.num_channels = size("GroupNorm", "num_channels", num_channels)
        if not self.num_groups or self.num_channels % self.num_groups:
            raise SettingError(
                f"GroupNorm: num_groups must divide num_channels, got {self.num_groups} groups of {self.num_channels} channels."
            )
        self.eps, self.affine = eps, affine
        self._learn((self.num_channels,), affine, affine and bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise an input of shape (N, num_channels, ...)."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return (
            f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
            f"bias={self.bias is not None}"
        )


def check_rank(name: str, input: Tensor, ranks: tuple[int, ...]) -> None:
    """Raise ShapeError unless the input has one of these numbers of axes."""
    if input.ndim not in ranks:
        raise shape_error(
            name,
            f"the input must have {' or '.join(map(str, ranks))} axes",
            f"shape {input.shape}",
            "Reshape the input.",
        )


class _Running(_Affine):
    """A normalisation by channel that may keep running statistics."""

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None
    _ranks: tuple[int, ...]  # how many axes an input may have

    def __init__(
        self,
        num_features: int,
        eps: float,
        momentum: float | None,
        affine: bool,
        track_running_stats: bool,
        bias: bool,
        dtype: Any,
    ) -> None:
        super().__init__()
        self.num_features = size(type(self).__name__, "num_features", num_features)
        self.eps, self.momentum, self.affine = eps, momentum, affine
        self.track_running_stats = track_running_stats
        shape = (self.num_features,)
        self._learn(shape, affine, affine and bias, dtype)
        wanted = float32 if dtype is None else as_dtype(dtype)
        self.register_buffer("running_mean", zeros(*shape, dtype=wanted) if track_running_stats else None)
        self.register_buffer("running_var", ones(*shape, dtype=wanted) if track_running_stats else None)
        self.register_buffer("num_batches_tracked", zeros(dtype=int64) if track_running_stats else None)

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batches."""
        with no_grad():
            if self.running_mean is not None and self.running_var is not None:
                self.running_mean.zero_()
                self.running_var.fill_(1.0)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Scale and shift as they started, and no running statistics."""
        self.reset_running_stats()
        super().reset_parameters()

    def _checked(self, input: Tensor, channels: int) -> Tensor:
        """The input, if it has a number of axes that it may have, and this one is as long as there are features."""
        input, name = given(input, type(self).__name__), type(self).__name__
        check_rank(name, input, self._ranks)
        if input.shape[channels] != self.num_features:
            raise shape_error(
                name, f"axis {channels} of the input must be num_features={self.num_features}", f"shape {input.shape}",
                f"Make num_features={input.shape[channels]}, or change what comes before this layer.",
            )  # fmt: skip
        return input

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_Running):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each feature, over the batch; see ``F.batch_norm``.

    In training mean and variance are the batch's, and running ones follow them; in evaluation they are the running ones.

    Args:
        num_features: how many features there are.
        eps: keeps the division finite.
        momentum: the share of a batch in the running mean and variance; None: they are the plain mean over all batches.
        affine: learn weight and bias, one for each feature.
        track_running_stats: keep the running mean and variance; False normalises by the batch in evaluation, too.
        bias: learn a bias, if a weight is learned.
        device: the CPU, or left out.
        dtype: of the parameters and of the running mean and variance (float32).

    Shapes: input and output (N, num_features) or (N, num_features, L); ``weight``, ``bias``, ``running_mean`` and
    ``running_var`` (num_features,); ``num_batches_tracked`` (), int64.

    Raises:
        ShapeError: when called, if axis 1 of the input is not num_features.
        DataError: when called in training, for a batch of one row.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> layer = nn.BatchNorm1d(1)
        >>> layer(cr.tensor([[1.0], [3.0]])).tolist()
        [[-0.9999949932098389], [0.9999949932098389]]
        >>> layer.running_mean, layer.running_var
        (tensor([0.2000]), tensor([1.1000]))

    Source: Ioffe, Szegedy, "Batch normalization", ICML 2015.
    """

    _ranks: tuple[int, ...] = (2, 3)

    def __init__(
        self,
        num_features: int,
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
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise an input of shape (N, num_features, ...)."""
        input = self._checked(input, CHANNELS)
        kept = self.track_running_stats or not self.training
        mean, var = (self.running_mean, self.running_var) if kept else (None, None)
        by_batch = self.training or (mean is None and var is None)
        counter = self.num_batches_tracked if self.training and kept else None
        share = 0.0 if counter is None else self._share(counter)
        normal = F.batch_norm(input, mean, var, self.weight, self.bias, by_batch, share, self.eps)
        if counter is not None:
            with no_grad():
                counter.add_(1)
        return normal

    def _share(self, counter: Tensor) -> Factor:
        """That of the next batch in the running statistics."""
        return 1.0 / (counter.double() + 1) if self.momentum is None else self.momentum


class BatchNorm2d(BatchNorm1d):
    """`BatchNorm1d` for images: input and output (N, num_features, H, W), each channel normalised over rows and places."""

    _ranks = (4,)


class BatchNorm3d(BatchNorm1d):
    """`BatchNorm1d` for volumes: input and output (N, num_features, D, H, W)."""

    _ranks = (5,)


class InstanceNorm1d(_Running):
    """``(x - mean) / sqrt(var + eps) * weight + bias`` for each row's features, over its last axis.

    The formula: ``F.instance_norm``.

    Args:
        num_features: how many features (channels) there are.
        eps: keeps the division finite.
        momentum: the share of a batch in the running mean and variance.
        affine: learn weight and bias, one for each feature.
        track_running_stats: keep a running mean and variance, and normalise by them in evaluation.
        bias: learn a bias, if a weight is learned.
        device: the CPU, or left out.
        dtype: of the parameters and of the running mean and variance (float32).

    Shapes: input and output (N, num_features, L) or (num_features, L).

    Raises:
        ShapeError: when called, if the input has not num_features channels (PyTorch only warns where none are learned).
        DataError: when called, if L is 1.
    """

    _ranks: tuple[int, ...] = (2, 3)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, bias, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """Normalise an input of shape (N, num_features, ...) or (num_features, ...)."""
        input = self._checked(input, -self._ranks[0])
        own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        alone = input.ndim == self._ranks[0]
        rows = input.unsqueeze(0) if alone else input
        normal = F.instance_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, own, momentum, self.eps
        )
        return normal.squeeze(0) if alone else normal


class InstanceNorm2d(InstanceNorm1d):
    """`InstanceNorm1d` for images: input and output (N, num_features, H, W) or (num_features, H, W)."""

    _ranks = (3, 4)


class InstanceNorm3d(InstanceNorm1d):
    """`InstanceNorm1d` for volumes: input and output (N, num_features, D, H, W) or (num_features, D, H, W)."""

    _ranks = (4, 5)
