"""The machine's peaks are looked at for a moment only: no test is about their value."""

import pytest

from chainrule.cli.bench import machine


@pytest.fixture(autouse=True)
def short_looks(monkeypatch):
    monkeypatch.setattr(machine, "_PEAK_STEPS", 1000)
    monkeypatch.setattr(machine, "_STREAM_BYTES", 1 << 16)
