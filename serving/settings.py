"""What an operator may set: one frozen struct per section of the configuration, a sentence under each field.

A value out of its range is refused by its type. Knows neither the file it is read from nor whether the sections agree.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from rheostat.data.ledger import Price
from rheostat.data.schema import Constraints
from rheostat.serving.scoring import JudgeConfig, RewardConfig, SandboxConfig, Url

PASSTHROUGH_TIER = "passthrough"  # what requests that name a model are booked under

StorePrompts = Literal["full", "hash", "off"]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
NAMED = "a name of letters, digits and . _ / - that begins with a letter or a digit, with at most 128 characters"
HASH = "64 hexadecimal digits in lower case, the SHA-256 of the key: printf %s KEY | sha256sum"
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$", description=NAMED)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class BackendConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model server. Several with the same `model` are replicas of it."""

    name: Name
    """Unique name of this replica, as metrics and errors show it."""
    url: Url
    """Scheme, host and port, without a path: `http://127.0.0.1:8101`."""
    model: Name
    """The model's name in actions and in `/v1/models`."""
    served_model: str | None = None
    """The name the engine knows the model by, where it differs."""
    api_key_env: str | None = None
    """Environment variable that holds the engine's key."""
    usd_per_1m_input: NotNegative = 0.0
    """Price of a million prompt tokens."""
    usd_per_1m_cached: NotNegative = 0.0
    """Price of a million prompt tokens found in the prefix cache."""
    usd_per_1m_output: NotNegative = 1.0
    """Price of a million generated tokens."""
    profile_of: str = ""
    """Model whose plain engine this one accelerates, as by speculative decoding; `rheostat doctor` compares the two."""
    context_tokens: Count = 1024
    """Longest prompt and answer together."""
    max_in_flight: Count = 256
    """Calls in flight before this replica counts as full."""

    @property
    def price(self) -> Price:
        """The three prices as one value."""
        return Price(
            usd_per_1m_input=self.usd_per_1m_input,
            usd_per_1m_cached=self.usd_per_1m_cached,
            usd_per_1m_output=self.usd_per_1m_output,
        )


class TierConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named default: what a request of this tier demands unless it says otherwise."""

    target_accuracy: Share
    """Chance of a correct answer asked for, in (0, 1]."""
    confidence: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    """Chance with which the target is to hold on average; without it the target is an estimate."""
    deadline_ms: Positive | None = None
    """Wall-clock bound of one request."""
    max_tokens_total: Count | None = None
    """Bound on generated tokens of one request."""
    max_cost_usd: NotNegative | None = None
    """Bound on the cost of one request."""
    high_stakes: bool = False
    """Whether all its answers are checked before they are delivered."""
    mean_cost_usd: Positive | None = None
    """What its requests may cost on average: as accurate as that buys, in the place of the target, but not of a request's own."""

    @property
    def constraints(self) -> Constraints:
        """The tier as constraints on a decision."""
        return Constraints(
            target_accuracy=self.target_accuracy,
            confidence=self.confidence,
            deadline_s=None if self.deadline_ms is None else self.deadline_ms / 1000,
            max_tokens_total=self.max_tokens_total,
            max_cost_usd=self.max_cost_usd,
            high_stakes=self.high_stakes,
        )


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one key may use in this process; a limit that is not given does not exist."""

    requests_per_minute: Count | None = None
    """Requests in a minute of the clock."""
    tokens_per_minute: Count | None = None
    """Generated tokens in a minute of the clock."""
    usd_per_day: Positive | None = None
    """Cost in a day of UTC; after a restart it goes on from what the key's tenant has spent."""
    max_in_flight: Count | None = None
    """Requests at the same time."""


class KeyConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API key, by its hash. With no key configured every caller is admitted as tenant `default`."""

    name: Name
    """What the key is called in logs; never the key."""
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$", description=HASH)]
    """SHA-256 of the key, in hexadecimal."""
    tenant: Name = "default"
    """Whose decisions these are: a tenant never sees another's."""
    tiers: tuple[str, ...] = ()
    """Tiers the key may ask for; `passthrough` among them stands for naming a model or an action. None is all."""
    limits: LimitsConfig | None = None
    """This key's own limits, instead of `[limits]`."""


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outcome store."""

    path: str = ".rheostat/outcomes.db"
    """SQLite file; its folder is made when missing."""
    store_prompts: StorePrompts = "hash"
    """`full` keeps prompt and answer, `hash` a hash of the prompt, `off` neither; the embedding is kept always."""


class MlflowConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where new bundles come from. Without a tracking URI the sidecar lives without MLflow."""

    tracking_uri: Annotated[str, msgspec.Meta(pattern=r"^(https?://\S+)?$", description="an http or https address")] = ""
    """HTTP address of the MLflow server."""
    model: Name = "rheostat-router"
    """Registered model to follow."""
    alias: Name = "champion"
    """Alias whose version is served."""
    poll_s: Positive = 30.0
    """Seconds between looks at the alias, with a tenth of jitter."""
    token_env: str | None = None
    """Environment variable that holds a bearer token."""


class RouterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides."""

    bundle: str = ""
    """Folder of a bundle to serve and to watch; empty when MLflow is the source, or to run without one."""
    cache: str = ".rheostat/bundles"
    """Where the last good bundle is kept for a start without MLflow."""
    fallback: str = ""
    """Action when there is no bundle or the predictor fails; empty lets the catalogue choose."""
    default_tier: str = "balanced"
    """Tier of plain `auto`."""
    poll_s: Positive = 5.0
    """Seconds between looks at the bundle folder."""
    sequential: bool = True
    """Whether to run several actions on a query, one after the other, where the bundle's held-out evidence is for it."""
    encoder_deadline_ms: Positive = 15.0
    """For which a request waits for a bundle's encoder, where that is not the static one; then it is decided without."""


class ExploreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Logged exploration."""

    epsilon: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Share of requests that try a neighbouring action."""
    seed: int = 0
    """Seed of the draws."""


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The listener and its bounds."""

    host: str = "127.0.0.1"
    """Address to bind."""
    port: Port = 8080
    """Port to bind; 0 takes a free one."""
    max_body_bytes: Count = 4 * 1024 * 1024
    """Largest request body."""
    max_depth: Count = 64
    """Deepest nesting of a request body."""
    max_in_flight: Count = 1024
    """Requests served at once; more wait for a place."""
    max_queued: Annotated[int, msgspec.Meta(ge=0)] = 256
    """Requests that may wait for a place; more are shed at once."""
    max_wait_s: Positive = 2.0
    """Longest wait for a place; after it the request is shed."""
    max_connections: Count = 4096
    """Open connections; for one more, the one that has been idle longest is closed."""
    idle_timeout_s: Positive = 75.0
    """How long a connection may wait for its next request; clients that keep one for longer lose requests to its end."""
    head_timeout_s: Positive = 10.0
    """How long a client may take to send the head of a request; of the first one, from the start of its connection."""
    body_timeout_s: Positive = 30.0
    """How long a client may take to send the body of a request."""
    stall_timeout_s: Positive = 30.0
    """How long a client may leave a full send buffer unread before its connection is cut."""
    max_tokens: Count = 16_384
    """Largest `max_tokens` times `n` a request may ask for."""
    drain_s: Positive = 20.0
    """How long a stop waits for requests in flight."""


class PoolConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How calls are spread over the replicas of a model."""

    probe_s: Positive = 1.0
    """Seconds between looks at the health and the load of every backend."""
    probe_timeout_s: Positive = 2.0
    """How long a look may take before the backend counts as unwell."""
    retry_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    """Calls that may be tried again on another replica, as a share of all calls."""
    prefix_affinity: bool = True
    """Whether prompts that begin alike go to the same replica, whose cache knows the beginning, while it is not busier."""


class CongestionConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What load does to prices: under load decisions get cheaper before requests are shed."""

    weight: NotNegative = 1.0
    """A model with a full queue costs (1 + weight) times its price in decisions; 0 turns this off."""
    full_queue: Count = 32
    """Requests waiting in a replica's engine that count as a full queue."""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The request log: one JSON object a line, one line a request."""

    requests: str = "-"
    """File to append to; `-` is standard output, empty turns the log off."""


class SessionsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a conversation keeps its model and strategy. A tool loop keeps them always."""

    by_prefix: bool = False
    """Whether a request that goes on from an answer given here is of one session with it, also without a session id."""
    ttl_s: Positive = 3600.0
    """Seconds without a request after which a session is forgotten."""
    max_sessions: Count = 50_000
    """Sessions remembered; the one that was quiet longest goes first."""


class AdminConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A second listener for the people who run the sidecar: usage of all tenants, keys, audit."""

    host: str = "127.0.0.1"
    """Address to bind; keep it on loopback."""
    port: Port | None = None
    """Port to bind; without one there is no admin listener, with 0 it takes a free one."""
    token_env: str | None = None
    """Environment variable with a bearer token that admin requests must carry; needed off loopback."""
    audit: str = ".rheostat/audit.jsonl"
    """File that every admin action is appended to, one JSON object a line."""


class VerificationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The check of answers with high stakes before they are delivered."""

    by: str = ""
    """Who checks: judge, a reward model's name, orm or self; empty is the first of these that is there."""
    at: Share = 0.5
    """Least score that passes, in (0, 1]."""
    escalate: bool = True
    """Whether a refused answer is followed by that of the likeliest action left, once."""


class ToolsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What strategies may use besides models, reward models and the judge."""

    memory: str = ""
    """Folder of the solved examples that few_shot shows, as `rheostat memory` writes it; empty is none."""
    verifier: str = ""
    """Folder of what `rheostat train-verifier` learned, for `by=orm`; empty is none."""
    encoder: str = ""
    """Finds examples and compares free texts: static, minilm, minilm-int8 or a folder. Empty is static for examples, and
    free texts stay apart."""
    encoder_cache: str = ".rheostat/encoders"
    """Where the static encoder is kept once it is made."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything one sidecar process is told."""

    backend: tuple[BackendConfig, ...]
    """The model servers."""
    tier: dict[str, TierConfig] = {}
    """Named defaults; quick, balanced and deep exist when none is given."""
    key: tuple[KeyConfig, ...] = ()
    """API keys; none admits everyone."""
    store: StoreConfig = StoreConfig()
    """The outcome store."""
    mlflow: MlflowConfig = MlflowConfig()
    """Where bundles come from."""
    router: RouterConfig = RouterConfig()
    """What decides."""
    explore: ExploreConfig = ExploreConfig()
    """Logged exploration."""
    server: ServerConfig = ServerConfig()
    """The listener and its bounds."""
    pool: PoolConfig = PoolConfig()
    """How calls are spread over the replicas of a model."""
    congestion: CongestionConfig = CongestionConfig()
    """What load does to prices."""
    log: LogConfig = LogConfig()
    """The request log."""
    limits: LimitsConfig = LimitsConfig()
    """What each key may use unless it says otherwise; without keys, what all callers together may."""
    sessions: SessionsConfig = SessionsConfig()
    """What conversations keep."""
    admin: AdminConfig = AdminConfig()
    """The admin listener."""
    reward: tuple[RewardConfig, ...] = ()
    """Reward models that strategies may ask."""
    judge: JudgeConfig = JudgeConfig()
    """The model that judges answers."""
    verification: VerificationConfig = VerificationConfig()
    """The check of answers with high stakes."""
    tools: ToolsConfig = ToolsConfig()
    """What else strategies may use."""
    sandbox: SandboxConfig = SandboxConfig()
    """Running code that a model wrote."""

    @property
    def prices(self) -> dict[str, Price]:
        """Price by model name."""
        return {backend.model: backend.price for backend in self.backend}

    @property
    def mean_costs(self) -> dict[str, float]:
        """USD a request may cost on average, by the tiers that have such a budget."""
        return {name: tier.mean_cost_usd for name, tier in self.tier.items() if tier.mean_cost_usd is not None}

    @property
    def models(self) -> tuple[str, ...]:
        """Model names in the order of the file, each once."""
        return tuple(dict.fromkeys(backend.model for backend in self.backend))
