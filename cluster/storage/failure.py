"""What an error of a file system means: whether storage is away for now, and what a person can do."""

import errno
import os
import re
import shutil
from pathlib import Path

from cluster.errors import StorageBusyError, StorageError, StorageOutageError

_BAD_KEYS = ("ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID")
_AWAY_NAMES = (
    *("EROFS", "EIO", "ESTALE", "ENODEV", "ENXIO", "EREMOTEIO", "ETIMEDOUT", "EAGAIN", "EPIPE"),
    *("ENOTCONN", "ESHUTDOWN", "ECONNREFUSED", "ECONNRESET", "ECONNABORTED"),
    *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH"),
)
_AWAY = {getattr(errno, name) for name in _AWAY_NAMES if hasattr(errno, name)}
"""Not every system has each."""
_SERVER_AWAY = re.compile(
    r"AWS Error (NETWORK_CONNECTION|REQUEST_TIMEOUT|REQUEST_EXPIRED)|Status\((DEADLINE_EXCEEDED|ABORTED)"
)
_SERVER_BUSY = re.compile(
    r"AWS Error (SLOW_DOWN|THROTTLING|SERVICE_UNAVAILABLE|INTERNAL_FAILURE|UNKNOWN \(HTTP status (5\d\d|429)\))"
    r"|Status\((UNAVAILABLE|INTERNAL|RESOURCE_EXHAUSTED)"
)
"""Of S3 and of Google's storage: pyarrow says it in words alone, among names of files that may be anything."""


def explained(
    error: BaseException, problem: str, folder: Path | None, choice: str, anchor: Path | None
) -> StorageError:
    """The error as one of ours: `problem`, why, and what to do.

    `folder` and `choice` are those of `why`; `anchor` is a folder that was there before.
    """
    kind = _kind_of(error, anchor)
    if kind is StorageOutageError and isinstance(error, FileNotFoundError | NotADirectoryError):
        return kind(f"{problem}: the folder {anchor} is not there; mount it, or move it back")
    return kind(f"{problem}: {why(error, folder, choice)}")


def why(error: BaseException, folder: Path | None, choice: str = "--storage.root") -> str:
    """What an error of a file system means to a person, and what to do.

    `folder` is where it happened, where that is on this machine; `choice` is what else could be given.
    """
    code = error.errno if isinstance(error, OSError) else None
    if code in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return (
            f"no space is left there{_free(folder)}; what was stored before is intact: free space or raise the quota, "
            "then start the same command again"
        )
    if code == errno.EROFS:
        return f"no permission: the file system is read-only; mount it for writing, or choose another {choice}"
    if code in {errno.EACCES, errno.EPERM}:
        return f"no permission; grant access or choose another {choice}"
    if any(name in str(error) for name in _BAD_KEYS):
        return (
            f"the server refuses it ({_reason_of(error)}): no permission for these keys, or none given; set "
            f"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, grant access, or choose another {choice}"
        )
    if "NO_SUCH_BUCKET" in str(error):
        return f"there is no such bucket; create it, or correct {choice}"
    if code == errno.ENOENT:
        return "there is no such file; check the address"
    if code in {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}:
        return f"a file stands where a folder must be, or a folder where a file must be ({error}); move it away"
    return f"{error}; check the address and the connection"


def _reason_of(error: BaseException) -> str:
    found = re.search(r"AWS Error (\w+)", str(error))
    return found[1] if found else "access denied"


def _free(folder: Path | None) -> str:
    """The free space as " (1.2 MB free)"; empty where it cannot be seen."""
    existing = [] if folder is None else [each for each in (folder, *folder.parents) if each.is_dir()]
    return f" ({shutil.disk_usage(existing[0]).free / 1e6:.1f} MB free)" if existing else ""


def _kind_of(error: BaseException, anchor: Path | None) -> type[StorageError]:
    """What a file system's error is: storage that is away, storage that is busy, or another StorageError.

    What is not found is away with the anchor where that is gone, too.
    """
    is_absent = isinstance(error, FileNotFoundError | NotADirectoryError)
    if is_absent and anchor is not None and not os.path.isdir(anchor):  # noqa: PTH112 - is_dir may raise
        return StorageOutageError
    code, text = error.errno if isinstance(error, OSError) else None, str(error)
    if code in _AWAY:
        return StorageOutageError
    if code is None and _SERVER_BUSY.search(text):
        return StorageBusyError
    return StorageOutageError if code is None and _SERVER_AWAY.search(text) else StorageError
