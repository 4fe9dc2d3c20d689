"""Sequences of several lengths without their padding: step after step, the entries of those that are still going on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import SettingError, TraceError
from chainrule.graph import shape_error
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.creation import as_tensor, full, given
from chainrule.tensor.functions import cat, where

Array = np.ndarray[Any, Any]


class _Fields(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(_Fields):
    """What `pack_padded_sequence` gives and recurrent layers take, for `pad_packed_sequence` to undo.

    Attributes:
        data: (sum of the lengths, *): the first entries of all sequences, longest first, then the second entries...
        batch_sizes: int64 (T,): how many sequences have a first entry, a second one...
        sorted_indices, unsorted_indices: int64 (B,): the sequences by falling length, and where each stands among those;
            None where they came in that order.
    """

    def __new__(
        cls, data: Any, batch_sizes: Tensor | None = None, sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:  # fmt: skip
        if batch_sizes is None:
            data, batch_sizes = data
        assert batch_sizes is not None
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._counts: tuple[int, ...] | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """The batch sizes as numbers."""
        return tuple(self.batch_sizes.tolist()) if self._counts is None else self._counts

    def with_data(self, data: Tensor) -> PackedSequence:
        """Other entries of the same sequences."""
        found = PackedSequence(data, self.batch_sizes, self.sorted_indices, self.unsorted_indices)
        found._counts = self._counts
        return found

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The entries in another dtype, as ``Tensor.to`` has it."""
        return self.with_data(self.data.to(*args, **kwargs))

    def cpu(self) -> PackedSequence:
        """Itself: everything is there."""
        return self

    def double(self) -> PackedSequence:
        """The entries as float64."""
        return self.with_data(self.data.double())

    def float(self) -> PackedSequence:
        """The entries as float32."""
        return self.with_data(self.data.float())

    def long(self) -> PackedSequence:
        """The entries as int64."""
        return self.with_data(self.data.long())

    @property
    def is_cuda(self) -> bool:
        """False."""
        return False

    # -- steps and rows ----------------------------------------------------------------------------------------

    def going_on(self) -> Array:
        """Has each sequence, by falling length, an entry at each step? bool (T, B)."""
        counts = np.asarray(self.counts)
        found: Array = np.arange(counts[0]) < counts[:, None]
        return found

    def rows(self) -> Tensor:
        """The entries by step and sequence, (T, B, *); where there is none, some other."""
        going = self.going_on()
        places = np.where(going, np.cumsum(going.reshape(-1)).reshape(going.shape) - 1, 0)
        return self.data[as_tensor(places)]

    def packed(self, rows: Tensor) -> PackedSequence:
        """From (T, B, *) to the entries that there are."""
        places = np.flatnonzero(self.going_on())
        return self.with_data(rows.reshape(-1, *rows.shape[2:])[as_tensor(places)])


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """Where each number stands in a permutation of 0, 1, ...; None of None."""
    return None if permutation is None else permutation.argsort()


