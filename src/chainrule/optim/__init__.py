"""Optimizers and learning-rate schedules, with PyTorch's names."""

from chainrule.errors import unknown_name
from chainrule.names import classes_take_keywords, module_getattr, takes_keywords
from chainrule.optim import lr_scheduler, swa_utils
from chainrule.optim.adagrad import Adadelta, Adagrad
from chainrule.optim.adam import Adam, AdamW
from chainrule.optim.kin import Adamax, NAdam, RAdam
from chainrule.optim.lbfgs import BY_ITSELF, LBFGS
from chainrule.optim.optimizer import Optimizer
from chainrule.optim.rmsprop import RMSprop
from chainrule.optim.rprop import Rprop
from chainrule.optim.sgd import SGD

OPTIMIZERS: dict[str, type[Optimizer]] = {
    cls.__name__.lower(): cls for cls in (SGD, Adam, AdamW, RMSprop, Adagrad, Adadelta, Adamax, NAdam, RAdam, Rprop)
}


@takes_keywords("optim")
def by_name(name: str) -> type[Optimizer]:
    """The class of an optimizer, by its name in lower case.

    Raises:
        UnknownNameError: with the nearest names.

    Example:
        >>> from chainrule import optim
        >>> optim.by_name("adam")
        <class 'chainrule.optim.adam.Adam'>
    """
    found = OPTIMIZERS.get(str(name).lower())
    if found is None:
        alone = str(name).lower() == "lbfgs"
        raise unknown_name("optimizer", name, list(OPTIMIZERS), BY_ITSELF if alone else "")
    return found


__all__ = [
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "by_name",
    "lr_scheduler",
    "swa_utils",
]

classes_take_keywords("optim", [*OPTIMIZERS.values(), LBFGS])
__getattr__ = module_getattr("optim", __name__)
