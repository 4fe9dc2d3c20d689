"""chainrule: neural networks trained by backpropagation, compiled whole, explained in full."""

from chainrule import graph as graph
from chainrule.autodiff import (
    custom_vjp,
    grad,
    hessian,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)
from chainrule.compiler.compile import Compiled, compile
from chainrule.compiler.threads import get_num_threads, set_num_threads
from chainrule.dtypes import DType, as_dtype, float32, float64, int32, int64, uint8
from chainrule.dtypes import bool_ as bool
from chainrule.errors import ChainruleError
from chainrule.graph import is_grad_enabled
from chainrule.tensor import Tensor
from chainrule.tensor import functions as _functions
from chainrule.tensor.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)  # fmt: skip
from chainrule.tensor.functions import METHODS as _METHODS
from chainrule.tensor.functions import (
    cat,
    concat,
    concatenate,
    enable_grad,
    is_tensor,
    no_grad,
    set_grad_enabled,
    stack,
    where,
)  # fmt: skip
from chainrule.tensor.random import (
    Generator,
    bernoulli,
    default_generator,
    manual_seed,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
)  # fmt: skip

globals().update({name: getattr(_functions, name) for name in _METHODS})
__version__ = "0.1.0"
