"""The rows of a training that reads them from a source, window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from chainrule.errors import SettingError
from chainrule.training import several
from chainrule.training.session import Rows

if TYPE_CHECKING:
    from chainrule.data.windows import Source

BATCH = 64  # rows of a batch, where neither the call nor the source says


@dataclass(frozen=True)
class SourceRows(Rows):
    """What a fit on a source was given: x, y and weight are its first rows, to look at.

    Attributes:
        source: where the rows are read; None in a copy by pickle, which takes no files along.
        total: how many rows an epoch has; 0 for rows to validate on, which are not counted.
        batch_size: the rows of a step.
    """

    source: Source | None = None
    total: int = 0
    batch_size: int = BATCH

    @property
    def count(self) -> int:
        return self.total

    @property
    def window(self) -> int:
        return several.count_of(self.x)

    def check_single(self, who: str) -> NoReturn:
        raise SettingError(
            f"{who}: it looks at rows in memory, and this training reads its rows from a source, window by window. Fit on "
            f"arrays, some of these rows (source.head(10_000)), to have that shown."
        )

    def same(self, other: Rows) -> bool:
        if not isinstance(other, SourceRows):
            return False
        one, two = self.source, other.source
        return one is None or two is None or one is two or one.fingerprint() == two.fingerprint()

    def name(self) -> str:
        """A name for all that is trained on."""
        return f"source {'' if self.source is None else self.source.fingerprint()}"

    def __deepcopy__(self, memo: object) -> SourceRows:
        return self  # a source reads, and nothing writes to it

    def __reduce__(self) -> Any:
        return SourceRows, (self.x, self.y, self.held_out, self.weight, self.named, None, self.total, self.batch_size)


def parts(arrays: Any) -> tuple[Any, Any, Any]:
    """x, y and weight of a window: of a tuple of one to three; all else is x alone."""
    if isinstance(arrays, tuple) and len(arrays) in (1, 2, 3):
        return (*arrays, None, None)[:3]
    return arrays, None, None


class Epochs(NamedTuple):
    """How an epoch of a source is cut.

    Attributes:
        batch_size: rows a step; None: as the source has it.
        steps: how many batches of a stream are an epoch; None: all.
        seed: of the training.
        resumes: it may go on with an earlier one.
        fed: what that was fitted on, where it is known.
    """

    batch_size: int | None
    steps: int | None
    seed: int
    resumes: bool
    fed: Rows | None
