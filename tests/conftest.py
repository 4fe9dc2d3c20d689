"""Options and fixtures of the whole test suite."""

from __future__ import annotations

import gc
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest

from chainrule import eager, manual_seed

RECORDED = ("tests/tensor/", "tests/autograd/", "tests/nn/", "tests/optim/")
SHARE = 24


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what is printed now into the golden files")
    parser.addoption(
        "--recorded",
        action="store_true",
        help="run each test under cr.eager(False), but for those that are marked at_once",
    )
    parser.addoption("--hunts", action="store_true", help="run what takes many minutes, too")
    parser.addoption("--list-skipped", metavar="FILE", type=Path, help="write there what was skipped, a test a line")
    parser.addoption(
        "--site", metavar="FOLDER", type=Path, help="where MkDocs has built the site; tests build it themselves else"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Ctrl-C is heard, whoever started the tests: what runs in the background is often told to ignore it."""
    _keep_bytecode(config)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _keep_bytecode(config: pytest.Config) -> None:
    """Where bytecode is not to be written (as in many containers) it lies in a folder of the tests' own while they run.

    Tests start Python again and again, and each start compiled all that it imports, for three fifths of its time.
    """
    if os.environ.get("PYTHONDONTWRITEBYTECODE"):  # read by workers and whatever they start, too
        folder = tempfile.TemporaryDirectory(prefix="bytecode-", ignore_cleanup_errors=True)
        config.add_cleanup(folder.cleanup)
        del os.environ["PYTHONDONTWRITEBYTECODE"]
        os.environ["PYTHONPYCACHEPREFIX"] = folder.name


def pytest_collection_finish() -> None:
    """The collector of garbage took a tenth of the tests' time, mostly to look at modules and at tests that lie ready."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """They are left out and not skipped: what is skipped for want of a library runs once it is there."""
    unwanted = [] if config.getoption("--hunts") else ["hunt"]
    if config.getoption("--recorded"):
        unwanted.append("at_once")
    left_out = [item for item in items if any(map(item.get_closest_marker, unwanted))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not any(map(item.get_closest_marker, unwanted))]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """`pytest @FILE` runs what was skipped for want of a library, once it is there."""
    file: Path | None = config.getoption("--list-skipped")
    if file is not None:
        skipped = (report.nodeid for report in terminalreporter.stats.get("skipped", []))
        file.write_text("".join(f"{test}\n" for test in sorted(set(skipped))), encoding="utf-8")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test in so many of these folders runs twice, the second time with its operations recorded; all: ``--recorded``."""
    test = metafunc.definition
    chosen = test.nodeid.startswith(RECORDED) and crc32(test.nodeid.encode()) % SHARE == 0
    if chosen and not metafunc.config.getoption("--recorded") and test.get_closest_marker("at_once") is None:
        metafunc.parametrize("recorded", [False, True], ids=["at once", "recorded"], indirect=True)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """A test draws the same numbers whatever ran before it."""
    manual_seed(0)


@pytest.fixture(autouse=True)
def recorded(request: pytest.FixtureRequest) -> Iterator[None]:
    """With ``--recorded``, and where a folder's conftest asks for it, the test's operations wait and run together.

    All tests of a process share a tape, so what one of them recorded, and compiled, is met by the next.
    """
    if request.config.getoption("--recorded") or getattr(request, "param", False):
        with eager(False):
            yield
    else:
        yield


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: the text equals the file ``golden/<name>`` beside the test."""
    folder = Path(request.path).parent / "golden"

    def compare(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--update-golden"):
            folder.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), "run: pytest --update-golden, and read the difference"

    return compare
