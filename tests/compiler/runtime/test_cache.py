"""The folder of machine code stays small, whoever else uses it; and nothing is executed that another may have written."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chainrule.compiler.runtime import cache, native, tuning
from chainrule.compiler.runtime.units import packed
from chainrule.files.folder import Folder

SOURCE = Path(native.__file__).parents[2]
posix = pytest.mark.skipif(os.name != "posix", reason="links, pipes and owners are those of POSIX")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path))
    return tmp_path


def put(described: str, age: float, size: int = 10) -> Path:
    """An entry last used `age` seconds ago."""
    cache.write(described, b"x" * size)
    path = Path(cache.cache_dir() or "") / cache.name_of(described)
    os.utime(path, (time.time() - age,) * 2)
    return path


def prune(folder: Path) -> None:
    with Folder(str(folder)) as opened:
        cache.prune(opened)


# -- its size ---------------------------------------------------------------------------------------------


def test_beyond_so_many_entries_those_used_longest_ago_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [put(f"new {i}", age=i) for i in range(1, 3)]
    old = [put(f"old {i}", age=100 + i) for i in range(3)]
    monkeypatch.setattr(cache, "MOST_ENTRIES", 3)
    prune(folder)
    assert set(folder.iterdir()) == {*kept, old[0]}


def test_beyond_so_many_bytes_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = put("old", 100, size=4000), put("new", 1, size=4000)
    monkeypatch.setattr(cache, "MOST_BYTES", 6000)
    prune(folder)
    assert list(folder.iterdir()) == [new]
    assert not old.exists()


def test_beyond_the_most_there_is_room_for_some_more_afterwards(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else each further entry would have all of them looked at."""
    monkeypatch.setattr(cache, "MOST_ENTRIES", 32)
    monkeypatch.setattr(cache, "SOME", 1 << 40)
    for i in range(33):
        put(f"entry {i}", age=100 - i)
    assert len(list(folder.iterdir())) == 30


@pytest.mark.parametrize(("name", "to"), [("LARGE", 50), ("SOME", 1)])
def test_bytes_are_looked_at_when_a_large_entry_comes_and_now_and_then(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, to: int
) -> None:
    monkeypatch.setattr(cache, "MOST_BYTES", 250)
    monkeypatch.setattr(cache, "SOME", 1 << 40)
    old = [put(f"old {i}", age=100) for i in range(3)]
    assert all(path.exists() for path in old)  # three small ones, unseen
    old += [put(f"old {i}", age=200 - i, size=100) for i in range(3, 5)]
    assert all(path.exists() for path in old)
    monkeypatch.setattr(cache, name, to)
    put("new", 0, size=51)
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 250


def test_an_entry_that_is_read_counts_as_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, unused = put("used", 200), put("unused", 100)
    assert cache.read("used") == b"x" * 10
    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    cache.write("another", b"y")
    assert used.exists()
    assert not unused.exists()


def test_what_an_older_version_left_half_written_goes_and_what_it_is_writing_stays(folder: Path) -> None:
    dead, alive = folder / "a.part", folder / "b.part"
    for part in (dead, alive):
        part.write_bytes(b"half")
    os.utime(dead, (time.time() - 7200,) * 2)
    prune(folder)
    assert not dead.exists()
    assert alive.exists()


def test_an_entry_that_another_process_removed_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(4):
        put(f"entry {i}", age=i)
    remove = Folder.remove

    def twice(self: Folder, name: str) -> None:  # the other process is always a moment earlier
        remove(self, name)
        remove(self, name)

    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    monkeypatch.setattr(Folder, "remove", twice)
    prune(folder)
    assert len(list(folder.iterdir())) == 2


# -- what is executed -------------------------------------------------------------------------------------

TEXT = "define i64 @run(ptr %frame) {{\n  ret i64 {}\n}}\ndefine i64 @call(ptr %frame) {{\n  ret i64 {}\n}}\n"


def run(identity: str, gives: int) -> int:
    """What the program of this identity gives, which an honest compiler makes give `gives`."""
    code = native.cached(identity, lambda: [native.compiled(TEXT.format(gives, gives))])
    return code.run(0)


