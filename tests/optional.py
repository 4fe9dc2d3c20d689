"""PyTorch where it is installed; where not, whatever first touches it skips and says so."""

from __future__ import annotations

from typing import Any

import pytest


class _Missing:
    """Stands for a peer that is not installed: whatever first touches it, a test or a whole module, skips."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # pytest and inspect look at every object of a module; that is no use of it
            raise AttributeError(name)
        pytest.skip("PyTorch is not installed", allow_module_level=True)


try:
    import torch
except ImportError:
    torch: Any = _Missing()
else:
    torch.set_num_threads(1)  # small tensors; other processes may hold the cores
