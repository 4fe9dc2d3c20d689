"""What data must be before a network may train on it."""

import numpy as np
import pytest

from chainrule.data.checks import as_labels
from chainrule.errors import DataError


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", ">i4", "u1", "u8"])
@pytest.mark.parametrize("classes", [3, 100, 300, 2**40])
def test_labels_are_looked_at_in_the_dtype_that_came(dtype, classes):
    last = min(classes, np.iinfo(dtype).max + 1) - 1
    assert as_labels(np.array([0, last], dtype), classes, "y").tolist() == [0, last]
    outside = [
        value for value in (-1, np.iinfo(dtype).min, classes) if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    ]
    for value in set(outside) - {0}:
        with pytest.raises(DataError, match=" at row 1 "):
            as_labels(np.array([0, value], dtype), classes, "y")
