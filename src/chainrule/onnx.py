"""ONNX, under PyTorch's name: ``export`` writes a model for other runtimes.

Nothing else in this package imports the library onnx: ``pip install 'chainrule[onnx]'`` brings it.
"""

from chainrule.interop.onnx import export

__all__ = ["export"]
