"""Who may do what on a running sidecar, and what leaks."""

import contextlib
import hashlib
import http.client
import json
import socket
import subprocess
import sys

import openai
import pytest

from tests.serving.conftest import ROOT, Sidecar, get, running, wait_until

KEYS = ("sk-ann-0123456789", "sk-bob-0123456789", "sk-small-0123456789", "sk-large-0123456789")
MESSAGES = [{"role": "user", "content": "What is 2 plus 3? Say secret-question."}]
SHA = {key: hashlib.sha256(key.encode()).hexdigest() for key in (*KEYS, "sk-new-0123456789")}


def key(name, secret, more=""):
    return f'[[key]]\nname = "{name}"\nsha256 = "{SHA[secret]}"\ntenant = "{name}"\n{more}\n'


CONFIG = (
    key("ann", KEYS[0])
    + key("bob", KEYS[1], 'tiers = ["quick"]')
    + key("small", KEYS[2], "[key.limits]\ntokens_per_minute = 300\nrequests_per_minute = 4")
    + key("large", KEYS[3], "[key.limits]\nrequests_per_minute = 1000")
    + '[admin]\nport = {port}\naudit = "{audit}"\n[log]\nrequests = "{log}"\n'
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("access")


@pytest.fixture(scope="module")
def admin_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def guarded(folder, engine, large_engine, admin_port):
    more = CONFIG.format(port=admin_port, audit=folder / "audit.jsonl", log=folder / "requests.jsonl")
    with running(Sidecar(folder, [engine, large_engine], more=more, store_prompts="off")) as started:
        yield started


def client(sidecar, secret):
    return openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key=secret, max_retries=0)


def ask(sidecar, secret, model="auto:quick", **fields):
    with client(sidecar, secret) as made:
        return made.chat.completions.create(model=model, messages=MESSAGES, **fields)


def refused(sidecar, secret, kind, **fields):
    with pytest.raises(kind) as caught:
        ask(sidecar, secret, **fields)
    return caught.value


@pytest.mark.parametrize(
    "sent",
    [
        [], [""], ["Bearer"], ["Bearer "], [KEYS[0]], [f"Basic {KEYS[0]}"], [f"Bearer {KEYS[0][:-1]}"], [f"Bearer {KEYS[0]}0"],
        [f"Bearer {SHA[KEYS[0]]}"], [f"Bearer {KEYS[0]}, Bearer {KEYS[1]}"], [f"Bearer {KEYS[0]}"] * 2,
        [f"Bearer {KEYS[0]}", f"Bearer {KEYS[1]}"],
    ],
)  # fmt: skip
def test_no_key_or_a_wrong_one_or_two_are_refused_before_the_body_is_read(guarded, sent):
    connection = http.client.HTTPConnection("127.0.0.1", guarded.port, timeout=10)
    connection.putrequest("POST", "/v1/chat/completions")
    for value in sent:
        connection.putheader("Authorization", value)
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    answer = connection.getresponse()
    error = json.loads(answer.read())["error"]
    connection.close()
    assert (answer.status, error["code"], error["param"]) == (401, "invalid_api_key", "authorization")


def test_a_key_keeps_to_its_tiers(guarded):
    assert ask(guarded, KEYS[1]).choices
    for fields in ({"model": "auto:deep"}, {"model": "pocket"}, {"extra_body": {"rheostat": {"action": "pocket/cot@64"}}}):
        assert refused(guarded, KEYS[1], openai.PermissionDeniedError, **fields).code == "tier_not_allowed"


def test_a_request_over_all_that_its_key_may_use_is_told_that_waiting_is_of_no_use(guarded, engine):
    error = refused(guarded, KEYS[2], openai.RateLimitError, extra_body={"rheostat": {"action": "pocket/self_consistency(k=4)@800"}})
    assert error.code == "rate_limit_exceeded"
    headers = error.response.headers
    assert (headers["x-should-retry"], headers.get("retry-after")) == ("false", None)
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-limit-requests"]) == ("300", "4")


@pytest.mark.parametrize("stream", [False, True])
def test_a_limited_key_is_told_what_is_left_of_its_minute(guarded, stream):
    with client(guarded, KEYS[3]) as made:
        raw = made.chat.completions.with_raw_response.create(model="auto:quick", messages=MESSAGES, stream=stream)
    assert raw.headers["x-ratelimit-limit-requests"] == "1000"
    assert 0 <= int(raw.headers["x-ratelimit-remaining-requests"]) < 1000
    assert "x-ratelimit-limit-tokens" not in raw.headers


def test_a_limit_of_requests_counts_streams_too(guarded):
    with client(guarded, KEYS[2]) as made:
        for _ in range(6):
            with contextlib.suppress(openai.RateLimitError):
                list(made.chat.completions.create(model="auto:quick", messages=MESSAGES, stream=True))
    error = refused(guarded, KEYS[2], openai.RateLimitError, stream=True)
    assert "requests a minute" in str(error)
    assert 0 < int(error.response.headers["retry-after"]) <= 60


def test_usage_is_the_keys_own_tenants(guarded):
    ask(guarded, KEYS[0])

    def rows(secret):
        with client(guarded, secret) as made:
            return made.get("/usage", cast_to=dict[str, object])["data"]

    wait_until(lambda: rows(KEYS[0]))
    assert {row["tenant"] for row in rows(KEYS[0])} == {"ann"}
    with client(guarded, "wrong") as made, pytest.raises(openai.AuthenticationError):
        made.get("/usage", cast_to=dict[str, object])


