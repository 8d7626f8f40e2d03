"""API keys: a bearer token in, a tenant out. Keeps hashes only, and compares in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from rheostat.data.errors import RequestError
from rheostat.serving.config import KeyConfig

OPEN_TENANT = "default"


class Keys:
    """The configured keys; with none, everyone is the tenant `default`."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._keys = [(bytes.fromhex(key.sha256), key.tenant) for key in keys]

    def tenant(self, authorization: Sequence[str]) -> str:
        """Whose request this is, from all `Authorization` headers it carries.

        Raises:
            RequestError: status 401; no key, a wrong one, or more than one header.
        """
        if not self._keys:
            return OPEN_TENANT
        scheme, _, token = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        digest = hashlib.sha256(token.strip().encode()).digest()
        # Every key is compared, so that the time taken does not tell which one matched.
        found = [tenant for known, tenant in self._keys if hmac.compare_digest(known, digest)]
        if scheme.lower() != "bearer" or not found:
            raise RequestError(
                "no valid API key: send `Authorization: Bearer KEY`", param="authorization", status=401, code="invalid_api_key"
            )
        return found[0]
