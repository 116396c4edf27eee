"""The files of a SQLite store are for their owner alone: customers' data and a sign-in stand in them.

Whoever copies a store, unpacks a backup or mounts a volume may leave them open. What is ours is closed again and told once;
what is not is refused, unless it is lent to us: on a volume whose files belong to another user and to a group of ours
(Kubernetes' ``fsGroup``, OpenShift's arbitrary users) the group is how we get at them, and nobody else does.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
from pathlib import Path
from typing import Final

import structlog

from cosell_sync.errors import ConfigError

HELPERS: Final = ("-wal", "-shm", ".key", ".lock")  # what stands beside a store, by the end of its name
_MOUNTS: Final = "on Kubernetes set fsGroup"
_OTHERS: Final = 0o077
_WORLD: Final = 0o007

log = structlog.get_logger("cosell_sync.store")


def access_hint(path: Path, error: OSError) -> str:
    """What to do about a file that could not be opened or made. Users are named by number: in a container they have no name."""
    user = os.geteuid()
    if error.errno == errno.EROFS:
        return f"{path.parent} is mounted read-only: mount a volume there that user id {user} may write"
    if not isinstance(error, PermissionError):
        return f"check that {path} is a plain file on a local disk that user id {user} may write"
    groups = ", ".join(str(each) for each in sorted({os.getegid(), *os.getgroups()}))
    who = f"this process runs as user id {user} (groups {groups})"
    owner = _owner(path)
    if owner is None:
        return f"{who} and must be able to write the directory {path.parent}: as root, `chown {user} {path.parent}`; {_MOUNTS}"
    if owner == user:
        return f"{who}, which owns {path}: `chmod u+rw {path}`"
    return (
        f"{path} belongs to user id {owner}, and {who}: start it as user id {owner}, or as root "
        f"`chown {user} {path}`; {_MOUNTS}"
    )


def _owner(path: Path) -> int | None:
    """The id of a file's owner; None where there is no file or it is out of sight."""
    try:
        return path.stat().st_uid
    except OSError:
        return None


def close_store(path: Path) -> None:
    """Make a store and the files beside it unreadable for others. Raises ConfigError where that cannot be done."""
    locks = path.parent.glob(f"{glob.escape(path.name)}.*.lock")  # one for each connection
    for each in (path, *(path.with_name(f"{path.name}{end}") for end in HELPERS), *locks):
        close_file(each)


def close_file(path: Path) -> None:
    """Make one file unreadable for others; nothing is done where there is none. Raises ConfigError."""
    try:
        found = path.stat()
    except OSError:
        return  # whoever opens it says what is wrong
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & _OTHERS:
        return
    try:
        path.chmod(0o600)
    except PermissionError:
        if not found.st_mode & _WORLD and found.st_gid in {os.getegid(), *os.getgroups()}:
            return
        raise ConfigError(
            f"{path} can be read by others, and belongs to another user (id {found.st_uid})",
            hint=f"run `chmod 600 {path}` as its owner, or `chown {os.geteuid()} {path}` as root; in a container set "
            "fsGroup to a group of this user and take away the rights of others (`chmod o= …`)",
        ) from None
    if path.stat().st_mode & _OTHERS:
        raise ConfigError(
            f"{path} can be read by others, and its disk keeps no permissions",
            hint="move the store to a disk that knows owners and permissions, or change store.url",
        )
    log.warning("store.file_closed", file=path.name, mode=f"{stat.S_IMODE(found.st_mode):04o}")
