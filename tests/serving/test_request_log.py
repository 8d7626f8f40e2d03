import asyncio
import json
import logging

import pytest

from rheostat.serving import request_log
from rheostat.serving.request_log import NoLog, RequestLog, open_log


@pytest.fixture
def dropped():
    return []


async def test_every_line_is_one_json_object_whatever_is_in_it(tmp_path, dropped):
    log = open_log(str(tmp_path / "log"), on_drop=dropped.append)
    lines = [{"path": "/v1/\r\n\x1b[2J", "tenant": "ü"}, {"status": 200}]
    for line in lines:
        log.write(line)
        await log.flush()
    assert [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()] == lines
    assert dropped == []


async def test_a_file_that_was_moved_away_is_begun_anew(tmp_path, dropped):
    log = RequestLog(str(tmp_path / "log"), on_drop=dropped.append)
    for number in range(2):
        log.write({"number": number})
        await log.flush()
        (tmp_path / "log").rename(tmp_path / f"log.{number}")
    assert [json.loads((tmp_path / f"log.{number}").read_text()) for number in range(2)] == [{"number": 0}, {"number": 1}]


async def test_lines_a_disk_refuses_are_counted_and_nothing_fails(tmp_path, dropped):
    log = RequestLog(str(tmp_path / "no" / "folder"), on_drop=dropped.append)
    for _ in range(3):
        log.write({})
    await log.flush()
    await log.flush()
    assert dropped == [3]


async def test_lines_that_are_lost_are_told_once_and_spoil_none_that_follow(tmp_path, dropped, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "later" / "log"
    log = RequestLog(str(path), on_drop=dropped.append)
    for number in range(4):
        if number == 2:
            path.parent.mkdir()
            path.write_text('{"number": 0, "cut')
        log.write({"number": number})
        await log.flush()
    told = [message.partition(":")[0] for message in caplog.messages]
    assert told == ["lines of the request log are lost", "the request log is written again"]
    assert path.read_text().splitlines() == ['{"number": 0, "cut', '{"number":2}', '{"number":3}']


async def test_memory_is_bounded_while_nothing_is_written(tmp_path, dropped, monkeypatch):
    monkeypatch.setattr(request_log, "MAX_LINES", 10)
    log = RequestLog(str(tmp_path / "log"), on_drop=dropped.append)
    for number in range(12):
        log.write({"number": number})
    await log.flush()
    assert len((tmp_path / "log").read_bytes().splitlines()) == 10
    assert sum(dropped) == 2


async def test_lines_are_written_while_it_runs_and_go_to_standard_output_where_asked(capfdbinary, dropped):
    log = open_log("-", on_drop=dropped.append)
    log.write({"status": 200})
    running = asyncio.create_task(log.run())
    written = b""
    async with asyncio.timeout(30):
        while not written:
            await asyncio.sleep(0.01)
            written = capfdbinary.readouterr().out
    running.cancel()
    assert written == b'{"status":200}\n'


async def test_no_log_takes_everything_and_keeps_nothing(dropped):
    log = open_log("", on_drop=dropped.append)
    assert isinstance(log, NoLog)
    log.write({})
    await log.run()
    await log.flush()
