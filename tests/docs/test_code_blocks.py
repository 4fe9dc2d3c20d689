"""Every code block of the README and the docs runs, in order, one name space and one folder a page; what a page says that it
prints, it prints.
"""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from chainrule.cli import commands

ROOT = Path(__file__).parents[2]
# What a page is about, and so imports.
NEEDS = {
    "sklearn.md": "pandas sklearn", "tables.md": "polars", "command-line.md": "polars", "from-pytorch.md": "torch",
    "deploying.md": "onnx onnxruntime polars sklearn", "preset.md": "sklearn",
}  # fmt: skip
# A block of code, and what stands right below it as what it prints.
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")


def blocks(page):
    return BLOCK.findall(page.read_text(encoding="utf-8"))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if ".source" not in page.name and blocks(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.filterwarnings(
    "ignore:fit. .* reads logits, makes probabilities"
)  # two pages are about that mistake, and say so
def test_code_blocks_run(page, capsys, tmp_path, monkeypatch):
    for library in NEEDS.get(page.name, "").split():
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, (kind, text, printed) in enumerate(blocks(page)):
        if kind == "console":
            in_console(text)
            continue
        exec(compile(text, f"{page.name}, block {number}", "exec"), names)
        out = capsys.readouterr().out
        assert not printed or same(printed, out), f"block {number} prints\n{out}"


def in_console(text):
    """Lines that begin with a dollar are commands, and what follows one is what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        found = run(*shlex.split(line))
        assert not printed.strip() or same(printed, found), f"{line} prints\n{found}"


def run(program, *arguments):
    """What a command prints: one of chainrule, or ``cat FILE``."""
    if program == "cat":
        return Path(*arguments).read_text(encoding="utf-8")
    assert program == "chainrule", f"only chainrule and cat are run here, got {program}"
    result = CliRunner().invoke(commands, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def same(said, printed):
    """The same words and nearly the same numbers (2 %: other CPUs round otherwise); ``...`` stands for anything."""
    said, printed = (" ".join(text.split()) for text in (said, printed))
    words = [re.split(NUMBER, part) for part in re.split(r" ?\.\.\. ?", said)]
    number = f"({NUMBER.pattern})"
    pattern = r"\s*.*?\s*".join(number.join(map(re.escape, part)) for part in words)
    found = re.fullmatch(pattern, printed, re.DOTALL)
    return found is not None and all(map(near, NUMBER.findall(said.replace("...", " ")), found.groups()))


def near(a, b):
    return abs(float(a) - float(b)) <= 0.02 * max(abs(float(a)), abs(float(b))) + 0.011


def test_what_a_page_says_is_compared():
    assert same("loss 0.104, done", "loss  0.105,\ndone\n")
    assert not same("loss 0.104", "loss 0.204")
    assert not same("loss 0.104", "cost 0.104")
    assert same("epoch 1 ...\nloss 0.9", "epoch 1 12 s\nepoch 2 loss 0.9")
    assert not same("epoch 1 ...\nloss 0.9", "epoch 1 12 s\nepoch 2 cost 0.9")
    assert not same("epoch 1 ...\nloss 0.3", "epoch 1 12 s\nepoch 2 loss 0.9")
