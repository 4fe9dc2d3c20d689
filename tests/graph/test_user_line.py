"""Which line of a running program is the user's: not chainrule's, not Python's, not an installed package's."""

import concurrent.futures
import os
import runpy
import subprocess
import sys
import sysconfig
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import chainrule as cr
from chainrule import lines


def here():
    """The line that an op made now would carry."""
    line = (cr.ones(2, requires_grad=True) * 2)._node.line
    return None if line is None else (Path(line.file).name, line.function)


def test_the_innermost_line_of_the_user():
    assert here() == ("test_user_line.py", "here")


def test_frames_of_libraries_are_passed_over():
    @click.command()
    def command():
        assert here() == ("test_user_line.py", "here")

    assert CliRunner().invoke(command).exit_code == 0


def test_where_only_libraries_stand_on_the_stack_there_is_no_line():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(lines.user_line).result() is None
        assert pool.submit(lines.at_user_line).result() == ""
        assert pool.submit(here).result() == ("test_user_line.py", "here")


@pytest.mark.parametrize(
    ("file", "library"),
    [
        (lines.__file__, True),
        (os.path.join(sysconfig.get_path("stdlib"), "threading.py"), True),
        (os.path.join(sysconfig.get_path("purelib"), "joblib", "parallel.py"), True),
        ("/home/me/env/lib/python3.12/site-packages/click/core.py", True),
        ("/usr/lib/python3/dist-packages/click/core.py", True),
        ("C:\\env\\Lib\\site-packages\\click\\core.py", True),
        (os.path.join(sysconfig.get_path("scripts"), "pytest"), True),
        ("<frozen runpy>", True),
        ("/home/me/train.py", False),
        ("/home/me/site-packages.py", False),
        (os.path.join(sysconfig.get_path("scripts"), "train.py"), False),
        ("<stdin>", False),
        ("<ipython-input-3-a>", False),
        ("/tmp/ipykernel_12/3.py", False),
    ],
)
def test_files_of_libraries(file, library):
    assert lines._of_a_library(file) is library


def test_a_script_that_is_run_by_name_is_the_users(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text("import chainrule as cr\nline = (cr.ones(2, requires_grad=True) * 2)._node.line\n")
    assert runpy.run_path(str(script))["line"][:2] == (str(script), 2)


def test_the_command_line_names_layers_and_no_line(tmp_path):
    folder = tmp_path / "run"
    command = "from chainrule.cli import commands; commands()"
    arguments = ["train", "digits", "--epochs", "1", "--hidden", "8", "--out", str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    program = tmp_path / "site-packages" / "installed.py"  # as the script that pip writes
    program.parent.mkdir()
    program.write_text(command)
    subprocess.run([sys.executable, str(program), *arguments], check=True, capture_output=True, env=environment)
    recorded = cr.load_run(folder)
    assert "core.py" not in str(recorded.gradient_flow("1.weight[0, 0]", 0))