def admin(port, path, host="127.0.0.1", method="GET"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, headers={"Host": host})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


def test_the_admin_listener_shows_all_tenants_and_is_not_on_the_main_one(guarded, admin_port):
    ask(guarded, KEYS[0])
    wait_until(lambda: b'"ann"' in admin(admin_port, "/admin/usage")[1])
    names = [row["name"] for row in json.loads(admin(admin_port, "/admin/keys")[1])["data"]]
    assert names == ["ann", "bob", "small", "large"]
    assert admin(admin_port, "/v1/models")[0] == 404
    assert admin(guarded.port, "/admin/keys")[0] == 404


@pytest.mark.parametrize(
    ("path", "status", "param"), [("/admin/usage?days=0", 400, "days"), ("/admin/nope", 404, "path"), ("/admin/reload", 405, "method")]
)
def test_the_admin_listener_says_what_does_not_fit(admin_port, guarded, path, status, param):
    told, body = admin(admin_port, path)
    assert (told, json.loads(body)["error"]["param"]) == (status, param)


def test_the_admin_listener_answers_under_loopback_names_only(admin_port, guarded):
    assert admin(admin_port, "/admin/keys", host=f"localhost:{admin_port}")[0] == 200
    assert admin(admin_port, "/admin/keys", host="evil.example")[0] == 403


def test_keys_change_without_a_restart_and_the_audit_log_tells(guarded, folder, admin_port):
    file = folder / f"rheostat-{guarded.port}.toml"
    text = file.read_text()
    file.write_text(text.replace(SHA[KEYS[1]], SHA["sk-new-0123456789"]))
    assert admin(admin_port, "/admin/reload", method="POST")[0] == 200
    wait_until(lambda: guarded.ready()["config"]["applied"] == 1)
    assert ask(guarded, "sk-new-0123456789").choices
    refused(guarded, KEYS[1], openai.AuthenticationError)
    file.write_text("[[backend]")
    wait_until(lambda: guarded.ready()["config"]["error"] is not None)
    entries = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    assert {"reload", "config_applied", "config_refused"} <= {entry["action"] for entry in entries}
    applied = [entry["details"] for entry in entries if entry["action"] == "config_applied"]
    assert applied == [{"sections": ["key"], "keys": ["ann", "bob", "small", "large"]}]
    whys = [entry["details"]["why"] for entry in entries if entry["action"] == "config_refused"]
    assert whys == [guarded.ready()["config"]["error"]]
    file.write_text(text)
    wait_until(lambda: guarded.ready()["config"]["applied"] == 2)


def test_no_key_and_no_prompt_is_in_anything_written(guarded, folder):
    for secret in (*KEYS, "sk-wrong-0123456789"):
        with contextlib.suppress(openai.APIStatusError):
            ask(guarded, secret)
    metrics = get(f"{guarded.url}/metrics")
    wait_until(lambda: (folder / "requests.jsonl").exists())
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".toml") + metrics
    assert b"decisions" in written
    for secret in (*KEYS, "sk-wrong-0123456789", "secret-question"):
        assert secret.encode() not in written


def lines_of(folder, **wanted):
    """The lines of the request log with these fields."""
    path = folder / "requests.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line for line in lines if wanted.items() <= line.items()]


def test_the_log_says_whose_request_was_refused_and_why(guarded, folder):
    refused(guarded, KEYS[1], openai.PermissionDeniedError, model="auto:deep")
    refused(guarded, KEYS[3], openai.BadRequestError, temperature=-1)
    wait_until(lambda: lines_of(folder, key="bob", tenant="bob", status=403, error="tier_not_allowed"))
    wait_until(lambda: lines_of(folder, key="large", tenant="large", status=400, error="invalid_request_error"))


@pytest.mark.parametrize(
    "path",
    [
        "/pause", "/invocations", "/update_weights", "/v1/load_lora_adapter", "/abort_requests", "/sleep", "/reset_prefix_cache",
        "/v1/chat%2Fcompletions", "/v1//models", "/v1/./models", "/v1/../v1/models", "/%761/models", "/v1/models;x", "//127.0.0.1/v1",
    ],
)  # fmt: skip
def test_no_other_path_and_no_second_spelling_is_reachable(guarded, path):
    for method in ("GET", "POST"):
        assert admin(guarded.port, path, method=method)[0] == 404


def test_the_host_header_changes_nothing(guarded):
    for host in ("evil.example", "127.0.0.1:1", ""):
        assert admin(guarded.port, "/healthz", host=host)[0] == 200
        assert admin(guarded.port, "/pause", host=host, method="POST")[0] == 404


def test_a_port_in_use_is_one_sentence(guarded, folder, admin_port):
    file = folder / "second.toml"
    text = (folder / f"rheostat-{guarded.port}.toml").read_text()
    file.write_text(text.replace(str(guarded.store), str(folder / "second.db")).replace(str(guarded.port), "0"))
    command = [sys.executable, "-m", "rheostat.serving.server", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert str(admin_port) in done.stderr
    assert "Traceback" not in done.stderr
