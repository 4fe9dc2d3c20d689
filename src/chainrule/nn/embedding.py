"""A learned vector for each category, one by one or bags of them together."""

from __future__ import annotations

from typing import Any, TypeVar

from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import unknown_name
from chainrule.graph import shape_error
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.embedding import MODES, padding_row, refuse_absent
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, zeros
from chainrule.tensor.functions import no_grad

Self = TypeVar("Self", bound="Embedding")
SelfBag = TypeVar("SelfBag", bound="EmbeddingBag")


class _Table(Module):
    """A learned vector for each category."""

    weight: Parameter

    def _make(self, rows: Any, width: Any, padding_idx: int | None, weight: Any, freeze: bool, dtype: Any) -> None:
        name = type(self).__name__
        self.num_embeddings, self.embedding_dim = size(name, "num_embeddings", rows), size(name, "embedding_dim", width)
        self.padding_idx = padding_row(name, padding_idx, self.num_embeddings)
        shape = (self.num_embeddings, self.embedding_dim)
        if weight is None:
            start = zeros(*shape, dtype=float32 if dtype is None else as_dtype(dtype))
        else:
            start = _fitting(name, weight, shape)
        self.weight = Parameter(start, requires_grad=not freeze)
        if weight is None:
            self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the table anew; the padding's row is 0."""
        init.normal_(self.weight)
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx] = 0.0

    def _held(self) -> dict[str, Any]:
        return {} if self.padding_idx is None else {"weight": self.padding_idx}


class Embedding(_Table):
    """``y[...] = weight[x[...]]``: a learned vector for each category; see ``F.embedding``.

    Args:
        num_embeddings: how many categories there are; they are numbered from 0.
        embedding_dim: the length of their vectors.
        padding_idx: a category whose vector starts at 0 and is not learned; negative counts from the end.
        max_norm, norm_type, scale_grad_by_freq, sparse: PyTorch's; only their defaults are there.
        device: the CPU, or left out.
        dtype: of the parameter (float32).

    Shapes: input (...) of integers, output (..., embedding_dim), ``weight`` (num_embeddings, embedding_dim), which
    starts normal with mean 0 and standard deviation 1, as PyTorch's does.

    Raises:
        SettingError: a size that is no whole number, padding_idx outside the table, a setting that is not there.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.Embedding(10, 3)(cr.tensor([[1, 2], [9, 0]])).shape
        (2, 2, 3)
    """

    weight: Parameter

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__()
        refuse_absent("Embedding", max_norm, scale_grad_by_freq, sparse)
        self._make(num_embeddings, embedding_dim, padding_idx, _weight, _freeze, dtype)

    def forward(self, input: Tensor) -> Tensor:
        """The vectors of the categories that the input names."""
        return F.embedding(input, self.weight, self.padding_idx)

    @classmethod
    def from_pretrained(
        cls: type[Self],
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """An Embedding that starts from a table, which it shares, and keeps it as it is unless ``freeze=False``.

        Args:
            embeddings: the table, shape (num_embeddings, embedding_dim), floating.
            freeze: do not learn it.
            padding_idx and the rest: as for ``Embedding``.

        Raises:
            ShapeError: the table has not two axes.

        Example:
            >>> import chainrule as cr
            >>> from chainrule import nn
            >>> nn.Embedding.from_pretrained(cr.tensor([[1.0, 2.0], [3.0, 4.0]]))(cr.tensor([1]))
            tensor([[3., 4.]])
        """
        table = _as_table("Embedding", embeddings)
        rows, width = table.shape
        return cls(rows, width, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, table, freeze)

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}{padding}"


class EmbeddingBag(_Table):
    """The mean, sum or maximum of the vectors of each bag of categories; see ``F.embedding_bag``.

    Args:
        num_embeddings: how many categories there are; they are numbered from 0.
        embedding_dim: the length of their vectors.
        max_norm, norm_type, scale_grad_by_freq, sparse: PyTorch's; only their defaults are there.
        mode: "mean", "sum" or "max".
        include_last_offset: one offset more says where the last bag ends.
        padding_idx: a category that counts for nothing; its vector starts at 0 and is not learned.
        device: the CPU, or left out.
        dtype: of the parameter (float32).

    Shapes: input (B, N), or (N,) with offsets (B,), integers; output (B, embedding_dim); ``weight`` as for ``Embedding``.

    Raises:
        SettingError: a size that is no whole number, padding_idx outside the table, a setting that is not there.
        UnknownNameError: another mode.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.EmbeddingBag(10, 3)(cr.tensor([[1, 2], [9, 0]])).shape
        (2, 3)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        on_cpu(device)
        super().__init__()
        refuse_absent("EmbeddingBag", max_norm, scale_grad_by_freq, sparse)
        if mode not in MODES:
            raise unknown_name("mode of EmbeddingBag", mode, MODES)
        self.mode, self.include_last_offset = mode, include_last_offset
        self._make(num_embeddings, embedding_dim, padding_idx, _weight, False, dtype)

    def forward(self, input: Tensor, offsets: Tensor | None = None, per_sample_weights: Tensor | None = None) -> Tensor:
        """The vectors of the bags, together."""
        options: dict[str, Any] = {"include_last_offset": self.include_last_offset, "padding_idx": self.padding_idx}
        weights = {"per_sample_weights": per_sample_weights, **options}
        return F.embedding_bag(input, self.weight, offsets, mode=self.mode, **weights)

    @classmethod
    def from_pretrained(
        cls: type[SelfBag],
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> SelfBag:
        """An EmbeddingBag that starts from a table, which it shares, and keeps it as it is unless ``freeze=False``.

        Arguments as for ``Embedding.from_pretrained`` and ``EmbeddingBag``.
        """
        table = _as_table("EmbeddingBag", embeddings)
        rows, width = table.shape
        options: Any = (max_norm, norm_type, scale_grad_by_freq, mode, sparse, table, include_last_offset, padding_idx)
        made = cls(rows, width, *options)
        made.weight.requires_grad_(not freeze)
        return made

    def extra_repr(self) -> str:
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        return f"{self.num_embeddings}, {self.embedding_dim}, mode={self.mode!r}{padding}"


def _as_table(name: str, embeddings: Any) -> Tensor:
    table = given(embeddings, f"{name}.from_pretrained", "embeddings")
    if table.ndim != 2:
        raise shape_error(
            f"{name}.from_pretrained", "embeddings must have shape (num_embeddings, embedding_dim)",
            f"shape {table.shape}", "Give a table with a row for each category.",
        )  # fmt: skip
    return table


def _fitting(name: str, weight: Any, shape: tuple[int, int]) -> Tensor:
    table = given(weight, name, "_weight")
    if table.shape != shape:
        raise shape_error(
            name, f"_weight must have shape {shape}", f"shape {table.shape}", "Give the sizes of the table."
        )
    return table
