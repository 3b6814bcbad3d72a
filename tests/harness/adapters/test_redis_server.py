"""The private redis-server: real ones, started, shared, killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from patience import LONG_S, until

from harness.adapters.redis import server as module
from harness.adapters.redis.server import EmbeddedRedis, find_redis_server
from harness.core.errors import UsageError

try:
    find_redis_server()
    missing = False
except UsageError:
    missing = True
pytestmark = pytest.mark.skipif(missing and not os.environ.get("CI"), reason="no redis-server here; in CI this must not hide a test")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder whose server, if any, is stopped afterwards."""
    folder = tmp_path / "data"
    yield folder
    left = EmbeddedRedis.running(folder)
    if left is not None:
        left.stop(even_adopted=True)


def client(server: EmbeddedRedis) -> redis.Redis:
    """As any user of its URL."""
    return redis.Redis.from_url(server.url)


def ended(pid: int) -> bool:
    """No such process, or a zombie that its parent has not noticed."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return not state or state.startswith("Z")


def in_another_process(folder: Path, code: str) -> subprocess.Popen[str]:
    """Starts the folder's server in a process of its own, prints its pid, then runs `code`."""
    lines = (
        "import sys, time; from pathlib import Path; from harness.adapters.redis.server import EmbeddedRedis\n"
        f"server = EmbeddedRedis.start(Path({str(folder)!r}), durable=True)\n"
        f"print(server.pid, server.adopted, flush=True)\n{code}"
    )
    return subprocess.Popen([sys.executable, "-c", lines], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_it_answers_on_its_socket_only_and_forgets_when_it_is_not_durable(folder: Path) -> None:
    """A replay's Redis is nobody else's: no port, a socket for its owner, no file of data."""
    server = EmbeddedRedis.start(folder, durable=False)
    with client(server) as db:
        db.set("k", "v")
        config = db.config_get("*")
        assert (config["port"], config["appendonly"], config["save"], config["maxmemory-policy"]) == ("0", "no", "", "noeviction")
    assert oct(os.stat(server.socket).st_mode & 0o777) == "0o700"
    server.stop()
    server.stop()
    assert ended(server.pid)
    assert not Path(server.socket).exists()
    again = EmbeddedRedis.start(folder, durable=False)
    with client(again) as db:
        assert db.get("k") is None
    again.stop()


def test_durable_data_survive_a_stop(folder: Path) -> None:
    """`shadow up` goes on where it was stopped."""
    server = EmbeddedRedis.start(folder, durable=True)
    with client(server) as db:
        db.set("k", "v")
        assert db.config_get("appendfsync") == {"appendfsync": "everysec"}
    server.stop()
    again = EmbeddedRedis.start(folder, durable=True)
    assert not again.adopted
    with client(again) as db:
        assert db.get("k") == b"v"
    again.stop()


def test_durable_data_survive_a_kill_of_the_server(folder: Path) -> None:
    """What Redis has written is the system's: kill -9 of the process loses nothing, and a stale socket is no obstacle."""
    server = EmbeddedRedis.start(folder, durable=True)
    with client(server) as db:
        for n in range(1000):
            db.set(f"k{n}", n)
    os.kill(server.pid, signal.SIGKILL)
    until(lambda: ended(server.pid))
    assert Path(server.socket).exists()
    again = EmbeddedRedis.start(folder, durable=True)
    assert (again.adopted, again.pid != server.pid) == (False, True)
    with client(again) as db:
        assert db.dbsize() == 1000
    again.stop()


def test_a_log_cut_in_the_middle_of_a_write_is_loaded_up_to_there(folder: Path) -> None:
    """A power cut leaves half a command; positions and effects are written together, so both are lost together."""
    server = EmbeddedRedis.start(folder, durable=True)
    with client(server) as db:
        db.set("a", "1")
        db.set("b", "x" * 1000)
    server.stop()
    (log,) = [path for path in folder.rglob("*.aof") if path.stat().st_size > 1000]
    os.truncate(log, log.stat().st_size - 500)
    again = EmbeddedRedis.start(folder, durable=True)
    with client(again) as db:
        assert (db.get("a"), db.get("b")) == (b"1", None)
    again.stop()


def test_loading_much_data_is_waited_for(folder: Path) -> None:
    """Ready means that all data are there: PING is refused before."""
    server = EmbeddedRedis.start(folder, durable=True)
    with client(server) as db:
        db.eval("for i = 1, 200000 do redis.call('SET', 'key:' .. i, i) end", 0)
    server.stop()
    again = EmbeddedRedis.start(folder, durable=True)
    with client(again) as db:
        assert db.dbsize() == 200_000
    again.stop()


def test_a_second_start_is_given_the_running_server_and_does_not_stop_it(folder: Path) -> None:
    """`shadow status` beside `shadow up` sees the same data, and leaves it running."""
    server = EmbeddedRedis.start(folder, durable=True)
    with client(server) as db:
        db.set("k", "v")
    other = in_another_process(folder, "server.stop()")
    assert other.communicate(timeout=LONG_S)[0].split() == [str(server.pid), "True"]
    with client(server) as db:
        assert db.get("k") == b"v"
    adopted = EmbeddedRedis.start(folder, durable=True)
    assert (adopted.adopted, adopted.url) == (True, server.url)
    adopted.stop(even_adopted=True)
    assert ended(server.pid)
    assert EmbeddedRedis.running(folder) is None


def test_many_starts_at_once_share_one_server(folder: Path) -> None:
    """Two servers on one append-only file would destroy it."""
    starts = [in_another_process(folder, "sys.stdin.read()") for _ in range(4)]
    found = [start.stdout.readline().split() for start in starts if start.stdout]
    for start in starts:
        start.communicate(timeout=LONG_S)
    assert len({pid for pid, _ in found}) == 1
    assert sorted(adopted for _, adopted in found) == ["False", "True", "True", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="the signal at a parent's death is Linux's")
def test_it_leaves_with_a_killed_owner_and_the_next_start_gets_a_new_one_with_the_data(folder: Path) -> None:
    """kill -9 of `shadow up`: no server stays behind, and one that is about to leave is not adopted."""
    code = "import redis; redis.Redis.from_url(server.url).set('k', 'v'); print('set', flush=True); time.sleep(600)"
    owner = in_another_process(folder, code)
    assert owner.stdout is not None
    pid, _ = owner.stdout.readline().split()
    assert owner.stdout.readline() == "set\n"
    owner.kill()
    owner.communicate()
    again = EmbeddedRedis.start(folder, durable=True)
    assert (again.adopted, again.pid != int(pid)) == (False, True)
    with client(again) as db:
        assert db.get("k") == b"v"
    assert ended(int(pid))
    again.stop()


def test_a_folder_too_deep_for_a_socket_gets_one_elsewhere(tmp_path: Path) -> None:
    """A socket's path has 108 bytes; people's folders have more."""
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    server = EmbeddedRedis.start(folder, durable=True)
    assert len(server.socket.encode()) <= module.LONGEST_SOCKET
    assert Path(server.socket).parent.stat().st_mode & 0o077 == 0
    with client(server) as db:
        db.set("k", "v")
    assert EmbeddedRedis.start(folder, durable=True).adopted
    server.stop()
    assert not Path(server.socket).parent.exists()
    again = EmbeddedRedis.start(folder, durable=True)
    with client(again) as db:
        assert db.get("k") == b"v"
    again.stop()


def test_a_server_of_the_other_durability_is_refused(folder: Path) -> None:
    """Evidence must not end up in a server that forgets."""
    server = EmbeddedRedis.start(folder, durable=False)
    with pytest.raises(UsageError, match=r"runs here that is not durable, expected one that is"):
        EmbeddedRedis.start(folder, durable=True)
    server.stop()


def test_a_server_that_cannot_start_says_why(folder: Path) -> None:
    """With the last line of its log."""
    folder.mkdir()
    for name in ("appendonly.aof", "appendonlydir/appendonly.aof.manifest"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("this is no append-only file\n")
    with pytest.raises(UsageError, match=r"the private redis-server ended with code 1: .*redis\.log"):
        EmbeddedRedis.start(folder, durable=True)
    assert EmbeddedRedis.running(folder) is None


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "data").write_text("")
    with pytest.raises(UsageError, match=r"data: no redis-server can be started here"):
        EmbeddedRedis.start(tmp_path / "data", durable=True)


def test_without_a_redis_server_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A laptop with nothing installed is the first five minutes."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.path_importer_cache.clear()
    with pytest.raises(UsageError, match=r"apt install redis-server.*brew install redis.*shadow-harness\[embedded\]"):
        find_redis_server()
