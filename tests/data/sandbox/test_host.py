"""What hostile programs can do in a cell: each is bounded, so that a broken fence fails a test and not the machine."""

from __future__ import annotations

import json
import os
import socket

import psutil
import pytest

from rheostat.data.errors import SandboxError
from rheostat.data.sandbox import Limits, Sandbox, host

QUICK = Limits(wall_s=20.0, cpu_s=4, memory_mb=256, processes=8, file_kb=64, scratch_mb=1)


def sandbox(**limits: float) -> Sandbox:
    return Sandbox(Limits(**{name: getattr(QUICK, name) for name in QUICK.__struct_fields__} | limits), allow_weak=True)  # type: ignore[arg-type]


def left_behind() -> list[psutil.Process]:
    return [process for process in psutil.process_iter(["uids"]) if process.info["uids"] and process.info["uids"].real >= host.FIRST_UID]


def test_a_program_reads_its_input_and_its_output_is_kept() -> None:
    ran = sandbox().run("print(input()[::-1])", stdin="olleh\n")

    assert (ran.status, ran.output, ran.timed_out) == (0, "hello\n", False)


@pytest.mark.parametrize("read", ["open(0).read()", "os.read(0, 99).decode()", "sys.stdin.read()", "''.join(sys.stdin)"])
def test_a_program_may_read_its_input_in_any_way(read: str) -> None:
    ran = sandbox().run(f"import os, sys\nprint({read}.split())", stdin="5\nä")

    assert (ran.output, ran.errors) == ("['5', 'ä']\n", "")


def test_an_input_may_be_larger_than_a_file_of_the_program() -> None:
    assert sandbox(file_kb=1).run("print(len(open(0).read()))", stdin="x" * 10_000).output == "10000\n"


def test_standard_error_is_kept_apart_from_the_output() -> None:
    ran = sandbox().run("import sys\nprint('seen')\nprint('aside', file=sys.stderr)")

    assert (ran.output, ran.errors) == ("seen\n", "aside\n")


GRASP = """
import json, os, socket, sys
def tried(what):
    try:
        return what()
    except OSError as error:
        return "refused"
def escape():
    os.symlink("/etc/passwd", "/tmp/innocent")
    return open("/tmp/innocent").read()
def connect():
    socket.create_connection(("127.0.0.1", PORT), timeout=2).close()
    return "connected"
def fill():
    for number in range(40):
        open(f"/tmp/{number}", "wb").write(b"x" * 60_000)
print(json.dumps({
    "passwd": tried(lambda: open("/etc/passwd").read()),
    "project": tried(lambda: os.listdir("FOLDER")),
    "upwards": tried(lambda: open("../../../../etc/passwd").read()),
    "symlink": tried(escape),
    "processes": tried(lambda: os.listdir("/proc/1")),
    "network": tried(connect),
    "fill": tried(fill),
    "library": tried(lambda: open(os.__file__, "a")),
    "become_root": tried(lambda: os.setuid(0)),
    "environment": {name: value for name, value in os.environ.items() if name != "LC_CTYPE"},
    "installed": any("site-packages" in path for path in sys.path),
}))
"""


def test_a_cell_sees_no_files_network_processes_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    with socket.create_server(("127.0.0.1", 0)) as server:
        grasp = GRASP.replace("PORT", str(server.getsockname()[1])).replace("FOLDER", os.getcwd())  # noqa: PTH109
        fenced = sandbox()
        found = json.loads(fenced.run(grasp).output)

    assert found["environment"] == {}
    assert found["installed"] is False
    assert found["become_root"] == "refused" or os.getuid() != 0
    kept_out = {"passwd", "project", "upwards", "symlink", "processes", "network", "fill", "library"}
    if fenced.isolation == "namespaces":
        assert {name for name in kept_out if found[name] == "refused"} == kept_out
    else:
        assert found["network"] == "connected"  # which is why the weak fence is called weak


BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_a_fork_bomb_stays_small_and_leaves_nothing_behind() -> None:
    ran = sandbox(wall_s=1.5).run(BOMB)

    assert ran.timed_out
    assert left_behind() == []


def test_a_process_that_hides_in_a_session_of_its_own_is_found() -> None:
    hide = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)"
    ran = sandbox().run(hide)

    assert ran.status == 0
    assert left_behind() == []


@pytest.mark.parametrize(
    "program",
    ["while True: pass", "import re; re.match('(a+)+$', 'a' * 64 + 'b')", "import time; time.sleep(60)"],
    ids=["endless loop", "catastrophic regex", "sleep"],
)
def test_what_does_not_end_is_ended(program: str) -> None:
    ran = sandbox(wall_s=2.0, cpu_s=1).run(program)

    assert ran.timed_out or ran.status != 0
    assert ran.seconds < 30


def test_ten_gigabytes_are_refused() -> None:
    assert "MemoryError" in sandbox().run("bytearray(10 * 2**30)").errors


def test_endless_output_is_cut_off() -> None:
    ran = sandbox().run("while True: print('x' * 1000)")

    assert ran.status != 0 or ran.timed_out
    assert len(ran.output) <= QUICK.file_kb * 1024


def test_a_weak_fence_is_used_only_where_it_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "strongest_isolation", lambda: "process")

    assert Sandbox(allow_weak=True).isolation == "process"
    with pytest.raises(SandboxError, match="allow_weak"):
        Sandbox().run("print(1)")


def test_a_weak_fence_still_has_limits_a_folder_of_its_own_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    monkeypatch.setattr(host, "strongest_isolation", lambda: "process")
    monkeypatch.setattr(host, "_uid_of_its_own", lambda: None)  # the interpreter of these tests need not be readable for others
    program = "import os\nprint(sorted(os.environ), os.listdir('.'))\nbytearray(10 * 2**30)"
    ran = sandbox().run(program)

    assert "SECRET_TOKEN" not in ran.output
    assert "[]" in ran.output
    assert "MemoryError" in ran.errors


def test_a_process_of_a_weak_fence_that_hides_in_a_session_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "strongest_isolation", lambda: "process")
    monkeypatch.setattr(host, "_uid_of_its_own", lambda: None)
    ran = sandbox().run("import os, time\npid = os.fork()\nif pid == 0:\n    os.setsid()\n    time.sleep(600)\nprint(pid)")

    assert not psutil.pid_exists(int(ran.output))


def test_limits_of_a_shared_account_leave_room_for_what_runs_already(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.os, "getuid", lambda: psutil.Process().uids().real or 1)

    assert host._already_running("process") >= 0
    assert host._already_running("namespaces") == 0
    assert host._uid_of_its_own() is None


def test_where_no_cell_can_be_made_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_visible", lambda: ["/no/such/folder"])
    monkeypatch.setattr(host, "BOOTSTRAP", "raise SystemExit('no interpreter')")
    host.strongest_isolation.cache_clear()
    with pytest.raises(SandboxError, match="no cell can be made"):
        sandbox().run("print(1)")
    host.strongest_isolation.cache_clear()


def test_a_signal_that_ended_a_program_shows_in_its_status() -> None:
    quick = sandbox(cpu_s=1)

    assert quick.run("while True: pass").status == 128 + 9


@pytest.mark.parametrize("status", [1, 97, 255])
def test_no_exit_status_is_taken_for_a_broken_fence(status: int) -> None:
    assert sandbox().run(f"raise SystemExit({status})").status == status


def test_the_isolation_found_is_one_that_works() -> None:
    host.strongest_isolation.cache_clear()

    assert sandbox().isolation in ("namespaces", "process")


def test_a_fence_that_cannot_be_put_up_is_an_error_and_the_code_is_not_run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_visible", lambda: [str(tmp_path / "missing")])
    monkeypatch.setattr(host, "strongest_isolation", lambda: "namespaces")

    with pytest.raises(SandboxError, match="missing"):
        sandbox().run("print('run')")