@takes_keywords("rnn")
def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Leave the padding of a batch out, so that recurrent layers end with the last entry of each sequence.

    Args:
        input: (T, B, *), or (B, T, *) with `batch_first`.
        lengths: how many entries of each are no padding, 1 to T; numbers, or a tensor that is not traced.
        batch_first: see there.
        enforce_sorted: the lengths fall; set it to False where they come in any order.

    Raises:
        ShapeError: a number of lengths other than B.
        SettingError: a length below 1 or above T, or lengths that do not fall where they must.
        TraceError: lengths that are a tensor inside ``cr.compile``, and are traced: pass a list.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
        >>> packed = pack_padded_sequence(cr.tensor([[1, 2, 3], [4, 0, 0]]), [3, 1], batch_first=True)
        >>> packed.data, packed.batch_sizes
        (tensor([1, 4, 2, 3]), tensor([2, 1, 1]))
        >>> pad_packed_sequence(packed, batch_first=True)
        (tensor([[1, 2, 3],
                [4, 0, 0]]), tensor([3, 1]))
    """
    rows = given(input, "pack_padded_sequence")
    if rows.ndim < 2:
        raise shape_error(
            "pack_padded_sequence",
            "the input must have steps and a batch as axes",
            f"shape {rows.shape}",
            "Reshape it.",
        )
    rows = rows.transpose(0, 1) if batch_first else rows
    known = np.asarray(numbers_of(lengths, "pack_padded_sequence"), np.int64)
    _check_lengths(known, rows.shape[0], rows.shape[1], enforce_sorted)
    order = None
    if not enforce_sorted:
        order = as_tensor(np.argsort(-known, kind="stable"))
        rows, known = rows.index_select(1, order), np.sort(known)[::-1]
    counts = (known > np.arange(known[0])[:, None]).sum(1)
    found = PackedSequence(rows, as_tensor(counts), order)
    found._counts = tuple(counts.tolist())
    return found.packed(rows[: len(counts)])


def numbers_of(lengths: Tensor | Sequence[int], who: str) -> list[int]:
    """Lengths as numbers.

    Raises:
        TraceError: they are traced, and have no value yet.
    """
    try:
        return list(lengths.tolist()) if isinstance(lengths, Tensor) else [int(length) for length in lengths]
    except TraceError:
        raise TraceError(
            f"{who}: lengths must be numbers inside cr.compile, since what is computed hangs on them, got a traced tensor. Pass "
            f"the compiled function a list, lengths.tolist(); it is compiled anew for each list of other lengths."
        ) from None


def _check_lengths(lengths: Array, longest: int, sequences: int, must_fall: bool) -> None:
    if lengths.shape != (sequences,):
        raise shape_error(
            "pack_padded_sequence", f"there must be a length for each of {sequences} sequences", f"{lengths.size}",
            "Give one for each; with (B, T, *), set batch_first=True.",
        )  # fmt: skip
    if not sequences or lengths.min() < 1 or lengths.max() > longest:
        raise SettingError(
            f"pack_padded_sequence: lengths must be from 1 to {longest}, the steps of the input, got {lengths.tolist()}."
        )
    if must_fall and (np.diff(lengths) > 0).any():
        raise SettingError(
            f"pack_padded_sequence: lengths must fall, got {lengths.tolist()}. Set enforce_sorted=False for sequences in any order."
        )


@takes_keywords("rnn")
def pad_packed_sequence(
    sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
) -> tuple[Tensor, Tensor]:
    """The batch with its padding, and the lengths: what `pack_padded_sequence` was given.

    Args:
        sequence: what a recurrent layer gave.
        batch_first: give (B, T, *) in place of (T, B, *).
        padding_value: what stands where a sequence has ended.
        total_length: so many steps, at least as many as there are.

    Returns:
        (batch, lengths), the lengths int64 (B,).

    Raises:
        SettingError: no packed sequence, or too small a `total_length`.
    """
    if not isinstance(sequence, PackedSequence):
        raise SettingError(f"pad_packed_sequence: needs a PackedSequence, got {type(sequence).__name__}.")
    going = sequence.going_on()
    steps = len(going)
    if total_length is not None and total_length < steps:
        raise SettingError(
            f"pad_packed_sequence: total_length must be at least {steps}, the steps of the longest, got {total_length}."
        )
    rows = sequence.rows()
    there = as_tensor(going.reshape(*going.shape, *[1] * (rows.ndim - 2)))
    rows = where(there, rows, full((), padding_value, dtype=rows.dtype))
    if total_length is not None and total_length > steps:
        more = full((total_length - steps, *rows.shape[1:]), padding_value, dtype=rows.dtype)
        rows = cat([rows, more])
    lengths = as_tensor(going.sum(0).astype(np.int64))
    if sequence.unsorted_indices is not None:
        rows, lengths = rows.index_select(1, sequence.unsorted_indices), lengths[sequence.unsorted_indices]
    return (rows.transpose(0, 1) if batch_first else rows), lengths
