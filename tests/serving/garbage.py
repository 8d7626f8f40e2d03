"""A hundred and more bodies no client should send, each with the field its answer must name (None: any)."""

import json

MESSAGES = [{"role": "user", "content": "What is 2 plus 3?"}]


def body(**fields):
    return json.dumps({"model": "auto", "messages": MESSAGES, **fields}).encode()


def message(**fields):
    return body(messages=[fields])


NOT_JSON = [
    b"",
    b"{",
    b"}",
    b"null",
    b"[]",
    b"3",
    b'"text"',
    b"\x00",
    b"\xff\xfe",
    b'{"model": "auto"',
    b"{'model': 'auto'}",
    b"model=auto&messages=hello",
    body() + b"x",
    body() + body(),
    b"[" * 100_000 + b"]" * 100_000,
    b'{"model": "auto", "model',
    body().replace(b"2 plus", b"\\ud800"),
    body().replace(b"2 plus", b"\\udc00 x"),
    body().replace(b"2 plus", b"\xed\xa0\x80"),
    body().replace(b"2 plus", b"\x01\n"),
    body(temperature=0).replace(b"0}", b"NaN}"),
    body(temperature=0).replace(b"0}", b"-Infinity}"),
    body(temperature=0).replace(b"0}", b"01}"),
    b"<xml/>",
]

UNKNOWN_FIELDS = [
    (body(**{name: 1}), name)
    for name in (
        "foo",
        "Messages",
        "api_base",
        "base_url",
        "chat_template",
        "prompt_embeds",
        "functions",
        "best_of",
        "use_beam_search",
        "Model",
        "__proto__",
    )
] + [
    (body(rheostat={"target": 0.9}), "rheostat.target"),
    (body(stream_options={"x": True}), "stream_options.x"),
    (message(role="user", content="x", evil=1), "messages[0].evil"),
    (message(role="user", content=[{"type": "text", "text": "x", "y": 1}]), "messages[0].content[0].y"),
]

WRONG_TYPES = [
    (body(**{name: value}), name)
    for name, value in {
        "model": 3,
        "messages": "hello",
        "stream": "yes",
        "stream_options": [],
        "temperature": "hot",
        "top_p": [],
        "seed": 0.5,
        "n": "2",
        "max_tokens": "many",
        "max_completion_tokens": {},
        "stop": 3,
        "tools": {},
        "tool_choice": 3,
        "response_format": "json",
        "logit_bias": [],
        "top_k": "x",
        "user": 3,
        "metadata": "x",
        "rheostat": "cheap",
        "reasoning_effort": "extreme",
    }.items()
] + [
    (body(model=None), "model"),
    (body(messages=None), "messages"),
    (body(messages=[]), "messages"),
    (body(messages=[3]), None),
    (body(messages=[{"role": "system", "content": "x"}]), "messages"),
    (message(), "messages[0].role"),
    (message(role="king", content="x"), "messages[0].role"),
    (message(role=["user"], content="x"), "messages[0].role"),
    (message(role="user"), "messages[0].content"),
    (message(role="user", content=None), "messages[0].content"),
    (message(role="user", content=3), "messages[0].content"),
    (message(role="user", content=""), "messages[0].content"),
    (message(role="user", content="  \n"), "messages[0].content"),
    (message(role="user", content=[]), "messages[0].content"),
    (message(role="user", content=["x"]), "messages[0].content[0]"),
    (message(role="user", content=[{"type": "text"}]), "messages[0].content[0].text"),
    (message(role="user", content=[{"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}}]), "messages[0].content[0].type"),
    (message(role="user", content="x", name=3), "messages[0].name"),
    (message(role="assistant", content="x", tool_calls=3), "messages[0].tool_calls"),
    (b'{"messages": [{"role": "user", "content": "x"}]}', "model"),
    (b'{"model": "auto"}', "messages"),
    (body(rheostat={"target_accuracy": "high"}), "rheostat.target_accuracy"),
    (body(rheostat={"explore": 3}), "rheostat.explore"),
    (body(rheostat={"action": 3}), "rheostat.action"),
]

OUT_OF_RANGE = [
    (body(**{name: value}), name)
    for name, value in [
        ("temperature", -1),
        ("temperature", 1e6),
        ("top_p", 0),
        ("top_p", 1.1),
        ("n", 0),
        ("n", -1),
        ("n", 10**9),
        ("max_tokens", 0),
        ("max_tokens", -5),
        ("max_tokens", 10**9),
        ("max_tokens", 10**30),
        ("max_completion_tokens", -1),
        ("frequency_penalty", 9),
        ("presence_penalty", -9),
        ("repetition_penalty", 0),
        ("min_p", -1),
        ("top_k", -7),
        ("stop", [""]),
        ("stop", ["x"] * 1000),
        ("stop", "x" * 100_000),
        ("seed", 2**70),
        ("model", ""),
        ("model", "x" * 1000),
        ("tools", [{}] * 1000),
    ]
] + [
    (body(rheostat={name: value}), f"rheostat.{name}")
    for name, value in [
        ("target_accuracy", 0),
        ("target_accuracy", -0.5),
        ("target_accuracy", 1.01),
        ("confidence", 0),
        ("confidence", 1),
        ("max_cost_usd", -1),
        ("max_tokens_total", -1),
        ("max_tokens_total", 0),
        ("deadline_ms", -1),
        ("deadline_ms", 0),
        ("deadline_ms", 1e12),
        ("action", "nonsense"),
        ("action", "pocket/direct"),
        ("action", "pocket/direct@-4"),
    ]
]

OUT_OF_RANGE.append((body(logit_bias={"1": 1000}), "logit_bias.1"))

NESTED = [
    (body(response_format={"a": json.loads("[" * 200 + "]" * 200)}), "response_format"),
    (body(tools=[json.loads('{"a":' * 200 + "1" + "}" * 200)]), "tools"),
    (body(rheostat=json.loads('{"a":' * 200 + "1" + "}" * 200)), "rheostat.a"),
    (body(temperature=0).replace(b"0}", b"1e999}"), None),
    (b'{"a":' * 100_000, "body"),
    (b'{"model": "auto", "messages": ' + b"[" * 5_000, "body"),
]

DUPLICATES = [
    (body().replace(b'"model"', b'"model": "pocket", "model"', 1), "model"),
    (
        body(rheostat={"explore": False})
        .replace(b'"explore"', b'"explore": true, "explore"')
        .replace(b'"model"', b'"model": "a", "model"'),
        None,
    ),
    (body(n=1).replace(b'"n"', b'"\\u006e": 2, "n"'), "n"),
    (body(temperature=0).replace(b'"temperature"', b'"temperature": 1, "temperature"'), "temperature"),
]

ALL = [(raw, "body") for raw in NOT_JSON] + UNKNOWN_FIELDS + WRONG_TYPES + OUT_OF_RANGE + NESTED + DUPLICATES
