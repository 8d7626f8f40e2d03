import asyncio

import pytest

from rheostat.data.errors import ConfigError
from rheostat.serving.config_watch import ConfigWatch
from rheostat.serving.metrics import Metrics
from tests.serving.conftest import wait_until

BACKEND = '[[backend]]\nname = "{0}"\nurl = "http://127.0.0.1:1"\nmodel = "pocket"\n'


class Watched:
    def __init__(self, folder):
        self.path = folder / "rheostat.toml"
        self.path.write_text(BACKEND.format("a"))
        self.applied = []
        self.refuse = None
        self.refusals = []
        self.metrics = Metrics()
        self.watch = ConfigWatch(self.path, apply=self.apply, on_refused=self.refusals.append, metrics=self.metrics)

    def apply(self, config):
        if self.refuse is not None:
            raise self.refuse
        self.applied.append([backend.name for backend in config.backend])

    async def write(self, text):
        self.path.write_text(text)
        await self.watch.look()


@pytest.fixture
def watched(tmp_path):
    return Watched(tmp_path)


async def test_a_change_is_applied_once(watched):
    await watched.watch.look()
    for _ in range(2):
        await watched.write(BACKEND.format("a") + BACKEND.format("b"))
    assert watched.applied == [["a", "b"]]
    assert (watched.watch.status.applied, watched.watch.status.error) == (1, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("= 3", "no TOML"),
        ("", "no \\[\\[backend\\]\\]|backend"),
        (BACKEND.format("a") + "[srver]\n", "unknown key srver"),
        (BACKEND.format("a") + "[server]\nport = 1\n", "\\[server\\] changed, which takes a restart"),
        (BACKEND.format("a") + '[store]\npath = "other.db"\n', "\\[store\\] changed"),
    ],
)
async def test_a_file_that_does_not_fit_changes_nothing_and_says_why(watched, text, says):
    await watched.write(text)
    assert watched.applied == []
    with pytest.raises(ConfigError, match=says):
        raise ConfigError(watched.watch.status.error)
    await watched.write(BACKEND.format("c"))
    assert watched.applied == [["c"]]
    assert watched.watch.status.error is None


async def test_what_the_process_cannot_take_over_is_refused_and_counted_once(watched):
    watched.refuse = ConfigError("the environment variable X is not set")
    await watched.write(BACKEND.format("b"))
    for _ in range(3):
        await watched.watch.look()
    assert watched.watch.status.error == "the environment variable X is not set"
    assert watched.metrics.registry.get_sample_value("rheostat_config_reloads_total", {"result": "refused"}) == 1


async def test_a_file_that_vanishes_is_said_and_waited_for(watched):
    text = watched.path.read_text()
    watched.path.unlink()
    for _ in range(2):
        await watched.watch.look()
    assert "cannot read the config file" in watched.watch.status.error
    await watched.write(text + "[congestion]\nweight = 2.0\n")
    assert len(watched.applied) == 1


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\xff")])
async def test_a_file_that_comes_back_as_it_was_is_fine_again(watched, spoil):
    text = watched.path.read_text()
    spoil(watched.path)
    await watched.watch.look()
    assert watched.watch.status.error
    await watched.write(text)
    assert watched.watch.status.error is None


async def test_a_file_that_comes_back_empty_is_refused_for_that(watched):
    watched.path.unlink()
    await watched.watch.look()
    await watched.write("")
    assert "backend" in watched.watch.status.error


async def test_a_signal_does_not_wait_for_the_next_look(watched, monkeypatch):
    monkeypatch.setattr("rheostat.serving.config_watch.LOOK_S", 3600.0)
    running = asyncio.create_task(watched.watch.run())
    await asyncio.sleep(0)
    watched.path.write_text(BACKEND.format("b"))
    watched.watch.look_soon()
    await asyncio.to_thread(wait_until, lambda: watched.applied)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
