import asyncio
from typing import Any, cast

from nats.aio.msg import Msg

from tristrata.fabric.frames import Accepted, Delta, Finish, Reply, decode_replies
from tristrata.miner.sender import GATHER_SECONDS, AnswerSender


class Recorder:
    """Stands for the task's message: what is responded to it, and when."""

    def __init__(self) -> None:
        self.sent: list[list[Reply]] = []

    async def respond(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.sent.append(decode_replies(data))


def sender() -> tuple[AnswerSender, Recorder]:
    recorder = Recorder()
    return AnswerSender(cast("Msg", cast("Any", recorder))), recorder


async def turn(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_send__first_piece_after_accepting__waits_for_nothing() -> None:
    sending, recorder = sender()
    sending.send(Accepted())
    await turn()
    sending.send(Delta("a", 1))
    await turn()
    assert recorder.sent == [[Accepted()], [Delta("a", 1)]]


async def test_send__pieces_close_together__travel_together_in_order_and_the_last_does_not_wait() -> None:
    sending, recorder = sender()
    pieces = [Delta(str(number), 1) for number in range(20)]
    for piece in pieces:
        sending.send(piece)
        await turn()
    assert recorder.sent == [pieces[:1]]
    end = Finish("stop", b"receipt", b"signature")
    sending.send(end)
    await sending.flush()
    assert recorder.sent == [pieces[:1], [*pieces[1:], end]]


async def test_send__pieces_far_apart__each_goes_by_itself() -> None:
    sending, recorder = sender()
    pieces = [Delta(str(number), 1) for number in range(3)]
    for number, piece in enumerate(pieces):
        sending.send(piece)
        await turn()
        assert recorder.sent == [[each] for each in pieces[: number + 1]]
        await asyncio.sleep(3 * GATHER_SECONDS)
    await sending.flush()
    assert len(recorder.sent) == 3


async def test_send__pieces_gathered__go_when_the_pause_is_over() -> None:
    sending, recorder = sender()
    sending.send(Delta("a", 1))
    await turn()
    sending.send(Delta("b", 1))
    async with asyncio.timeout(5):
        while len(recorder.sent) < 2:
            await asyncio.sleep(0.001)
    assert recorder.sent == [[Delta("a", 1)], [Delta("b", 1)]]


async def test_flush__while_a_message_is_given__keeps_the_order_and_loses_nothing() -> None:
    sending, recorder = sender()
    sending.send(Delta("a", 1))
    await asyncio.sleep(0)  # the first message is half given
    sending.send(Delta("b", 1))
    await sending.flush()
    assert [frame for message in recorder.sent for frame in message] == [Delta("a", 1), Delta("b", 1)]
