"""ONNX, under PyTorch's name: ``export`` writes a model for other runtimes, ``load`` makes a module of a file.

Nothing else in this package imports the library onnx: ``pip install 'chainrule[onnx]'`` brings it.
"""

from chainrule.interop.onnx import OnnxModule, export, export_bundle, load

__all__ = ["OnnxModule", "export", "export_bundle", "load"]
