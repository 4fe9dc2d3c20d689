"""What stands at PyTorch's address ``torch.utils``: the data loading (``torch.nn.utils`` is ``nn.utils``)."""

from chainrule.names import module_getattr
from chainrule.utils import data

__all__ = ["data"]

__getattr__ = module_getattr("tools", __name__)
