"""Write the chapter on backpropagation, as a page and as an executed notebook, from one source.

    python docs/learn/make_chapter.py           # write backpropagation.md, backpropagation.ipynb and the pictures
    python docs/learn/make_chapter.py --check   # fail if what they print is out of date

Needs the `notebook` extra: Jupyter runs every block. In the source, ``{{ expression }}`` in the prose is
evaluated behind the blocks before it, and a block marked ``figure=NAME "what it shows"`` becomes a picture.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SOURCE, PAGE, NOTEBOOK = (HERE / f"backpropagation{end}" for end in (".source.md", ".md", ".ipynb"))
IMAGES = HERE / "images"
SETUP = """import matplotlib.pyplot as plt

plt.rcParams.update({"svg.hashsalt": "chainrule", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
%config InlineBackend.figure_formats = ["svg"]
%config InlineBackend.print_figure_kwargs = {"metadata": {"Date": None}, "bbox_inches": "tight"}"""


@dataclass
class Part:
    """A stretch of prose, a block of code, or a block that draws a picture."""

    kind: str  # "prose", "code" or "figure"
    text: str
    figure: str = ""
    alt: str = ""


def parse(source: str) -> list[Part]:
    """The parts of the source, in order."""
    parts = []
    position = 0
    for block in re.finditer(r'^```python(?: figure=(\S+) "([^"]*)")?\n(.*?)^```\n', source, re.MULTILINE | re.DOTALL):
        parts.append(Part("prose", source[position : block.start()].strip()))
        parts.append(Part("figure" if block[1] else "code", block[3].rstrip(), block[1] or "", block[2] or ""))
        position = block.end()
    parts.append(Part("prose", source[position:].strip()))
    return [part for part in parts if part.text]


def run(parts: list[Part]) -> list[Any]:
    """The cells of all parts as Jupyter left them: the prose with its numbers put in, the code with its outputs."""
    from nbclient import NotebookClient
    from nbformat import v4

    cells = [v4.new_code_cell(SETUP), *(v4.new_code_cell(_asking(p) if p.kind == "prose" else p.text) for p in parts)]
    notebook = v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    executed = notebook.cells[1:]
    for number, (part, cell) in enumerate(zip(parts, executed, strict=True)):
        if part.kind == "prose":
            executed[number] = v4.new_markdown_cell(_filled(part.text, _printed(cell)))
    return executed


def _expressions(prose: str) -> list[str]:
    return [found.strip() for found in re.findall(r"\{\{(.*?)\}\}", prose)]


def _asking(part: Part) -> str:
    """Code that prints what the prose asks for."""
    return f"import json\nprint(json.dumps([{', '.join(f'str({e})' for e in _expressions(part.text))}]))"


def _filled(prose: str, answers: str) -> str:
    values = iter(json.loads(answers))
    return re.sub(r"\{\{.*?\}\}", lambda _: next(values), prose)


def _printed(cell: Any) -> str:
    return "".join(output["text"] for output in cell.outputs if output.output_type == "stream")


def _drawn(cell: Any) -> str:
    return next(output.data["image/svg+xml"] for output in cell.outputs if output.output_type == "display_data")


def page(parts: list[Part], cells: list[Any]) -> str:
    """The chapter as Markdown."""
    pieces = []
    for part, cell in zip(parts, cells, strict=True):
        if part.kind == "prose":
            pieces.append(cell.source)
        elif part.kind == "figure":
            pieces.append(f"![{part.alt}](images/{part.figure})")
        else:
            output = _printed(cell).rstrip()
            pieces.append(f"```python\n{part.text}\n```" + (f"\n\n```text\n{output}\n```" if output else ""))
    return "\n\n".join(pieces) + "\n"


def notebook_of(cells: list[Any]) -> Any:
    """The chapter as a notebook, with the outputs of this run and nothing that changes from run to run."""
    from nbformat import v4

    setup = v4.new_code_cell(SETUP)
    result = v4.new_notebook(cells=[cells[0], setup, *cells[1:]])
    result.metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for number, cell in enumerate(result.cells):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type == "code":
            cell.execution_count = None
            cell.outputs = _settled(cell)
    return result


def _settled(cell: Any) -> list[Any]:
    """What a cell printed, as one piece however it was cut in transit, and what it drew."""
    from nbformat import v4

    text = _printed(cell)
    printed = [v4.new_output("stream", name="stdout", text=text)] if text else []
    drawn = [o.data["image/svg+xml"] for o in cell.outputs if o.output_type == "display_data"]
    return printed + [v4.new_output("display_data", {"image/svg+xml": svg}) for svg in drawn]


def same(a: str, b: str) -> bool:
    """The same words, and the same numbers to 2 %: CPUs with other vectors add up in another order."""
    number = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
    if re.sub(number, "#", a) != re.sub(number, "#", b):
        return False
    pairs = zip(map(float, re.findall(number, a)), map(float, re.findall(number, b)), strict=True)
    return all(abs(x - y) <= 0.02 * max(abs(x), abs(y)) + 0.011 for x, y in pairs)


def build() -> tuple[str, Any, dict[str, str]]:
    """The page, the notebook, and the pictures by name."""
    parts = parse(SOURCE.read_text(encoding="utf-8"))
    cells = run(parts)
    pictures = {part.figure: _drawn(cell) for part, cell in zip(parts, cells, strict=True) if part.kind == "figure"}
    return page(parts, cells), notebook_of(cells), pictures


def main() -> None:
    import nbformat

    text, notebook, pictures = build()
    if "--check" in sys.argv:
        if not same(PAGE.read_text(encoding="utf-8"), text):
            sys.exit(f"{PAGE.name} is out of date: run python docs/learn/make_chapter.py")
        return
    IMAGES.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    nbformat.validate(notebook)
    nbformat.write(notebook, NOTEBOOK)
    for name, svg in pictures.items():
        (IMAGES / name).write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
