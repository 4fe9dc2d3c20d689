"""How products are cut up: what counting cycles leads to, for shapes that were measured."""

from __future__ import annotations

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler.plan.target import Target
from chainrule.compiler.plan.tiling import Contraction, Tiling, plan

WIDE = Target(64, 32)


def gradient(features: int, outputs: int, rows: int) -> Tiling:
    """Of a weight, over so many rows of a batch."""
    spec = Contraction(features, outputs, rows, "float", (1, features), (outputs, 1), halved=rows >= 256)
    return plan(spec, WIDE)


@pytest.mark.parametrize(("features", "outputs"), [(8, 128), (128, 8)])
def test_a_gradient_of_few_columns_reads_the_other_factor_once(features: int, outputs: int) -> None:
    """Rows of all its columns in one tile, which threads then share by panels: 500 us instead of 650 of 16,000 rows."""
    chosen = gradient(features, outputs, rows=16_000)
    assert (chosen.row_tiles, chosen.mr, chosen.nr, chosen.column_panels) == (1, 8, 32, 4)
    assert chosen.blocked and chosen.transposed == (features > outputs)


def test_the_rows_of_a_batch_are_divided_evenly() -> None:
    """From layer to layer threads keep the rows they had: by columns, equal shares would be to be had with tiles of 13."""
    chosen = plan(Contraction(64, 128, 128, "float", (128, 1), (1, 128)), WIDE)
    assert (chosen.mr, chosen.row_tiles) == (8, 8)


def test_of_few_terms_tiles_are_of_one_height() -> None:
    """As the sums of a tall one are soon done and then wait to be stored; of many terms it is the taller, the better."""
    few, many = (plan(Contraction(16_000, 128, k, "float", (k, 1), (1, k)), WIDE) for k in (8, 512))
    assert (few.mr, few.small) == (10, 0)
    assert (many.mr, many.small) == (14, 2)


def test_the_code_of_a_recurrence_hardly_grows_with_its_steps() -> None:
    """Gradients over 16,000 rows are added up in halves and in blocks, and shared by threads, which those over 160 are not."""

    def lines(steps: int) -> int:
        cr.manual_seed(0)
        lstm = nn.LSTM(8, 32)

        @cr.compile
        def step(x: cr.Tensor) -> cr.Tensor:
            lstm.zero_grad()
            loss = lstm(x)[0][-1].sum()
            loss.backward()
            return loss

        step(cr.randn(steps, 16, 8))
        return len(str(step.show("llvm")).splitlines())

    short, long = lines(10), lines(1000)
    assert long < 1.2 * short, (short, long)
