"""Roles as processes: real small ones, killed, refused, stopped and orphaned."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from patience import LONG_S, until

from harness import supervisor as module
from harness.core.errors import UsageError
from harness.supervisor import Supervisor

SLEEPER = "import time\nwhile True: time.sleep(0.05)"
STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n{SLEEPER}"
POLITE = f"""import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(0)))
print('ready', flush=True)
{SLEEPER}"""
PARENT = f"""import subprocess
print(subprocess.Popen(['sleep', '600']).pid, flush=True)
{SLEEPER}"""

Events = list[tuple[str, Mapping[str, object]]]
Supervise = Callable[..., tuple[Supervisor, Events]]


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Supervise]:
    """Makes supervisors of Python programs, and stops what a failed test leaves."""
    made: list[Supervisor] = []

    def make(**programs: str | Sequence[str]) -> tuple[Supervisor, Events]:
        events: Events = []
        specs = {name: [sys.executable, "-c", code] if isinstance(code, str) else code for name, code in programs.items()}
        made.append(Supervisor(specs, folder=tmp_path, on_event=lambda name, fields: events.append((name, fields))))
        return made[-1], events

    yield make
    for each in made:
        each.stop(timeout_s=0)


def written(folder: Path) -> dict[str, int]:
    """roles.json."""
    found: dict[str, int] = json.loads((folder / "roles.json").read_text())
    return found


def run_until(supervisor: Supervisor, condition: Callable[[], bool], timeout_s: float = LONG_S) -> None:
    """Supervise until the condition holds."""
    deadline = time.monotonic() + timeout_s
    supervisor.run(lambda: condition() or time.monotonic() > deadline)
    assert condition()


def ended(pid: int) -> bool:
    """No such process, or a zombie that its parent has not noticed."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return not state or state.startswith("Z")


def test_every_role_is_a_process_and_the_file_names_it(supervise: Supervise, tmp_path: Path) -> None:
    """`shadow status` and fault tests find a role by that file."""
    supervisor, events = supervise(router=SLEEPER, joiner=SLEEPER)
    supervisor.start()
    assert written(tmp_path) == supervisor.pids()
    assert set(written(tmp_path)) == {"router", "joiner"}
    assert not any(ended(pid) for pid in written(tmp_path).values())
    assert events == [("role.started", {"role": name, "pid": pid}) for name, pid in supervisor.pids().items()]


def test_a_killed_role_is_started_again_and_the_others_are_left_alone(supervise: Supervise, tmp_path: Path) -> None:
    """Everything is restartable by killing it."""
    supervisor, events = supervise(router=SLEEPER, joiner=SLEEPER)
    supervisor.start()
    before = dict(supervisor.pids())
    os.kill(before["router"], signal.SIGKILL)
    run_until(supervisor, lambda: supervisor.pids().get("router", before["router"]) != before["router"])
    assert supervisor.pids()["joiner"] == before["joiner"]
    assert written(tmp_path) == supervisor.pids()
    (death,) = [fields for name, fields in events if name == "role.ended"]
    assert (death["role"], death["signal"], death["restart_in_s"]) == ("router", "SIGKILL", 0.1)


def test_a_dead_role_is_not_in_the_file(supervise: Supervise, tmp_path: Path) -> None:
    """Its number may soon be another process's."""
    supervisor, _ = supervise(router=SLEEPER)
    supervisor.start()
    pid = supervisor.pids()["router"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: ended(pid))
    supervisor.step()
    assert written(tmp_path) == {}


def test_a_role_that_keeps_dying_is_started_ever_more_rarely(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken role must not eat the machine; five seconds is the longest that a repaired one waits."""
    monkeypatch.setattr(module, "HEALTHY_S", LONG_S)  # a stall is no health
    supervisor, events = supervise(lane="raise SystemExit(1)")
    supervisor.start()
    run_until(supervisor, lambda: sum(name == "role.ended" for name, _ in events) == 4)
    assert [fields["restart_in_s"] for name, fields in events if name == "role.ended"] == [0.1, 0.2, 0.4, 0.8]


def test_a_role_that_was_healthy_is_started_again_at_once(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause is for roles that die young."""
    monkeypatch.setattr(module, "HEALTHY_S", 0.0)
    supervisor, events = supervise(lane="raise SystemExit(0)")
    supervisor.start()
    run_until(supervisor, lambda: sum(name == "role.ended" for name, _ in events) == 3)
    assert [fields["restart_in_s"] for name, fields in events if name == "role.ended"] == [0.1] * 3


def test_wrong_use_stops_everything_and_is_reported_in_the_roles_words(supervise: Supervise, tmp_path: Path) -> None:
    """Exit code 2: a restart would say the same for ever, and nobody would read it."""
    wrong = "import sys\nprint('configs/age.yaml: 1 problem', file=sys.stderr)\nsys.exit(2)"
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "lane.log").write_text("words of an earlier run\n")
    supervisor, _ = supervise(router=SLEEPER, lane=wrong)
    supervisor.start()
    router = supervisor.pids()["router"]
    with pytest.raises(UsageError) as error:
        run_until(supervisor, lambda: False)
    assert str(error.value).endswith("it said:\nconfigs/age.yaml: 1 problem")
    assert ended(router)
    assert (dict(supervisor.pids()), written(tmp_path)) == ({}, {})


