"""A running sidecar against what its own description allows, and against what it does not: no 500, every answer as described."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from rheostat.serving.openapi import OPERATIONS, describe

EXAMPLES = 12
SCHEMA = schemathesis.openapi.from_dict(describe())
MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]
# Refused for the means that are missing here, not for a fault.
EXPECTED = (503, 504)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", [each for each in OPERATIONS if each.method == "post"], ids=lambda each: each.path)
def test_nothing_a_client_sends_is_a_server_error(sidecar, operation, mode):
    @given(case=SCHEMA[operation.path][operation.method.upper()].as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    def call(case):
        answer = case.call(base_url=sidecar.url, timeout=20)
        if answer.status_code not in EXPECTED:
            case.validate_response(answer, checks=CHECKS)

    call()
