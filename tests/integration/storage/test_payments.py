"""Payments in SQLite and PostgreSQL: each is taken once, whoever shows it how often."""

import asyncio
from pathlib import Path

import pytest

from tristrata.protocol.ids import Address, eip155
from tristrata.protocol.units import Amount, Timestamp
from tristrata.storage.database import Database
from tristrata.storage.payments import LEASE_SECONDS, MAX_TRIES, Payments, PaymentTaken

NAME = (eip155(31_339), Address(b"\x07" * 20), b"\x08" * 32)
REQUEST, OTHER = b"\x01" * 32, b"\x02" * 32
NOW = Timestamp(1_800_000_000)


async def take(payments: Payments, request: bytes = REQUEST, now: int = NOW) -> bool:
    return await payments.take(*NAME, Amount(5), request, Timestamp(now))


async def test_take__many_at_once__one_gets_it(location: Path | str) -> None:
    database = await Database.open(location)
    payments = Payments(database)

    found = await asyncio.gather(*(take(payments) for _ in range(8)), return_exceptions=True)

    assert sorted(type(each).__name__ for each in found) == ["PaymentTaken"] * 7 + ["bool"]
    assert await payments.take(NAME[0], NAME[1], b"\x09" * 32, Amount(5), REQUEST, NOW)
    await database.close()


async def test_take__after_it_was_answered__is_refused_for_ever(location: Path | str) -> None:
    database = await Database.open(location)
    payments = Payments(database)
    assert await take(payments)
    await payments.answer(*NAME, NOW)
    await payments.release(*NAME)
    await payments.leave(*NAME)
    await payments.leave_all()

    for request, now in ((REQUEST, NOW), (OTHER, NOW), (REQUEST, NOW + 10 * LEASE_SECONDS)):
        with pytest.raises(PaymentTaken):
            await take(payments, request, now)
    await database.close()


async def test_take__after_a_release__is_new_for_any_request(location: Path | str) -> None:
    database = await Database.open(location)
    payments = Payments(database)
    await take(payments)

    await payments.release(*NAME)

    assert await take(payments, OTHER)
    await database.close()


@pytest.mark.parametrize("way", ["leave", "leave_all", "lease"])
async def test_take__left_without_an_answer__is_taken_again_for_the_same_request_only(
    location: Path | str, way: str
) -> None:
    database = await Database.open(location)
    payments = Payments(database)
    assert await take(payments)
    later = NOW + (LEASE_SECONDS + 1 if way == "lease" else 0)
    if way == "leave":
        await payments.leave(*NAME)
    elif way == "leave_all":
        await payments.leave_all()

    with pytest.raises(PaymentTaken):
        await take(payments, OTHER, later)
    assert await take(payments, now=later) is False
    with pytest.raises(PaymentTaken):
        await take(payments, now=later)
    await database.close()


async def test_take__left_again_and_again__ends_after_so_many_tries(location: Path | str) -> None:
    database = await Database.open(location)
    payments = Payments(database)
    for _ in range(MAX_TRIES):
        await take(payments)
        await payments.leave(*NAME)

    with pytest.raises(PaymentTaken):
        await take(payments)
    await database.close()
