"""Files that can be trusted: what is written, and what is never opened."""

import errno
import json
import os
import socket
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from skpair.comparison import splits
from skpair.learning import backbones
from skpair.search import index_file
from skpair.storage import sealed


def test_values_keep_their_type_in_json():
    weights = models.ResNet18_Weights.DEFAULT
    for value, want in (
        (np.float32(0.5), 0.5),
        (np.str_("a"), "a"),
        ((1, [2.5, None], (True,)), (1, [2.5, None], (True,))),
        (Path("a/b"), Path("a/b")),
        (torch.device("cpu"), "cpu"),
        (weights, "ResNet18_Weights.IMAGENET1K_V1"),
    ):
        have = sealed.from_json(json.loads(json.dumps(sealed.to_json(value))))
        assert repr(have) == repr(want)
    for value in (print, {"a": 1}, {1}, b"x", 1j, np.datetime64("2020-01-01"), nn.ReLU()):
        with pytest.raises(TypeError, match="no JSON holds"):
            sealed.to_json(value)


# ---- what else lies at a path, or beside it ------------------------------------------------------


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_never_opened(tmp_path, make):
    path = tmp_path / "thing.pth"
    make(path)
    for read in (
        sealed.read_file,
        partial(index_file.read, kinds=()),
        partial(backbones.Backbone, "resnet18"),
    ):
        with pytest.raises(OSError, match=r"thing.pth' is not a file"):
            read(path)
    with pytest.raises(OSError, match=r"thing.pth' is not a file, and is not replaced by one"):
        sealed.write_atomically(path, b"")
    assert splits._digest(path) == path  # `fit` will say it
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("inside", ["", "file"])
def test_a_loop_of_links_is_neither_read_nor_replaced(tmp_path, inside):
    one, other = tmp_path / "one", tmp_path / "other"
    one.symlink_to(other)
    other.symlink_to(one)
    for call in (
        sealed.read_file,
        partial(index_file.read, kinds=()),
        partial(sealed.write_atomically, data=b""),
    ):
        with pytest.raises(OSError, match=f"symbolic links: '{one}") as error:
            call(one / inside)
        assert error.value.errno == errno.ELOOP
    assert one.readlink() == other
    assert other.readlink() == one


def test_a_link_to_nothing_is_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    sealed.write_atomically(tmp_path / "link", b"whole")
    assert (tmp_path / "target").read_bytes() == b"whole"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_an_error_names_what_was_to_be_written(tmp_path, monkeypatch, number):
    def refuse(path, *args):
        raise OSError(number, os.strerror(number), os.fspath(path))

    monkeypatch.setattr(sealed, "open", refuse, raising=False)
    monkeypatch.setattr(Path, "unlink", refuse)  # on a read-only disk even of what is not there
    kind = PermissionError if number == errno.EACCES else OSError
    with pytest.raises(kind, match=f"it was not written: '{tmp_path}/matcher'") as error:
        sealed.write_atomically(tmp_path / "matcher", b"")
    assert error.value.errno == number
    assert ".tmp" not in str(error.value)


def test_what_was_written_is_no_failure(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "open", refuse)  # of the folder, to synchronize it
    monkeypatch.setattr(Path, "glob", refuse)
    sealed.write_atomically(tmp_path / "matcher", b"whole")
    assert (tmp_path / "matcher").read_bytes() == b"whole"


WRITING = """
    import sys
    from skpair.storage import sealed

    def slowly():
        yield 100_000 * b"half"
        sys.stdout.write("written")
        sys.stdout.flush()
        sys.stdin.read()
        yield b"whole"

    sealed.write_atomically(sys.argv[1], slowly())
"""


def start_writing(path):
    """Start a process that has written half of a file, and goes on when its input is closed."""
    command = [sys.executable, "-c", textwrap.dedent(WRITING), path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.read(7) == b"written"
    return process


@pytest.mark.slow
def test_a_save_deletes_what_killed_processes_have_left_and_nothing_else(tmp_path, monkeypatch):
    living = start_writing(tmp_path / "slow")
    (of_living,) = tmp_path.iterdir()
    try:
        killed = start_writing(tmp_path / "matcher")
        (of_killed,) = set(tmp_path.iterdir()) - {of_living}
        killed.kill()
        killed.communicate()
        token = of_killed.name.rpartition("-")[2]
        names = [".skpair-notes.tmp", f".skpair-{token}", f".skpair-0123abcd-{token}"]
        names += [f"{of_killed.name}~", of_killed.name.replace(token, "old.tmp")]
        alike = [tmp_path / name for name in names]
        for path in alike:
            path.write_bytes(b"half")
        folder = tmp_path / of_killed.name.replace(token, f"{'0' * 16}.tmp")
        folder.mkdir()
        link = tmp_path / of_killed.name.replace(token, f"{'1' * 16}.tmp")
        link.symlink_to(alike[0])
        about_to_begin = tmp_path / of_killed.name.replace(token, f"{'2' * 16}.tmp")
        about_to_begin.touch()
        kept = {of_living, folder, link, about_to_begin, *alike}
        with monkeypatch.context() as patched:
            patched.setattr(os, "geteuid", lambda: os.getuid() + 1)
            sealed.write_atomically(tmp_path / "matcher", b"of another user")
        assert of_killed.exists()
        with monkeypatch.context() as patched:
            patched.setattr(socket, "gethostname", lambda: "another host")
            sealed.write_atomically(tmp_path / "matcher", b"of another host")
        assert of_killed.exists()
        sealed.write_atomically(tmp_path / "matcher", b"whole")
        assert set(tmp_path.iterdir()) == {tmp_path / "matcher", *kept}
    finally:
        living.communicate()
    assert living.returncode == 0
    assert (tmp_path / "slow").read_bytes() == 100_000 * b"half" + b"whole"
    assert not of_living.exists()


def test_what_is_being_written_by_a_thread_stays(tmp_path):
    def two():
        yield 100_000 * b"one"
        (temporary,) = tmp_path.iterdir()
        sealed.write_atomically(tmp_path / "other", b"whole")
        assert temporary.exists()
        yield b"two"

    sealed.write_atomically(tmp_path / "matcher", two())
    assert (tmp_path / "matcher").read_bytes() == 100_000 * b"one" + b"two"
    assert len(list(tmp_path.iterdir())) == 2
