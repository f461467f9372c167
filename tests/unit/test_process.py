import subprocess
import sys

BOMB = """
import tristrata.router.service
from tristrata.fabric.frames import Task, decode, decode_replies
from tristrata.process import run_service
from tristrata.protocol import codec
from tristrata.protocol.answers import decode_detail
from tristrata.protocol.errors import TristrataError
from tristrata.router.accounts.bodies import PermitBody, decode as decode_body
from tristrata.router.http import Refusal
from tristrata.router.openai.chat_request import parse_chat

async def main():
    for data in (b"[" * 500_000, b'{"a":' * 200_000, b'{"model":' + b"[" * 500_000, b"\\x91" * 500_000):
        for read in (
            parse_chat,
            codec.decode,
            decode_detail,
            decode_replies,
            lambda data: decode(data, Task),
            lambda data: decode_body(data, PermitBody),
        ):
            try:
                read(data)
            except (TristrataError, Refusal):
                print("refused")

run_service(main())
"""


def test_run_service__deep_nesting_from_outside__is_refused_and_the_process_lives() -> None:
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["refused"] * 24), done.stderr
