"""Windows of images as columns, and columns added up to images: what a convolution is, seen as a product."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.graph import shape_error
from chainrule.names import takes_keywords
from chainrule.nn.functional.convolution import each
from chainrule.nn.functional.layers import pad
from chainrule.ops.shaping import fold as folded
from chainrule.ops.shaping import places
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given

Size = int | Sequence[int]
Pair = tuple[int, ...]


def _counts(name: str, image: Pair, size: Pair, dilation: Pair, padding: Pair, stride: Pair) -> Pair:
    """How many windows lie in each axis of an image."""
    found = tuple(
        places(have + 2 * border, window, step, apart)
        for have, window, apart, border, step in zip(image, size, dilation, padding, stride, strict=True)
    )
    if min(found) < 1:
        raise shape_error(
            name, f"a window, with its dilation, must fit in the image with its padding, {image}", f"kernel_size {size}",
            "Take smaller windows, or more padding.",
        )  # fmt: skip
    return found


@takes_keywords("functional")
def unfold(input: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Tensor:
    """The windows of images, each as a column: ``F.conv2d`` is a product with them.

    Args:
        input: (N, C, H, W), or (C, H, W).
        kernel_size: of a window; one number, or one for each of height and width, as all of these.
        dilation: how far elements of a window are apart.
        padding: zeros around the images.
        stride: how far windows are apart.

    Returns:
        (N, C * windows' elements, number of windows), or without N: the elements of one channel after the other, row by row.

    Raises:
        ShapeError: another number of axes, or a window that does not fit.
        SettingError: a size that cannot be.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.unfold(cr.arange(9.0).reshape(1, 3, 3), 2)
        tensor([[0., 1., 3., 4.],
                [1., 2., 4., 5.],
                [3., 4., 6., 7.],
                [4., 5., 7., 8.]])
    """
    x = given(input, "unfold")
    if x.ndim not in (3, 4):
        raise shape_error("unfold", "the input must be (N, C, H, W) or (C, H, W)", f"shape {x.shape}", "Reshape it.")
    images = x if x.ndim == 4 else x.unsqueeze(0)
    size, apart, border, step = (
        each("unfold", name, value, 2, least)
        for name, value, least in (
            ("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1)
        )
    )  # fmt: skip
    counts = _counts("unfold", images.shape[2:], size, apart, border, step)
    if any(border):
        images = pad(images, (border[1], border[1], border[0], border[0]))
    for axis in (0, 1):
        images = images._unfold(2 + axis, size[axis], step[axis], apart[axis])
    columns = images.permute((0, 1, 4, 5, 2, 3)).reshape(
        (images.shape[0], images.shape[1] * size[0] * size[1], counts[0] * counts[1])
    )
    return columns if x.ndim == 4 else columns.squeeze(0)


@takes_keywords("functional")
def fold(
    input: Tensor, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """Images whose elements are sums over the windows that they lie in: the transpose of `unfold`, and not its inverse.

    Args:
        input: (N, C * windows' elements, number of windows), or without N.
        output_size: height and width of the images.
        kernel_size, dilation, padding, stride: as for `unfold`.

    Returns:
        (N, C, H, W), or (C, H, W).

    Raises:
        ShapeError: another number of axes, of elements or of windows, or a window that does not fit.
        SettingError: a size that cannot be.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.fold(cr.ones(4, 4), (3, 3), 2)
        tensor([[[1., 2., 1.],
                 [2., 4., 2.],
                 [1., 2., 1.]]])
    """
    x = given(input, "fold")
    size, apart, border, step, image = (
        each("fold", name, value, 2, least)
        for name, value, least in (
            ("kernel_size", kernel_size, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1),
            ("output_size", output_size, 1),
        )
    )  # fmt: skip
    window, counts = size[0] * size[1], _counts("fold", image, size, apart, border, step)
    if x.ndim not in (2, 3) or x.shape[-2] % window or x.shape[-1] != counts[0] * counts[1]:
        raise shape_error(
            "fold",
            f"the input must be (N, C * {window}, {counts[0] * counts[1]}) or without N: {counts[0]} x {counts[1]} windows of "
            f"{size[0]} x {size[1]} elements",
            f"shape {x.shape}", "Give what F.unfold gives with the same sizes.",
        )  # fmt: skip
    columns = x if x.ndim == 3 else x.unsqueeze(0)
    y = columns.reshape((columns.shape[0], columns.shape[1] // window, *size, *counts)).permute((0, 1, 4, 5, 2, 3))
    for axis in (1, 0):
        y = folded(y, image[axis] + 2 * border[axis], 2 + axis, size[axis], step[axis], apart[axis])
    if any(border):
        y = y[:, :, border[0] : border[0] + image[0], border[1] : border[1] + image[1]]
    return y if x.ndim == 3 else y.squeeze(0)
