"""The inside of the fence: one process that takes everything away from itself and then becomes the guest.

Run as a program by `host`, with the standard library only, its orders being one JSON argument. It makes namespaces
where asked, an empty file system with the interpreter in it, sets the limits, gives up its rights and replaces itself.
Its first process stays outside the new process namespace and kills whatever is left when it is told to end.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, REMOUNT, BIND, MOVE, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 8192, 16384, 1 << 18
SET_DEATH_SIGNAL, SET_SUBREAPER, SET_NO_NEW_PRIVILEGES = 1, 36, 38

DEVICES = ("/dev/null", "/dev/urandom")

_libc = ctypes.CDLL(None, use_errno=True)


def main(orders: dict[str, Any]) -> int:
    """Put up the fence, run the guest in it, and give its exit status."""
    _control(SET_SUBREAPER, 1)
    _die_with_parent()
    if orders["namespaces"]:
        _enter_namespaces()
    guest = os.fork()
    if guest == 0:
        _become(orders)
    os.close(orders["refusal"])
    signal.signal(signal.SIGTERM, lambda *_: _end_all())
    _, status = os.waitpid(guest, 0)
    _end_all_quietly()
    ended = os.waitstatus_to_exitcode(status)
    return ended if ended >= 0 else 128 - ended  # as shells say it: an exit status cannot be negative


def _become(orders: dict[str, Any]) -> None:
    try:
        os.setsid()
        _die_with_parent()
        if orders["namespaces"]:
            _build_root(Path(orders["root"]), orders["visible"], orders["scratch_mb"])
        else:
            _move_to(Path(orders["root"]), orders["uid"])
        _set_limits(orders["limits"])
        _drop_rights(orders["uid"])
        os.execve(orders["command"][0], orders["command"], {})  # noqa: S606 - without a shell is the point
    except OSError as error:
        _refuse(orders, error)


def _refuse(orders: dict[str, Any], error: OSError) -> NoReturn:
    """Say why, over a pipe that closes by itself when the guest begins, so that no guest can say it."""
    os.write(orders["refusal"], str(error).encode())
    os._exit(1)


def _enter_namespaces() -> None:
    """Namespaces of its own. Root makes them as root; everybody else needs a user namespace first."""
    apart = NEW_MOUNTS | NEW_UTS | NEW_IPC | NEW_PIDS | NEW_NETWORK
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        _checked(_libc.unshare(apart), "unshare")
        return
    _checked(_libc.unshare(apart | NEW_USER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _build_root(root: Path, visible: list[str], scratch_mb: int) -> None:
    """A new root: what is visible can be read, /tmp can be written, and there is nothing else."""
    _mount("none", "/", None, RECURSIVE | PRIVATE)
    _mount("tmpfs", str(root), "tmpfs", NO_SETUID | NO_DEVICES, "size=1m,mode=0755")
    for path in visible:
        _show(Path(path), root)
    for path in DEVICES:
        _show(Path(path), root)
    (root / "tmp").mkdir()
    _mount("tmpfs", str(root / "tmp"), "tmpfs", NO_SETUID | NO_DEVICES, f"size={scratch_mb}m,mode=1777,nr_inodes=1024")
    _mount("none", str(root), None, REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES)
    os.chdir(root)
    _mount(".", "/", None, MOVE)
    os.chroot(".")
    os.chdir("/tmp")  # noqa: S108 - the cell's own


def _move_to(folder: Path, uid: int | None) -> None:
    """Without a file system of its own the guest starts in an empty folder that belongs to it."""
    if uid is not None:
        os.chown(folder, uid, uid)
    os.chdir(folder)


def _show(path: Path, root: Path) -> None:
    """Make a path of the host readable at the same place under the new root; links stay links."""
    place = root / path.relative_to("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        place.symlink_to(path.readlink())
        return
    if stat.S_ISDIR(path.stat().st_mode):
        place.mkdir(exist_ok=True)
    else:
        place.touch()
    _mount(str(path), str(place), None, BIND | RECURSIVE)
    device = 0 if str(path) in DEVICES else NO_DEVICES
    # A user namespace may not clear flags that the host's mount has, so they are kept.
    kept = os.statvfs(place).f_flag & 0xF
    _mount("none", str(place), None, REMOUNT | BIND | READ_ONLY | NO_SETUID | device | kept)


def _set_limits(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, name)
        allowed = resource.getrlimit(kind)[1]
        bound = value if allowed == resource.RLIM_INFINITY else min(value, allowed)
        resource.setrlimit(kind, (bound, bound))


def _drop_rights(uid: int | None) -> None:
    """No new rights from here on, and none kept; a change of user clears the order to die with the parent."""
    _control(SET_NO_NEW_PRIVILEGES, 1)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _die_with_parent()


def _end_all() -> None:
    _end_all_quietly()
    os._exit(1)


def _end_all_quietly() -> None:
    """Kill the descendants until there are none: they are all inherited by this process, also those that hid in sessions."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while children := _children():
        for pid in children:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except FileNotFoundError:  # a kernel without this list: the process group was killed, and that must do
        return []


def _die_with_parent() -> None:
    _control(SET_DEATH_SIGNAL, signal.SIGKILL)


def _control(option: int, value: int) -> None:
    _checked(_libc.prctl(option, value, 0, 0, 0), "prctl")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    texts = [None if text is None else text.encode() for text in (source, target, kind, data)]
    result = _libc.mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])
    _checked(result, f"mount {target}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    os.set_inheritable(told["refusal"], False)
    try:
        sys.exit(main(told))
    except OSError as failure:
        _refuse(told, failure)
