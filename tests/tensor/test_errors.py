"""Bad input to tensors: the full text of each error."""

import inspect
import re

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import DtypeError, IndexRangeError, ShapeError

z = cr.zeros
HERE = r"\(test_errors\.py:\d+ in <lambda>\)"

CASES = [
    (lambda: z(3, 4) @ z(5, 6), ShapeError, "matmul HERE: the inner sizes must be equal, got (3, 4) @ (5, 6). Transpose one factor (.mT), or check the number of features."),
    (lambda: z(3, 4) + z(5), ShapeError, "add HERE: the shapes must broadcast (equal sizes, or 1, from the last axis backwards), got (3, 4) and (5,). Reshape or expand one of them so that the axes line up."),
    (lambda: z(3, 4).reshape(5, 2), ShapeError, "reshape HERE: the new shape must hold all 12 elements of (3, 4), got (5, 2) with 10. Use -1 for one axis to have its size computed."),
    (lambda: z(3, 4).reshape(-1, 5), ShapeError, "reshape HERE: -1 must stand for a whole number of elements of (3, 4), got (-1, 5). 12 elements do not divide by 5; change the other sizes."),
    (lambda: cr.cat([z(3, 4), z(3, 5)], 0), ShapeError, "cat HERE: all shapes must agree except on axis 0, got (3, 4) and (3, 5). Reshape the odd one, or join along another axis."),
    (lambda: z(3, 4).expand(3, 5), ShapeError, "expand HERE: (3, 4) must broadcast to the new shape (only axes of size 1 grow), got (3, 5). Check the order of the axes, or unsqueeze first."),
    (lambda: z(3).sum(2), IndexRangeError, "sum HERE: dim must be in [-1, 0] for a tensor with 1 axes, got 2. Check the shape."),
    (lambda: z(2).bool() & z(2), DtypeError, "bitwise_and HERE: works on integers and bool, got float32. Compare first, or convert with .bool() or .long()."),
    (lambda: z(3)[5], IndexRangeError, "index HERE: index 5 is out of range for axis 0 of size 3: it must be in [-3, 2]. Check the indices (labels start at 0)."),
    (lambda: z(3)[cr.tensor([0, 3])], IndexRangeError, "index HERE: index 3 is out of range for axis 0 of size 3: it must be in [-3, 2]. Check the indices (labels start at 0)."),
    (lambda: z(3)[cr.tensor([0.0])], DtypeError, "index HERE: indices must be integers, or a bool mask with axes, got f32[1]. Convert with .long()."),
    (lambda: cr.tensor("a"), DtypeError, "tensor HERE: the data must be numbers that fit one of chainrule's dtypes, got <U1 from str. Convert text or objects to numbers first."),
    (lambda: z(2, dtype="complex64"), DtypeError, "unknown dtype 'complex64'. chainrule has bool, uint8, int32, int64, bfloat16, float32, float64: convert the data to one of them."),
    (lambda: z(2).item(), ShapeError, "item HERE: only a tensor with one element is a Python number, got shape (2,). Use .tolist(), or reduce it first."),
    (lambda: cr.tensor([1], requires_grad=True), DtypeError, "requires_grad_: only floating-point tensors have gradients, got int64. Convert it with .float() first."),
    (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(5, 2))(z(2, 6)), ShapeError, "Linear '2' (in_features=5): the last axis of its input must be 5, got shape (2, 4). Make in_features=4, or change what comes before this layer. HERE"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "kind", "text"), CASES, ids=[text.split(":")[0] + str(i) for i, (_, _, text) in enumerate(CASES)]
)
def test_the_full_text(call, kind, text):
    with pytest.raises(kind, match=f"^{re.escape(text).replace('HERE', HERE)}$"):
        call().tolist()  # recorded, an error about a value comes where it is asked for


def test_pythons_errors_about_arguments_name_the_tensor():
    x = cr.ones(2)
    for name in dir(cr.Tensor):
        if name.startswith("_") or not callable(inspect.getattr_static(cr.Tensor, name)):
            continue
        with pytest.raises(TypeError, match=r"^Tensor\.\w+\(\) got an unexpected keyword argument 'wrong'"):
            getattr(x, name)(wrong=1)
