"""`Normal` at the address that PyTorch has it at."""

from chainrule.distributions.continuous import Normal as Normal
