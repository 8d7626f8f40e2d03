"""Every error Rheostat raises on purpose. A message says what, the value, and what to do.

RheostatError
├── ConfigError          a setting is unknown, missing or out of range      (ValueError)
├── RequestError         what a client sent cannot be served; names the field (ValueError)
├── DatasetError         a table, task set or log does not fit              (ValueError)
├── ActionError          a spelling that is no action, or an unknown strategy (ValueError)
├── BudgetError          a call would spend more than the meter allows      (RuntimeError)
├── InfeasibleError      no admissible action meets a strict request        (RuntimeError)
├── UpstreamError        a backend refused, failed or fell silent           (ConnectionError)
├── EngineError          the local engine could not start or died           (RuntimeError)
├── SandboxError         code cannot be run as safely as was asked           (RuntimeError)
├── BundleError          a bundle is missing, corrupt or does not match     (ValueError)
├── StoreError           the outcome store cannot be read or written        (OSError)
└── RegistryError        MLflow is out of reach or refuses                  (RuntimeError)
"""

from __future__ import annotations

from typing import Any


class RheostatError(Exception):
    """The root: catch it to handle everything Rheostat raises on purpose."""


class ConfigError(RheostatError, ValueError):
    """A setting is unknown, missing or out of range."""


class RequestError(RheostatError, ValueError):
    """What a client sent cannot be served; `param` names the field, `status` and `code` the HTTP answer."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.status = status
        self.code = code


class DatasetError(RheostatError, ValueError):
    """A table, task set or log does not fit: says which row and column, and why."""


class ActionError(RheostatError, ValueError):
    """A spelling that is no action, or an unknown strategy or stop rule."""


class BudgetError(RheostatError, RuntimeError):
    """A call would spend more than the meter allows."""


class InfeasibleError(RheostatError, RuntimeError):
    """No admissible action meets a strict request."""


class UpstreamError(RheostatError, ConnectionError):
    """A backend refused, failed or fell silent. `status` is its HTTP status, where it gave one.

    `retry_after_s` is how long it asked to be left alone, `attempts` what had been booked for the query by then, and `told`
    the message without the address, for people who do not run the server.
    """

    def __init__(
        self,
        message: str,
        *,
        backend: str,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        attempts: tuple[Any, ...] = (),
        told: str | None = None,
    ) -> None:
        super().__init__(message)
        self.told = told or message
        self.backend = backend
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.attempts = attempts


class EngineError(RheostatError, RuntimeError):
    """The local engine could not start or died; the message ends with the last lines of its log."""


class SandboxError(RheostatError, RuntimeError):
    """Code cannot be run as safely as was asked, so it is not run."""


class BundleError(RheostatError, ValueError):
    """A bundle is missing, corrupt or does not match."""


class StoreError(RheostatError, OSError):
    """The outcome store cannot be read or written."""


class RegistryError(RheostatError, RuntimeError):
    """MLflow is out of reach or refuses."""