def test_a_command_that_does_not_exist_stops_everything(supervise: Supervise) -> None:
    """Half a rollout is none."""
    supervisor, events = supervise(router=SLEEPER, lane=["/no/such/command"])
    with pytest.raises(UsageError, match="lane: /no/such/command cannot be started"):
        supervisor.start()
    assert ended(int(str(events[0][1]["pid"])))


def test_stopping_asks_first(supervise: Supervise, tmp_path: Path) -> None:
    """A role finishes its step when asked."""
    supervisor, events = supervise(polite=POLITE)
    supervisor.start()
    pid, log = supervisor.pids()["polite"], tmp_path / "log" / "polite.log"
    until(lambda: "ready" in log.read_text())
    supervisor.stop(timeout_s=LONG_S)
    assert events[1:] == [("role.stopped", {"role": "polite", "exit_code": 0})]
    assert log.read_text() == "ready\nbye\n"
    assert ended(pid) and written(tmp_path) == {}


def test_stopping_kills_after_the_timeout(supervise: Supervise, tmp_path: Path) -> None:
    """One that is deaf does not hold up the end; one that heard is stopped, or killed with it if the machine is slow."""
    supervisor, events = supervise(deaf=STUBBORN, polite=POLITE)
    supervisor.start()
    pids, log = dict(supervisor.pids()), tmp_path / "log"
    until(lambda: "deaf" in (log / "deaf.log").read_text() and "ready" in (log / "polite.log").read_text())
    supervisor.stop(timeout_s=0.5)
    assert events[2] == ("role.killed", {"role": "deaf", "pid": pids["deaf"]})
    assert events[3] in (("role.stopped", {"role": "polite", "exit_code": 0}), ("role.killed", {"role": "polite", "pid": pids["polite"]}))
    assert all(ended(pid) for pid in pids.values())
    assert written(tmp_path) == {}


@pytest.mark.parametrize("how", ["stop", "death"])
def test_what_a_role_started_ends_with_it(supervise: Supervise, tmp_path: Path, how: str) -> None:
    """A role's own children hold sockets and memory that the next one needs."""
    supervisor, _ = supervise(lane=PARENT)
    supervisor.start()
    log = tmp_path / "log" / "lane.log"
    until(lambda: log.read_text().endswith("\n"))
    child = int(log.read_text())
    if how == "stop":
        supervisor.stop()
    else:
        os.kill(supervisor.pids()["lane"], signal.SIGKILL)
        run_until(supervisor, lambda: ended(child))
    until(lambda: ended(child))


def test_a_stopped_supervisor_can_be_stopped_again(supervise: Supervise) -> None:
    """Cleaning up twice is no error."""
    supervisor, events = supervise(router=SLEEPER)
    supervisor.start()
    supervisor.stop()
    supervisor.stop()
    assert [name for name, _ in events] == ["role.started", "role.stopped"]


def test_a_large_log_is_put_aside_at_the_next_start(supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A role that dies often may not fill the disk."""
    monkeypatch.setattr(module, "LARGEST_LOG", 10)
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "polite.log").write_text("x" * 11)
    supervisor, _ = supervise(polite=POLITE)
    supervisor.start()
    assert (tmp_path / "log" / "polite.log.1").read_text() == "x" * 11
    until(lambda: (tmp_path / "log" / "polite.log").read_text() == "ready\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at a parent's death is Linux's; elsewhere roles look for their parent")
def test_no_role_is_orphaned_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """kill -9 of `shadow up`: roles left behind would go on with the next one's shards."""
    code = (
        "import sys; from pathlib import Path; from harness.supervisor import Supervisor\n"
        f"specs = {{name: [sys.executable, '-c', {SLEEPER!r}] for name in ('router', 'joiner')}}\n"
        f"supervisor = Supervisor(specs, folder=Path({str(tmp_path)!r}), on_event=lambda name, fields: None)\n"
        "supervisor.start(); print('started', flush=True); supervisor.run(lambda: False)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "started\n"
    pids = written(tmp_path)
    assert len(pids) == 2
    parent.kill()
    parent.communicate()
    until(lambda: all(ended(pid) for pid in pids.values()))
