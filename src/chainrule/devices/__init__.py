"""The one device, the CPU, under PyTorch's names: a script that names it runs as it is, and one that names another is told."""

from __future__ import annotations

from types import TracebackType

from chainrule.errors import SettingError

#: How PyTorch's devices are called: what a text in the place of a device or of a dtype may begin with.
TYPES = frozenset(
    ("cpu", "cuda", "mps", "xpu", "meta", "hpu", "hip", "ipu", "mtia", "npu", "privateuseone", "vulkan", "xla")
)


class device:  # PyTorch's name
    """PyTorch's ``torch.device``: here the CPU, whatever its number; as a context it changes nothing.

    Args:
        type: ``"cpu"``, ``"cpu:0"``, or a device.
        index: its number.

    Raises:
        SettingError: another device than the CPU.

    >>> import chainrule as cr
    >>> cr.device("cuda" if cr.cuda.is_available() else "cpu")
    device(type='cpu')
    """

    __slots__ = ("index", "type")

    def __init__(self, type: object = "cpu", index: int | None = None) -> None:
        kind, colon, number = str(type).partition(":")
        if kind != "cpu" or (colon and not number.isdigit()):
            given = type if isinstance(type, (str, int)) else str(type)
            raise SettingError(
                f"device={given!r}: there is only the CPU here. Leave the device out, or say 'cpu' "
                f"(cr.cuda.is_available() is False)."
            )
        self.type = kind
        self.index = int(number) if colon else index

    def __repr__(self) -> str:
        return f"device(type='{self.type}'{'' if self.index is None else f', index={self.index}'})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __enter__(self) -> device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


CPU = device("cpu")


def on_cpu(where: object) -> None:
    """Check what was given as a ``device``: nothing, or the CPU."""
    if where is not None and where is not CPU:
        device(where)


def names_device(value: object) -> bool:
    """Is an argument of ``to``, which takes dtypes and tensors too, a device (PyTorch's own, or a number, too)?"""
    if isinstance(value, str):
        return value.partition(":")[0] in TYPES
    return isinstance(value, int) or type(value).__name__ == "device"


class memory_format:  # PyTorch's name
    """How elements lie in memory: accepted where PyTorch takes it, and without effect, since every tensor is row-major."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return f"chainrule.{self._name}"


preserve_format, contiguous_format = memory_format("preserve_format"), memory_format("contiguous_format")
channels_last, channels_last_3d = memory_format("channels_last"), memory_format("channels_last_3d")


def get_default_device() -> device:
    """The CPU."""
    return CPU


def set_default_device(device: object) -> None:
    """Checks that it is the CPU, and changes nothing.

    Raises:
        SettingError: another device than the CPU.
    """
    on_cpu(device)
