"""LiteLLM's SDK as a client of a router; runs in LiteLLM's own environment and prints what it saw as JSON."""

import json
import os

import litellm

ROUTER = {
    "model": f"openai/{os.environ['MODEL']}",
    "api_base": os.environ["ROUTER_URL"],
    "api_key": os.environ["ROUTER_KEY"],
    "temperature": 0,
    "num_retries": 0,
}
MESSAGES = [{"role": "user", "content": "What is the capital of Japan?"}]


def main() -> None:
    litellm.suppress_debug_info = True  # it prints advice on standard output
    answer = litellm.completion(**ROUTER, messages=MESSAGES, max_tokens=40)
    chunks = list(
        litellm.completion(
            **ROUTER, messages=MESSAGES, max_tokens=40, stream=True, stream_options={"include_usage": True}
        )
    )
    try:
        litellm.completion(**{**ROUTER, "temperature": 3}, messages=MESSAGES)
    except litellm.BadRequestError as error:
        refused = str(error)
    seen = {
        "text": answer.choices[0].message.content,
        "tokens": answer.usage.total_tokens,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices),
        "refused": refused,
    }
    print(json.dumps(seen))


main()
