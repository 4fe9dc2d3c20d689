"""ONNX: models out to other runtimes, and in from other libraries."""

from chainrule.errors import MissingLibraryError

try:
    import onnx as _onnx  # noqa: F401
except ImportError:
    raise MissingLibraryError(
        "ONNX files need the library onnx, which is not installed. Bring it: pip install 'chainrule[onnx]'."
    ) from None

from chainrule.interop.onnx.bundles import export_bundle
from chainrule.interop.onnx.exporting import export
from chainrule.interop.onnx.importing import OnnxModule, load

__all__ = ["OnnxModule", "export", "export_bundle", "load"]
