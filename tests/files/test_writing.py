"""Files are written whole or not at all, by the mode, the links and the folders that the user chose."""

from __future__ import annotations

import errno
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainrule
from chainrule.errors import UnwritableFileError
from chainrule.files import folder as folders
from chainrule.files.folder import Folder
from chainrule.files.writing import append, write_whole

posix = pytest.mark.skipif(os.name != "posix", reason="modes, links and pipes are those of POSIX")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@posix
@pytest.mark.usefixtures("umask")
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[int] = []
    monkeypatch.setattr(os, "umask", changed.append)
    write_whole(tmp_path / "a", b"new")
    assert mode(tmp_path / "a") == 0o640
    assert changed == []  # the process's umask is every thread's


@posix
@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("had", [0o600, 0o644, 0o666, 0o440])
def test_a_file_keeps_its_mode(tmp_path: Path, had: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(had)
    write_whole(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", had)


@posix
def test_a_secret_is_never_readable_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o600)
    seen: list[int] = []
    write = os.write

    def look(descriptor: int, data: bytes) -> int:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", look)
    write_whole(path, b"new")
    assert seen == [0o600]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner_and_group(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write_whole(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 23456)


@posix
def test_where_the_group_cannot_be_kept_its_rights_are_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(0o664)
    group, facts = os.getgid() + 1, os.stat_result

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "no")

    def of_another_group(standing: os.stat_result | None) -> os.stat_result | None:
        return None if standing is None else facts([*standing[:5], group, *standing[6:]])

    standing = Folder._standing
    monkeypatch.setattr(Folder, "_standing", lambda self, name: of_another_group(standing(self, name)))
    monkeypatch.setattr(os, "fchown", refuse)
    write_whole(path, b"new")
    assert mode(path) == 0o644


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_to_its_target(tmp_path: Path, there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    if there:
        target.write_bytes(b"old")
        target.chmod(0o600)
    link.symlink_to(Path("far") / "target")
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir() if p.name not in ("far", "link")] == []
    assert not there or mode(target) == 0o600


@posix
def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with pytest.raises(UnwritableFileError, match="it is a link"):
        write_whole(tmp_path / "a", b"new")


def test_the_parts_are_put_one_behind_the_other(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", [b"one", memoryview(b"two"), bytearray(b""), memoryview(bytes(8)).cast("d")])
    assert (tmp_path / "a").read_bytes() == b"onetwo" + bytes(8)


def test_parts_that_fail_leave_what_stood_there(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"new"
        raise KeyboardInterrupt

    write_whole(tmp_path / "a", b"old")
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a", parts())
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old"}


def test_a_system_that_takes_little_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_whole(tmp_path / "a", b"abcdefghij")
    append(tmp_path / "a", b"klmnopq")
    assert (tmp_path / "a").read_bytes() == b"abcdefghijklmnopq"


def test_file_and_folder_are_on_the_disk_before_it_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        order.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def note_replace(*given: str, **where: int | None) -> None:
        order.append("name")
        replace(*given, **where)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_whole(tmp_path / "a", b"new")
    assert order == (["file", "name", "folder"] if folders.DESCRIPTORS else ["file", "name"])
    order.clear()
    write_whole(tmp_path / "a", b"new", durable=False)
    assert order == ["name"]


# -- what dead writers left -------------------------------------------------------------------------------

KILLED = """
import os, sys
from chainrule.files.writing import write_whole
def parts():
    yield b"half"
    {act}
write_whole(sys.argv[1], parts())
"""


def writer(path: Path, act: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(chainrule.__file__).parent.parent)}
    program = [sys.executable, "-c", KILLED.format(act=act), str(path)]
    return subprocess.Popen(program, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@posix
def test_what_a_killed_writer_left_goes_with_the_next_file_and_what_is_being_written_stays(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_whole(path, b"old")
    killed = writer(path, "os.kill(os.getpid(), 9)")
    killed.communicate()
    assert path.read_bytes() == b"old"
    (left,) = (p for p in tmp_path.iterdir() if p != path)
    slow = writer(path, "print('half', flush=True); sys.stdin.readline(); yield b' and whole'")
    assert slow.stdout is not None
    slow.stdout.readline()
    write_whole(tmp_path / "other", b"new")
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 3
    slow.communicate("\n")
    assert slow.returncode == 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"half and whole", "other": b"new"}


def test_without_locks_age_tells_what_nobody_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "fcntl", None)
    old, young = (tmp_path / f".a.{digit * 16}.chainrule-part" for digit in "01")
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200,) * 2)
    write_whole(tmp_path / "a", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a", young.name}


@posix
def test_only_what_is_named_as_ours_are_goes(tmp_path: Path) -> None:
    names = [".a.part", ".a.0123456789abcdef.part", "a.0123456789abcdef.chainrule-part", ".a.xyz.chainrule-part"]
    for name in names:
        (tmp_path / name).write_bytes(b"a user's own")
    (tmp_path / ".b.0123456789abcdef.chainrule-part").symlink_to(tmp_path / names[0])
    write_whole(tmp_path / "a", b"new")
    assert len(list(tmp_path.iterdir())) == 6


@posix
def test_a_writer_whose_file_was_taken_for_a_dead_ones_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, taken = folders.fcntl.flock, []

    def late(descriptor: int, how: int) -> None:
        if not taken:
            (half,) = tmp_path.iterdir()
            half.unlink()  # another process, in the moment between making and locking
            taken.append(half)
        flock(descriptor, how)

    monkeypatch.setattr(folders.fcntl, "flock", late)
    write_whole(tmp_path / "a", b"new")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"new"}


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "a b\n"])
def test_a_name_of_any_length(tmp_path: Path, name: str) -> None:
    write_whole(tmp_path / name, b"new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


# -- errors -----------------------------------------------------------------------------------------------


def refused(path: Path, why: str, remedy: str) -> str:
    return re.escape(f"{path}: this file could not be written ({why}); what stood there before still stands. {remedy}")


def test_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "none" / "a"
    text = refused(path, "No such file or directory", "Make the folder first, or name one that is there.")
    with pytest.raises(UnwritableFileError, match=f"^{text}$") as caught:
        write_whole(path, b"new")
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(OSError, match=f"^{text}$"):
        append(path, b"new")


@posix
def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UnwritableFileError, match=f"^{refused(tmp_path, 'it is a folder', 'Name a file in it.')}$"):
        write_whole(tmp_path, b"new")


