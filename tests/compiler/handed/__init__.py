"""Ways in which Python hands a value to a function, each with a change that eager code sees at once."""

from tests.compiler.handed import (  # noqa: F401 - they enter their cases
    attributes,
    buffers,
    containers,
    functions,
    library,
    names,
    process,
    statements,
)  # fmt: skip
from tests.compiler.handed.cases import CASES as CASES
