"""The router against its own document, by schemathesis: whatever is sent, no fault, and what comes is as described."""

import asyncio
from typing import Any

import aiohttp
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi import checks as conformance

from tests.support.network import CliNetwork
from tristrata.custody.api_keys import read_api_keys
from tristrata.router.openapi import OPERATIONS

EXAMPLES = 6
CHECKS = [
    conformance.content_type_conformance,
    conformance.response_schema_conformance,
    conformance.status_code_conformance,
]
# What waits for miners or chains may be told that they are busy, which is no fault of the router's.
_BUSY = {502, 503}


@pytest.fixture
def document(network: CliNetwork) -> dict[str, Any]:
    async def fetch() -> dict[str, Any]:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{network.settings().router}/openapi.json") as response,
        ):
            found: dict[str, Any] = await response.json()
            return found

    return asyncio.run(fetch())


def test_document__describes_every_endpoint_and_no_other(document: dict[str, Any]) -> None:
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}

    assert described == set(OPERATIONS)


@pytest.mark.parametrize("is_known", [True, False], ids=["with a key", "with a wrong key"])
def test_router__any_request_of_the_document__answers_as_described(
    network: CliNetwork, document: dict[str, Any], is_known: bool
) -> None:
    key = read_api_keys(network.home.api_keys_file)["arbitrum"].api_key if is_known else "sk-nobody"
    schema = schemathesis.openapi.from_dict(document)
    for found in schema.get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy())
        def answers_as_described(case: Any) -> None:
            if isinstance(case.body, dict) and "max_tokens" in case.body:
                case.body["max_tokens"] = min(case.body["max_tokens"], 4)
            response = case.call(
                base_url=network.settings().router, headers={"authorization": f"Bearer {key}"}, timeout=30
            )
            assert response.status_code < 500 or response.status_code in _BUSY, response.text
            described = document["paths"][case.operation.path][case.operation.method.lower()]
            if not is_known and "security" not in described:  # else it needs no key, or a signature does
                assert response.status_code == 401, f"{response.status_code} without a valid key: {response.text}"
            case.validate_response(response, checks=CHECKS)

        answers_as_described()
