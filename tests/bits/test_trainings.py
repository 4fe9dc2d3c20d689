"""Whole trainings have the bits that are noted beside them, whatever the registers."""

from pathlib import Path

import pytest

from chainrule.compiler.plan.target import Target
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.units import Pool
from tests.bits.trainings import TRAININGS, bits, different

NARROWER = {
    "32 bytes": Target(32, 16), "16 bytes": Target(16, 16), "16 bytes, 32 registers": Target(16, 32),
}  # fmt: skip


@pytest.mark.parametrize("name", TRAININGS)
def test_bits_are_the_known_ones(name: str) -> None:
    assert different({name: bits(name)}) == []


# More registers of the same width change tiles alone: looked at where products are odd and where they are stacked.
OTHERWISE = [
    *((name, "32 bytes") for name in ("odd_widths", "float64", "attention_over_four_places", "a_layer_in_bfloat16")),
    *((name, "16 bytes") for name in ("odd_widths", "float64", "an_autoencoder", "a_layer_in_bfloat16")),
    *((name, "16 bytes, 32 registers") for name in ("odd_widths", "attention_over_four_places")),
]


@pytest.mark.parametrize(("name", "registers"), OTHERWISE)
def test_bits_do_not_depend_on_the_width_of_vectors(
    name: str, registers: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    target = NARROWER[registers]
    if target.vector_bytes > native.machine().target.vector_bytes:
        pytest.skip("this machine has no vectors of that width")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(native, "_pool", Pool())
    monkeypatch.setattr(native.machine(), "target", target)
    assert different({name: bits(name)}) == []
