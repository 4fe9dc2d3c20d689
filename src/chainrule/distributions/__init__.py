"""``torch.distributions``'s names: distributions to draw from, with their log-probabilities, entropies and divergences."""

from chainrule.distributions.continuous import Beta as Beta
from chainrule.distributions.continuous import Cauchy as Cauchy
from chainrule.distributions.continuous import Exponential as Exponential
from chainrule.distributions.continuous import Gumbel as Gumbel
from chainrule.distributions.continuous import HalfNormal as HalfNormal
from chainrule.distributions.continuous import Laplace as Laplace
from chainrule.distributions.continuous import LogNormal as LogNormal
from chainrule.distributions.continuous import Normal as Normal
from chainrule.distributions.continuous import Uniform as Uniform
from chainrule.distributions.discrete import Bernoulli as Bernoulli
from chainrule.distributions.discrete import Categorical as Categorical
from chainrule.distributions.discrete import Geometric as Geometric
from chainrule.distributions.discrete import OneHotCategorical as OneHotCategorical
from chainrule.distributions.discrete import Poisson as Poisson
from chainrule.distributions.distribution import Distribution as Distribution
from chainrule.distributions.distribution import Independent as Independent
from chainrule.distributions.divergence import kl_divergence as kl_divergence
from chainrule.distributions.divergence import register_kl as register_kl
from chainrule.names import module_getattr

# PyTorch's addresses of single distributions, which it imports with this one.
_LATER = {name: f"{__name__}.{name}" for name in ("bernoulli", "categorical", "normal", "uniform")}
__getattr__ = module_getattr("distributions", __name__, _LATER)
