"""What stands at PyTorch's address ``torch.utils``: the data loading (``torch.nn.utils`` is ``nn.utils``)."""

from chainrule.utils import data

__all__ = ["data"]