@posix
def test_a_pipe_is_no_file_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnwritableFileError, match="it is a pipe"):
        write_whole(tmp_path / "pipe", b"new")
    with pytest.raises(UnwritableFileError, match="No such device or address"):
        append(tmp_path / "pipe", b"new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_device_is_not_replaced() -> None:
    with pytest.raises(UnwritableFileError, match="it is a device or a socket"):
        write_whole("/dev/full", b"new")


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write, room = tmp_path / "a", os.write, [5]
    write_whole(path, b"old")

    def full(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(descriptor, data[: room[0]])
        room[0] -= taken
        return taken

    monkeypatch.setattr(os, "write", full)
    text = refused(path, "No space left on device", "Free some space, or name a folder on another disk.")
    with pytest.raises(UnwritableFileError, match=f"^{text}$"):
        write_whole(path, b"newer than old")
    room[0] = 5
    with pytest.raises(UnwritableFileError, match=f"^{text}$"):
        append(path, b"newer than old")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"a": b"old"}


# -- a system without descriptors of folders, locks and O_NOFOLLOW ----------------------------------------


def test_where_the_system_has_less_it_works_by_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "DESCRIPTORS", False)
    monkeypatch.setattr(folders, "fcntl", None)
    for name in ("NO_LINK", "NO_WAIT", "DIRECTORY"):
        monkeypatch.setattr(folders, name, 0)
    write_whole(tmp_path / "a", b"old")
    write_whole(tmp_path / "a", b"new")
    with pytest.raises(UnwritableFileError, match="it is a folder"):
        write_whole(tmp_path, b"new")
    tmp_path.chmod(0o700)
    (tmp_path / "a").chmod(0o600)
    with Folder(str(tmp_path), private=True) as opened:
        opened.replace("b", [b"more"], durable=True, mode=0o600)
        assert (opened.read("a", 100, touch=True), opened.read("b", 100)) == (b"new", b"more")
        assert sorted(name for name, _ in opened.entries()) == ["a", "b"]
        opened.remove("b")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)
    with pytest.raises(PermissionError, match="it is a link"):
        Folder(str(tmp_path.parent / f"{tmp_path.name}-link"), private=True)
