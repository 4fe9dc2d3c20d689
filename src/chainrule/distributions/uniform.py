"""`Uniform` at the address that PyTorch has it at."""

from chainrule.distributions.continuous import Uniform as Uniform
