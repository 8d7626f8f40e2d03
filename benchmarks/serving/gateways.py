"""What is compared: every gateway as a process on one core, before the same upstream. Measures nothing.

The rivals are programs of their own. One that is not found is told as such, and the rest is measured without it.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.stacks import Process, free_port

HERE = Path(__file__).parent
ACTIONS = 24
TRAINED_ON = 400  # simulated questions: what is decided does not matter here, what deciding costs does
SYSTEM_BYTES = 4000  # with the question and the fields around it, a request of 4.4 KB
BODIES = 64
LEAST_ENCODER = "static"

NGINX = """daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream model {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{ proxy_pass http://model; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""
LITELLM = """model_list:
  - model_name: model-0
    litellm_params: {{model: openai/model-0, api_base: "http://127.0.0.1:{upstream}/v1", api_key: none}}
general_settings: {{dangerously_permit_weak_or_unset_master_key: true}}
"""
SIDECAR = """[tier.cheapest]
target_accuracy = 0.01
[store]
path = "{folder}/outcomes.db"
[router]
bundle = "{bundle}"
cache = "{folder}/bundles"
default_tier = "cheapest"
[server]
port = {port}
[log]
requests = "{folder}/requests.jsonl"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how gateways are started.

    Attributes:
        folder: for their files.
        upstream: port of what they forward to.
        prefix: what each command begins with, as to pin it to a core.
        programs: paths of the rivals by name; one without is looked up.
        bundles: folders of router bundles by the encoder's name.
    """

    folder: Path
    upstream: int
    prefix: tuple[str, ...] = ()
    programs: Mapping[str, Path] = field(default_factory=dict)
    bundles: Mapping[str, Path] = field(default_factory=dict)

    def start(self, name: str, command: list[str], port: int) -> Process:
        """Run a gateway's command; its output is kept in the folder."""
        return Process([*self.prefix, *command], port, self.folder / f"{name}.log")

    def program(self, name: str) -> str:
        """The path of a rival.

        Raises:
            FileNotFoundError: it is not installed.
        """
        found = shutil.which(str(self.programs.get(name, name)))
        if found is None:
            raise FileNotFoundError("not installed")
        return found


@dataclass(frozen=True, slots=True)
class Gateway:
    """One row of the comparison; `model` is what its clients ask for, `health` is a path that answers once it is up."""

    name: str
    start: Callable[[Place], Process]
    model: str = "model-0"
    health: str = "/health"


def _direct(place: Place) -> Process:
    port = free_port()
    return Process([sys.executable, str(HERE / "upstream.py"), "--port", str(port)], port, place.folder / "direct.log")


def _nginx(place: Place) -> Process:
    port, config = free_port(), place.folder / "nginx.conf"
    program = place.program("nginx")
    config.write_text(NGINX.format(folder=place.folder, port=port, upstream=place.upstream))
    return place.start("nginx", [program, "-e", "stderr", "-p", str(place.folder), "-c", str(config)], port)


def _vllm_router(place: Place) -> Process:
    port, worker = free_port(), f"http://127.0.0.1:{place.upstream}"
    command = [place.program("vllm-router"), "--host", "127.0.0.1", "--port", str(port), "--worker-urls", worker]
    quiet = ["--policy", "round_robin", "--log-level", "warning", "--prometheus-port", str(free_port())]
    return place.start("vllm-router", [*command, *quiet], port)


def _litellm(place: Place) -> Process:
    port, config = free_port(), place.folder / "litellm.yaml"
    program = place.program("litellm")
    config.write_text(LITELLM.format(upstream=place.upstream))
    return place.start("litellm", [program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)], port)


def _bare(place: Place) -> Process:
    return _yardstick(place, "bare")


def _least(place: Place) -> Process:
    bundle = place.bundles.get(LEAST_ENCODER)
    if bundle is None:
        raise FileNotFoundError(f"decides with --encoder {LEAST_ENCODER}")
    return _yardstick(place, "least", "--bundle", str(bundle.resolve()), "--log", str(place.folder / "least.jsonl"))


def _yardstick(place: Place, name: str, *more: str) -> Process:
    port = free_port()
    command = [sys.executable, str(HERE / f"{name}.py"), "--port", str(port), "--upstream", str(place.upstream), *more]
    return place.start(name, command, port)


def _sidecar(place: Place, encoder: str = "") -> Process:
    port, folder = free_port(), place.folder / f"sidecar-{encoder or 'pass'}"
    folder.mkdir()
    bundle = place.bundles[encoder].resolve() if encoder else ""
    backends = "".join(
        f'[[backend]]\nname = "e{i}"\nurl = "http://127.0.0.1:{place.upstream}"\nmodel = "model-{i}"\ncontext_tokens = 32768\n'
        for i in range(ACTIONS // 4)
    )
    config = folder / "rheostat.toml"
    config.write_text(backends + SIDECAR.format(folder=folder, port=port, bundle=bundle))
    return place.start(folder.name, [sys.executable, "-m", "rheostat.serving.server", "--config", str(config)], port)


DIRECT = Gateway("direct", _direct)
RIVALS = (
    Gateway("nginx", _nginx),
    Gateway("vllm-router", _vllm_router),
    Gateway("litellm", _litellm, health="/health/liveliness"),
)
BARE = Gateway("bare Python proxy", _bare)
LEAST = Gateway("least Python router", _least)
PASS_THROUGH = Gateway("rheostat, pass-through", _sidecar, health="/healthz")


def slow_stream(model: str) -> bytes:
    """A chat completion that the upstream answers token by token."""
    return bodies(model, ending=" Answer slowly.", stream=True, stream_options={"include_usage": True})[0]


def routed(encoder: str) -> Gateway:
    """The sidecar with a bundle of this encoder, deciding on every request."""
    return Gateway(f"rheostat, routed ({encoder})", lambda place: _sidecar(place, encoder), model="auto", health="/healthz")


def bodies(model: str, *, ending: str = "", **fields: Any) -> list[bytes]:
    """Chat completions of 4.4 KB whose questions of about twenty tokens all differ, but for their `ending`."""
    system = ("You answer questions about arithmetic. " * SYSTEM_BYTES)[:SYSTEM_BYTES]

    def body(number: int) -> bytes:
        question = f"Ann walks {number + 3} km a day for {number * 7 + 20} days. How far does she walk in all?{ending}"
        messages = [{"role": "system", "content": system}, {"role": "user", "content": question}]
        return json.dumps(
            {"model": model, "messages": messages, "max_tokens": 64, "temperature": 0.7, "user": "u" * 120, **fields}
        ).encode()

    return [body(number) for number in range(BODIES)]


def bundle(encoder: str, cache: Path) -> Path:
    """The folder of a router that predicts with LightGBM over 24 actions, fitted on simulated outcomes; made the first time.

    Not the learner that fits them best, which a simulation has decided: the one that takes longest to ask.
    """
    from benchmarks.simulated import routers
    from rheostat.router.encoder import load_encoder

    folder = cache / f"bundle-{encoder}"
    if not folder.exists():
        loaded = load_encoder(encoder, cache_folder=cache / "encoders")
        (router,) = routers(loaded, encoder, ["lightgbm"], queries=TRAINED_ON, actions=ACTIONS)
        router.save(folder)
    return folder