def described(identity: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """All that the entry of an identity is made for."""
    seen: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read", lambda text: seen.append(text))
        patch.setattr(cache, "write", lambda text, code: None)
        run(identity, 0)
    return seen[0]


@pytest.fixture
def entry(folder: Path) -> Path:
    """The entry of program "mine", which gives 1."""
    assert run("mine", 1) == 1
    (path,) = folder.iterdir()
    return path


def forged(identity: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An entry as a knowing attacker writes it: whole in every respect, but its program gives 666."""
    text = described(identity, monkeypatch)
    code = packed([native.compiled(TEXT.format(666, 666))])
    return cache._MAGIC + cache._digest(text, code) + code


def test_an_entry_is_used(entry: Path) -> None:
    assert run("mine", 2) == 1  # that it is not compiled anew shows that the entry served


def test_a_forged_entry_in_a_folder_of_ours_would_run(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests below refuse is refused for its place alone: in the right place it would be executed."""
    entry.write_bytes(forged("mine", monkeypatch))
    assert run("mine", 2) == 666


@pytest.mark.parametrize("identity", ["mine", "other"])
def test_another_programs_entry_under_this_name_is_not_executed(entry: Path, identity: str) -> None:
    run("other", 2)
    (other,) = set(entry.parent.iterdir()) - {entry}
    entry.write_bytes(other.read_bytes())
    assert run("mine", 3) == 3


@pytest.mark.parametrize("place", range(9))
def test_a_flipped_bit_is_noticed(entry: Path, place: int) -> None:
    data = bytearray(entry.read_bytes())
    data[len(data) * place // 9] ^= 1 << place % 8
    entry.write_bytes(data)
    assert run("mine", 2) == 2


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.999])
def test_a_truncated_entry_is_noticed(entry: Path, share: float) -> None:
    data = entry.read_bytes()
    entry.write_bytes(data[: int(len(data) * share)])
    assert run("mine", 2) == 2
    assert entry.read_bytes() != data[: int(len(data) * share)]  # built anew, and kept


def test_a_huge_entry_is_not_read(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(entry, "r+b") as file:
        file.truncate(1 << 40)
    assert run("mine", 2) == 2


def links(entry: Path, forged: bytes) -> None:
    elsewhere = entry.parent.parent / f"{entry.parent.name}-elsewhere"
    elsewhere.write_bytes(forged)
    entry.unlink()
    entry.symlink_to(elsewhere)


def foreign(entry: Path, forged: bytes) -> None:
    entry.write_bytes(forged)
    os.chown(entry, 12345, 12345)


def writable(mode: int) -> Callable[[Path, bytes], None]:
    def change(entry: Path, forged: bytes) -> None:
        entry.write_bytes(forged)
        entry.chmod(mode)

    return change


def foreign_folder(entry: Path, forged: bytes) -> None:
    entry.write_bytes(forged)
    os.chown(entry.parent, 12345, -1)


def writable_folder(entry: Path, forged: bytes) -> None:
    entry.write_bytes(forged)
    entry.parent.chmod(0o777)


def group_folder(entry: Path, forged: bytes) -> None:
    entry.write_bytes(forged)
    entry.parent.chmod(0o770)


def linked_folder(entry: Path, forged: bytes) -> None:
    entry.write_bytes(forged)
    real = entry.parent.rename(entry.parent.with_name(f"{entry.parent.name}-real"))
    entry.parent.symlink_to(real)


def linked_folder_with_a_slash(entry: Path, forged: bytes) -> None:
    linked_folder(entry, forged)
    os.environ["CHAINRULE_CACHE_DIR"] += "/"  # set by the fixture's monkeypatch, which puts it back


as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
HOSTILE = [
    links, writable(0o620), writable(0o602), writable(0o666), writable_folder, group_folder, linked_folder,
    linked_folder_with_a_slash, pytest.param(foreign, marks=as_root), pytest.param(foreign_folder, marks=as_root),
]  # fmt: skip


@posix
@pytest.mark.parametrize("make", HOSTILE)
def test_what_another_may_have_written_is_not_executed(
    entry: Path, make: Callable[[Path, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(entry, forged("mine", monkeypatch))
    assert run("mine", 2) == 2


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        here = os.getcwd()
        os.chdir(path.parent)  # a path of a socket must be short
        try:
            made.bind(path.name)
        finally:
            os.chdir(here)


def device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero, which never ends


@posix
@pytest.mark.parametrize("make", [pipe, unix_socket, Path.mkdir, pytest.param(device, marks=as_root)])
def test_what_is_no_file_neither_hangs_nor_fails(entry: Path, make: Callable[[Path], None]) -> None:
    entry.unlink()
    try:
        make(entry)
    except PermissionError:
        pytest.skip("devices cannot be made here")
    assert run("mine", 2) == 2


@posix
@pytest.mark.parametrize("make", [pipe, Path.touch])
def test_a_folder_that_is_none_is_done_without(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "cache")
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "cache"))
    assert run("mine", 2) == 2
    assert "not used: " in cache.state()[0]


@posix
def test_folder_and_entries_are_this_users_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE_DIR", str(tmp_path / "a" / "b"))
    before = os.umask(0)
    try:
        run("mine", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a" / "b").iterdir()] == [0o600]


@posix
@pytest.mark.parametrize("make", [writable_folder, linked_folder])
def test_the_times_of_tiles_are_kept_in_such_a_folder_alone(entry: Path, make: Callable[[Path, bytes], None]) -> None:
    tuning._write({"a": (1, 2)})
    assert tuning._read() == {"a": (1, 2)}
    make(entry, b"")
    assert tuning._read() == {}


@pytest.mark.parametrize(
    "content", ["[" * 100_000, '{"a": [1e999, 2]}', '{"a": {"0": 1, "1": 2}}', "3", '{"a": [1, true]}']
)
def test_times_of_tiles_that_are_none(folder: Path, content: str) -> None:
    (folder / tuning._name()).write_text(content)
    assert tuning._read() == {}


# -- where it is ------------------------------------------------------------------------------------------


def place(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str | None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("CHAINRULE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    return cache.cache_dir()


@posix
def test_an_empty_or_relative_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    default = "/home/me/.cache/chainrule"
    assert place(monkeypatch) == default
    assert place(monkeypatch, XDG_CACHE_HOME="") == default
    assert place(monkeypatch, XDG_CACHE_HOME=".") == default
    assert place(monkeypatch, XDG_CACHE_HOME="cache") == default
    assert place(monkeypatch, XDG_CACHE_HOME="/var/mine") == "/var/mine/chainrule"
    assert place(monkeypatch, CHAINRULE_CACHE_DIR="") == default
    assert place(monkeypatch, CHAINRULE_CACHE_DIR="./here") == default
    assert place(monkeypatch, CHAINRULE_CACHE_DIR="/var/mine") == "/var/mine"
    assert place(monkeypatch, HOME=".") is None


PROGRAM = """
import os
{before}
import chainrule as cr
from chainrule.compiler.runtime import cache
print(cr.compile(lambda x: x * 2)(cr.ones(2)).tolist(), cache.state())
"""


def process(before: str, folder: Path, **variables: str) -> str:
    """What a program prints in a process of its own, standing in `folder`."""
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "CHAINRULE_CACHE_DIR")}
    environment = {**kept, "PYTHONPATH": str(SOURCE.parent), **variables}
    program = [sys.executable, "-c", PROGRAM.format(before=before)]
    return subprocess.run(program, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout


NOBODY = """
import pwd
def unknown(number): raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
"""


@posix
def test_a_user_without_home_or_name_does_without(tmp_path: Path) -> None:
    out = process(NOBODY, tmp_path)
    assert out == "[2.0, 2.0] ('none: there is no home folder', 0, 0)\n"
    assert list(tmp_path.iterdir()) == []


@posix
def test_nothing_is_written_where_one_happens_to_stand(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    out = process("", tmp_path, HOME=str(home), XDG_CACHE_HOME="", CHAINRULE_CACHE_DIR="here")
    assert out.startswith(f"[2.0, 2.0] ('{home}/.cache/chainrule', 1, ")
    assert list(tmp_path.iterdir()) == [home]


# -- what an entry depends on -----------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sources once more, to be changed; `native.writers` reads these."""
    for file in SOURCE.rglob("*.py"):
        copy = tmp_path / file.relative_to(SOURCE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    monkeypatch.setattr(native, "__file__", str(tmp_path / "compiler" / "runtime" / "native.py"))
    return tmp_path


def writers() -> str:
    return native.writers.__wrapped__()


@pytest.mark.parametrize(
    "name",
    [
        "graph.py",
        "dtypes.py",
        "ops/elementwise.py",
        "ops/contraction.py",
        "tensor/memory.py",
        "compiler/program.py",
        "compiler/passes/simplify.py",
        "compiler/schedule/fusion.py",
        "compiler/plan/tiling.py",
        "compiler/codegen/emit.py",
        "compiler/codegen/matmul/contraction.py",
        "compiler/runtime/native.py",
    ],
)
def test_the_key_covers_every_source_that_shapes_code(copied: Path, name: str) -> None:
    before = writers()
    with open(copied / name, "a") as file:
        file.write("# another\n")
    assert writers() != before


def test_a_source_that_moves_changes_the_key_and_is_covered_where_it_went(copied: Path) -> None:
    before = writers()
    (copied / "compiler" / "codegen" / "writers").mkdir()
    moved = (copied / "compiler" / "codegen" / "emit.py").rename(
        copied / "compiler" / "codegen" / "writers" / "emit.py"
    )
    there = writers()
    assert there != before
    moved.write_bytes(moved.read_bytes() + b"\n")
    assert writers() != there


def test_a_room_that_is_new_is_covered(copied: Path) -> None:
    before = writers()
    (copied / "numerics").mkdir()
    (copied / "numerics" / "roots.py").write_text("x = 1\n")
    assert writers() != before


def test_rooms_left_out_are_those_above_the_compiler(copied: Path) -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    above = text.partition("layers = [")[2].partition('"compiler"')[0]
    rooms = {room.strip() for group in re.findall(r'"(.*?)"', above) for room in group.split("|")}
    assert {name.removesuffix(".py") for name in native.ABOVE} == rooms
    before = writers()
    (copied / "cli" / "__init__.py").write_text("")
    assert writers() == before


def test_the_key_names_cpu_features_and_llvm(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import llvmlite
    import llvmlite.binding as llvm

    text, here = described("mine", monkeypatch), native.machine()
    llvm_version = ".".join(map(str, llvm.llvm_version_info))
    for part in ("mine", here.cpu, here.features, llvmlite.__version__, f"LLVM {llvm_version}", native.writers()):
        assert part in text
