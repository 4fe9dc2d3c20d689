"""Print the README's command for `train` or `tests`: CI runs what the README says, not a copy of it."""

import pathlib
import re
import sys


def command(name: str) -> str:
    """The one line of the shell block below the marker ``<!-- command: NAME -->``."""
    text = (pathlib.Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- command: {name} -->\s*```(?:sh|bash)\n(.+)\n```", text)
    if found is None:
        sys.exit(f"README.md has no one-line shell block below '<!-- command: {name} -->'.")
    return found.group(1)


if __name__ == "__main__":
    print(command(sys.argv[1]))
