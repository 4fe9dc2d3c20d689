"""Sequences of several lengths as one tensor, under PyTorch's address, ``nn.utils.rnn``."""

from __future__ import annotations

from collections.abc import Iterable

from chainrule.errors import SettingError
from chainrule.graph import shape_error
from chainrule.names import module_getattr, takes_keywords
from chainrule.nn.packed import (
    PackedSequence,
    invert_permutation,
    numbers_of,
    pack_padded_sequence,
    pad_packed_sequence,
)
from chainrule.tensor import Tensor
from chainrule.tensor.creation import full
from chainrule.tensor.functions import cat, stack

__all__ = [
    "PackedSequence",
    "invert_permutation",
    "pack_padded_sequence",
    "pack_sequence",
    "pad_packed_sequence",
    "pad_sequence",
    "unpack_sequence",
    "unpad_sequence",
]


@takes_keywords("rnn")
def pad_sequence(
    sequences: Tensor | Iterable[Tensor], batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:  # fmt: skip
    """Sequences of several lengths, each filled up to the longest.

    Args:
        sequences: each of shape (L, *), of one dtype, L being its own.
        batch_first: give (B, T, *) in place of (T, B, *), T being the longest.
        padding_value: what to fill up with.
        padding_side: ``"right"``, behind each sequence, or ``"left"``, in front of it.

    Raises:
        SettingError: no sequence, or another side.
        ShapeError: sequences that differ in more than their lengths.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.utils.rnn.pad_sequence([cr.tensor([1, 2]), cr.tensor([3])], batch_first=True)
        tensor([[1, 2],
                [3, 0]])
    """
    if padding_side not in ("right", "left"):
        raise SettingError(f"pad_sequence: padding_side must be 'right' or 'left', got {padding_side!r}.")
    several = list(sequences)
    if not several:
        raise SettingError("pad_sequence: there must be at least one sequence, got none.")
    for one in several:
        if not one.ndim or one.shape[1:] != several[0].shape[1:]:
            raise shape_error(
                "pad_sequence", "sequences must have a first axis, their length, and the same others",
                f"{several[0].shape} and {one.shape}", "Reshape them.",
            )  # fmt: skip
    longest = max(len(one) for one in several)
    return stack(
        [_filled(one, longest, padding_value, padding_side == "left") for one in several], 0 if batch_first else 1
    )


def _filled(sequence: Tensor, length: int, value: float, left: bool) -> Tensor:
    missing = length - len(sequence)
    if not missing:
        return sequence
    filling = full((missing, *sequence.shape[1:]), value, dtype=sequence.dtype)
    return cat([filling, sequence] if left else [sequence, filling])


@takes_keywords("rnn")
def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences that `pad_sequence` filled up behind.

    Args:
        padded_sequences: (T, B, *), or (B, T, *) with `batch_first`.
        lengths: how long each is, shape (B,).

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.utils.rnn.unpad_sequence(cr.tensor([[1, 2], [3, 0]]), cr.tensor([2, 1]), batch_first=True)
        [tensor([1, 2]), tensor([3])]
    """
    rows = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    if tuple(lengths.shape) != rows.shape[:1]:
        raise shape_error(
            "unpad_sequence",
            f"there must be a length for each of {len(rows)} sequences",
            f"{lengths.shape}",
            "Give one for each.",
        )
    return [rows[number][:length] for number, length in enumerate(numbers_of(lengths, "unpad_sequence"))]


@takes_keywords("rnn")
def pack_sequence(sequences: Iterable[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Sequences of several lengths, each (L, *), packed: see `pack_padded_sequence`.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.utils.rnn.pack_sequence([cr.tensor([1, 2]), cr.tensor([3])]).data
        tensor([1, 3, 2])
    """
    several = list(sequences)
    return pack_padded_sequence(pad_sequence(several), [len(one) for one in several], enforce_sorted=enforce_sorted)


@takes_keywords("rnn")
def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences, each (L, *), in the order in which they were packed.

    Example:
        >>> import chainrule as cr
        >>> from chainrule.nn.utils.rnn import pack_sequence, unpack_sequence
        >>> unpack_sequence(pack_sequence([cr.tensor([3]), cr.tensor([1, 2])], enforce_sorted=False))
        [tensor([3]), tensor([1, 2])]
    """
    rows, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return [row[:length] for row, length in zip(rows, lengths.tolist(), strict=True)]


__getattr__ = module_getattr("rnn", __name__)
