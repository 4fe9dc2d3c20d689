"""MultiheadAttention: several attentions side by side, each over a part of the features."""

from __future__ import annotations

import math
from typing import Any

from chainrule import dtypes
from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import SettingError
from chainrule.graph import shape_error, who
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.attention import check_mask
from chainrule.nn.functional.layers import probability
from chainrule.nn.layers import Linear
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, zeros

NAME = "MultiheadAttention"


class MultiheadAttention(Module):
    """``concat(head_1, ..., head_h) W_o^T + b_o``, each head being ``attention(q W_q^T, k W_k^T, v W_v^T)`` of its own part.

    Args:
        embed_dim: features of queries and of the output.
        num_heads: how many parts they fall into, all of one size.
        dropout: while training, the share of weights dropped.
        bias: learn additive biases.
        add_bias_kv: only False.
        add_zero_attn: only False.
        kdim: features of keys, if others than embed_dim.
        vdim: features of values, if others than embed_dim.
        batch_first: input and output are (batch, steps, features), not (steps, batch, features).
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: query (L, N, embed_dim), key (S, N, kdim), value (S, N, vdim), or without N. Parameters are called and laid out
    as PyTorch's: ``in_proj_weight`` (3 embed_dim, embed_dim), or ``q_proj_weight``, ``k_proj_weight`` and ``v_proj_weight``
    where kdim or vdim are others; ``in_proj_bias``, ``out_proj.weight``, ``out_proj.bias``. The projections start as
    Xavier's uniform, their biases at 0.

    Raises:
        SettingError: num_heads does not divide embed_dim, or something that is not there yet.
        ShapeError: when called, if inputs or masks do not fit.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> x = cr.zeros(7, 2, 8)
        >>> output, weights = nn.MultiheadAttention(8, num_heads=2)(x, x, x)
        >>> output.shape, weights.shape
        ((7, 2, 8), (2, 7, 7))

    Source: Vaswani et al., "Attention is all you need", NeurIPS 2017.
    """

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False, *,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        on_cpu(device)
        super().__init__()
        self.embed_dim, self.num_heads = size(NAME, "embed_dim", embed_dim), size(NAME, "num_heads", num_heads)
        if not self.embed_dim or not self.num_heads or self.embed_dim % self.num_heads:
            raise SettingError(
                f"{NAME}: embed_dim must be a multiple of num_heads, and both at least 1, got embed_dim={self.embed_dim} and "
                f"num_heads={self.num_heads}. Change one of them."
            )
        for name, value in (("add_bias_kv", add_bias_kv), ("add_zero_attn", add_zero_attn)):
            if value:
                raise SettingError(f"{NAME}: {name}=True is not there yet. Leave it out.")
        self.bias, self.add_bias_kv, self.add_zero_attn = bool(bias), False, False
        self.dropout, self.batch_first = probability(NAME, dropout, "dropout"), bool(batch_first)
        self.kdim = self.embed_dim if kdim is None else size(NAME, "kdim", kdim)
        self.vdim = self.embed_dim if vdim is None else size(NAME, "vdim", vdim)
        wanted = float32 if dtype is None else as_dtype(dtype)
        rows, names = self.embed_dim, ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        together = self.kdim == self.vdim == self.embed_dim
        widths = (self.embed_dim, self.kdim, self.vdim)
        whole = Parameter(zeros(3 * rows, rows, dtype=wanted)) if together else None
        self.register_parameter("in_proj_weight", whole)
        for name, width in zip(names, widths, strict=True):
            self.register_parameter(name, None if together else Parameter(zeros(rows, width, dtype=wanted)))
        self.register_parameter("in_proj_bias", Parameter(zeros(3 * rows, dtype=wanted)) if bias else None)
        self.out_proj = Linear(rows, rows, bias=bias, dtype=wanted)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for weight in self._weights():
            init.xavier_uniform_(weight)
        self.out_proj.reset_parameters()
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)

    def _weights(self) -> list[Parameter]:
        if self.in_proj_weight is not None:
            return [self.in_proj_weight]
        return [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None, need_weights: bool = True,
        attn_mask: Tensor | None = None, average_attn_weights: bool = True, is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """The output, and the weights (N, L, S), the mean over all heads or (N, num_heads, L, S); None if not needed.

        Args:
            query, key, value: as said above.
            key_padding_mask: (N, S); True where a key is none, or numbers that are added to the scores.
            need_weights: give the weights; without them long sequences take much less memory and time.
            attn_mask: (L, S) or (N num_heads, L, S); True where a query may NOT look, or numbers that are added.
            average_attn_weights: the mean over the heads.
            is_causal: a hint that attn_mask is causal, which it must be; it changes nothing.
        """
        if is_causal and attn_mask is None:
            raise SettingError(f"{who(NAME)}: is_causal is a hint about attn_mask, which was left out. Pass the mask.")
        inputs = [given(x, NAME, what) for x, what in ((query, "query"), (key, "key"), (value, "value"))]
        alone = inputs[0].ndim == 2
        self._check(inputs)
        q, k, v = (self._heads(x, alone) for x in self._projected(inputs))
        mask = self._mask(q, k, key_padding_mask, attn_mask, alone)
        share = self.dropout if self.training else 0.0
        if need_weights:
            scores = q @ k.mT * (1 / math.sqrt(q.shape[-1]))
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), share)
            mixed, shown = weights @ v, weights.mean(1) if average_attn_weights else weights
        else:
            mixed, shown = F.scaled_dot_product_attention(q, k, v, mask, share), None
        together = mixed.permute(0, 2, 1, 3).reshape(mixed.shape[0], mixed.shape[2], self.embed_dim)
        output = self.out_proj(together)
        if alone:
            return output.squeeze(0), None if shown is None else shown.squeeze(0)
        return (output if self.batch_first else output.permute(1, 0, 2)), shown

    def _check(self, inputs: list[Tensor]) -> None:
        q, k, v = (x.shape for x in inputs)
        batch = 0 if self.batch_first else 1
        fits = len(q) == len(k) == len(v) and len(q) in (2, 3)
        fits = fits and (q[-1], k[-1], v[-1]) == (self.embed_dim, self.kdim, self.vdim) and k[:-1] == v[:-1]
        if not fits or (len(q) == 3 and q[batch] != k[batch]):
            axes = "(batch, steps, features)" if self.batch_first else "(steps, batch, features)"
            raise shape_error(
                NAME, f"query, key and value must be {axes} or (steps, features), with embed_dim={self.embed_dim}, "
                f"kdim={self.kdim} and vdim={self.vdim} features, and a value for each key", f"shapes {q}, {k} and {v}",
                "Reshape them, or change the sizes of the layer.",
            )  # fmt: skip

    def _projected(self, inputs: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values for all heads together."""
        weights = list(self.in_proj_weight.chunk(3)) if self.in_proj_weight is not None else self._weights()
        biases = [None] * 3 if self.in_proj_bias is None else list(self.in_proj_bias.chunk(3))
        return [F.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True)]

    def _heads(self, x: Tensor, alone: bool) -> Tensor:
        """(batch, heads, steps, features of each)."""
        x = x.unsqueeze(0) if alone else x if self.batch_first else x.permute(1, 0, 2)
        return x.reshape(*x.shape[:2], self.num_heads, self.embed_dim // self.num_heads).permute(0, 2, 1, 3)

    def _mask(
        self, q: Tensor, k: Tensor, padding: Tensor | None, attention: Tensor | None, alone: bool
    ) -> Tensor | None:
        """What is added to the scores (batch, heads, L, S)."""
        batch, heads, rows, columns = *q.shape[:3], k.shape[2]
        found = None
        if attention is not None:
            found = _added(
                given(attention, NAME, "attn_mask"), q, "attn_mask", [(rows, columns), (batch * heads, rows, columns)]
            )
            if found.ndim == 3:
                found = found.reshape(batch, heads, rows, columns)
        if padding is not None:
            wanted = (columns,) if alone else (batch, columns)
            more = _added(given(padding, NAME, "key_padding_mask"), q, "key_padding_mask", [wanted])
            more = more.reshape(batch, 1, 1, columns)
            found = more if found is None else found + more
        return found

    def extra_repr(self) -> str:
        text = f"{self.embed_dim}, {self.num_heads}" + f", dropout={self.dropout}" * bool(self.dropout)
        for name in ("kdim", "vdim"):
            text += f", {name}={getattr(self, name)}" * (getattr(self, name) != self.embed_dim)
        return text + ", bias=False" * (not self.bias) + ", batch_first=True" * self.batch_first


def _added(mask: Tensor, q: Tensor, what: str, shapes: list[tuple[int, ...]]) -> Tensor:
    """A mask as numbers to be added: -inf where it is True."""
    if mask.shape not in shapes:
        wanted = " or ".join(map(str, dict.fromkeys(shapes)))
        raise shape_error(NAME, f"{what} must have the shape {wanted}", f"{mask.shape}", "Reshape or expand it.")
    if mask.dtype is dtypes.bool_:
        return zeros(mask.shape, dtype=q.dtype).masked_fill(mask, -math.inf)
    check_mask(NAME, what, mask, q.dtype)
    return mask
