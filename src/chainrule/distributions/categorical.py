"""`Categorical` at the address that PyTorch has it at."""

from chainrule.distributions.discrete import Categorical as Categorical
