"""Embeddings on the running network: the official client, one API key for both models, receipts on the same tree."""

import base64
import struct

import openai
import pytest

from tests.support.network import CliNetwork
from tristrata.client.api import RouterApi
from tristrata.custody.api_keys import read_api_keys
from tristrata.protocol import codec

EMBEDS, CHATS = "all-minilm-l6-v2", "smollm2-135m-instruct"
TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose again in May."]


@pytest.fixture
def key(network: CliNetwork) -> str:
    return read_api_keys(network.home.api_keys_file)["arbitrum"].api_key


@pytest.fixture
def client(network: CliNetwork, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{network.settings().router}/v1", api_key=key, max_retries=0)


async def test_embeddings__official_client__likeness_of_meaning_usage_and_a_receipt(
    client: openai.AsyncOpenAI, network: CliNetwork, key: str
) -> None:
    raw = await client.embeddings.with_raw_response.create(model=EMBEDS, input=TEXTS)
    answer = raw.parse()
    cat, kitten, rates = (each.embedding for each in answer.data)

    assert [each.index for each in answer.data] == [0, 1, 2]
    assert sum(a * b for a, b in zip(cat, kitten, strict=True)) > 0.5
    assert abs(sum(a * b for a, b in zip(cat, rates, strict=True))) < 0.2
    header = raw.headers["x-tristrata-receipt"]
    document = codec.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    receipt = codec.receipt_from_json(document["receipt"])
    assert (receipt.prompt_tokens, receipt.output_tokens) == (answer.usage.prompt_tokens, 0)
    async with RouterApi(network.settings().router, key) as api:
        kept = await api.receipt(receipt.request_id.hex())
    assert kept["receipt"] == document["receipt"]


async def test_embeddings__floats_and_base64__are_the_same_numbers(client: openai.AsyncOpenAI) -> None:
    floats = await client.embeddings.create(model=EMBEDS, input=TEXTS[0], encoding_format="float")
    encoded = await client.embeddings.create(model=EMBEDS, input=TEXTS[0], encoding_format="base64")

    data = base64.b64decode(str(encoded.data[0].embedding))
    assert list(struct.unpack("<384f", data)) == pytest.approx(floats.data[0].embedding, abs=1e-6)


@pytest.mark.parametrize(
    ("change", "parameter"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": ["fine", 7]}, "input[1]"),
        ({"input": "word " * 600}, "input"),
        ({"input": "x", "dimensions": 64}, "dimensions"),
        ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "x", "model": CHATS}, "model"),
    ],
)
async def test_embeddings__malformed__is_400_and_names_the_field(
    client: openai.AsyncOpenAI, change: dict[str, object], parameter: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.embeddings.create(**{"model": EMBEDS, **change})
    assert caught.value.param == parameter


async def test_chat__with_the_model_for_embeddings__is_400(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="embeddings") as caught:
        await client.chat.completions.create(model=EMBEDS, messages=[{"role": "user", "content": "Hi"}])
    assert caught.value.param == "model"
