"""Data: bundled sets, orders and splits that a seed repeats, and checks before training."""

from chainrule.data.batches import shuffled_indices, train_test_split
from chainrule.data.sources import Dataset, load

__all__ = ["Dataset", "load", "shuffled_indices", "train_test_split"]
