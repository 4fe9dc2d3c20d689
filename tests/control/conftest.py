"""The fixtures of the compiler's tests."""

from tests.compiler.conftest import everything_divided as everything_divided
from tests.compiler.conftest import free as free
