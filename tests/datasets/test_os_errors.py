"""What the operating system refuses is told with a remedy that fits."""

import errno
import os
import resource
import socket
import ssl
from pathlib import Path

import pytest

from tutti.datasets.errors import StorageError
from tutti.datasets.os_errors import out_of_inodes, storage_error


def told(code: int, path: str | None = "/data/x") -> str:
    return str(storage_error(OSError(code, os.strerror(code), path)))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "/data/x: No space left on device; free space, then run it again"),
        (errno.EDQUOT, "/data/x: Disk quota exceeded; free space or raise the quota, then run it again"),
        (errno.EACCES, "/data/x: Permission denied; check the permissions, then run it again"),
        (errno.EPERM, "/data/x: Operation not permitted; check the permissions, then run it again"),
        (errno.EMFILE, "/data/x: Too many open files; raise `ulimit -n`, then run it again"),
        (errno.EXDEV, "/data/x: Invalid cross-device link; put both on one file system, then run it again"),
        (errno.ENAMETOOLONG, "/data/x: File name too long; choose a shorter name, then run it again"),
        (errno.ENOMEM, "/data/x: Cannot allocate memory; free memory, then run it again"),
        (errno.EIO, "/data/x: Input/output error; look at the disk and at what mounts it, then run it again"),
        (errno.ESTALE, "/data/x: Stale file handle; look at the disk and at what mounts it, then run it again"),
        (errno.ETXTBSY, "/data/x: Text file busy; wait until the program has ended, then run it again"),
    ],
)
def test_each_refusal_has_its_own_remedy(code, message):
    assert told(code) == message


def test_only_what_is_about_space_says_free_space():
    spacious = {code for code in errno.errorcode if "free space" in told(code)}

    assert spacious == {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@pytest.mark.parametrize("code", [errno.EROFS, errno.ENFILE, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOLCK])
def test_a_remedy_is_more_than_a_look_at_the_disk(code):
    assert "look at" not in told(code)


def raised_by(action) -> str:
    with pytest.raises(OSError, match="Errno") as caught:
        action()
    return str(storage_error(caught.value))


def test_refusals_of_the_real_system(tmp_path: Path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    assert "choose a shorter name" in raised_by((tmp_path / ("x" * 300)).touch)
    assert "remove the links" in raised_by((tmp_path / "loop").read_bytes)
    assert "a part of the path is a file" in raised_by((tmp_path / "file" / "in").read_bytes)
    assert "move the folder away" in raised_by(tmp_path.read_bytes)
    assert "move away what is in the folder" in raised_by(tmp_path.rmdir)
    missing = raised_by((tmp_path / "none").read_bytes)
    assert missing == f"{tmp_path / 'none'}: No such file or directory; check the path, then run it again"
    assert raised_by(lambda: (tmp_path / "none").rename(tmp_path / "to")).startswith(
        f"{tmp_path / 'none'} -> {tmp_path / 'to'}: No such file"
    )


def test_no_descriptors_left(tmp_path: Path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(OSError, match="Too many") as caught:
            os.open(tmp_path, os.O_RDONLY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "ulimit -n" in str(storage_error(caught.value))


def test_a_file_system_without_inodes_says_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = os.statvfs(tmp_path)
    numbers = list(
        real
    )  # f_bsize, f_frsize, f_blocks, f_bfree, f_bavail, f_files, f_ffree, f_favail, f_flag, f_namemax
    numbers[4:8] = [1000, 500, 0, 0]
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(numbers))
    error = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "new"))

    assert out_of_inodes(error)
    assert str(storage_error(error)) == (
        f"{tmp_path / 'new'}: no inodes left on device; remove files or make room for more: "
        "the file system has bytes, but no inodes left, then run it again"
    )

    numbers[5:8] = [0, 0, 0]  # btrfs counts none
    assert not out_of_inodes(error)


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "certificate verify failed"),  # OpenSSL's 1 is not EPERM
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
        TimeoutError("timed out"),
    ],
)
def test_what_the_network_refuses_is_not_the_disk(error):
    assert str(storage_error(error)).endswith("; check the network, then run it again")


def test_an_error_without_a_number_is_told_too():
    assert str(storage_error(OSError("truncated"), "a.parquet")) == (
        "a.parquet: truncated; look at the file and the disk, then run it again"
    )
    assert str(storage_error(OSError())) == "OSError; look at the file and the disk, then run it again"
    assert isinstance(storage_error(OSError()), StorageError)
