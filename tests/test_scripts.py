"""Scripts in the style of tutorials (`tests/scripts`): with other imports, and nothing else, they compute what PyTorch computes.

Each file runs under PyTorch as it stands. Weights and noise come from NumPy, so that both libraries compute the same; what
a script measured stands in its list ``losses``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.optional import torch

FOLDER = Path(__file__).with_name("scripts")
SCRIPTS = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "start")


def with_other_imports(text: str) -> str:
    """What a user changes: PyTorch's name in lines that import."""
    text = re.sub(r"(?m)^(\s*)import torch$", r"\1import chainrule as torch", text)
    text = re.sub(r"(?m)^import torch\.utils\.data$", "import chainrule.utils.data", text)
    return re.sub(r"(?m)^(\s*)(import|from) torch(?=[. ])", r"\1\2 chainrule", text)


def losses_of(text: str, name: str) -> list[float]:
    """Run a script; what it measured."""
    torch.manual_seed(0)  # skips where PyTorch is missing
    space = {"__name__": f"script_{name}", "__file__": str(FOLDER / f"{name}.py")}
    exec(compile(text, space["__file__"], "exec"), space)
    return space["losses"]


@pytest.fixture(autouse=True)
def _beside_the_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))


def test_other_imports_are_all_that_is_changed() -> None:
    changed = with_other_imports(
        "import torch\nimport torch.nn as nn\nfrom torch import optim\nx = torch.ones(1)  # import torch\n"
    )
    assert changed == (
        "import chainrule as torch\nimport chainrule.nn as nn\nfrom chainrule import optim\nx = torch.ones(1)  # import torch\n"
    )
    assert len(SCRIPTS) > 30


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_computes_what_it_computes_under_pytorch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    expected = losses_of(text, name)
    said = capsys.readouterr().out
    changed = with_other_imports(text)
    assert not re.search(r"(?m)^\s*(import|from) torch", changed)
    found = losses_of(changed, name)
    assert len(found) == len(expected) > 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert re.sub(r"\d+\.\d+", "#", capsys.readouterr().out) == re.sub(r"\d+\.\d+", "#", said)
