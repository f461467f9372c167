"""Payments for single calls: each is taken once, by one router, for one request.

A payment whose answer was not given, because a process ended, may be shown again with the same request.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, delete, insert, or_, update
from sqlalchemy.exc import IntegrityError

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2
from tristrata.protocol.units import Amount, Timestamp
from tristrata.storage.database import METADATA, Database

LEASE_SECONDS = 180
"""After how long a payment whose answer was not given may be taken again; longer than an answer's settlement waits."""

MAX_TRIES = 3
"""How often a payment may be shown: each time a miner may answer that this router pays for."""

_PAYMENTS = Table(
    "payments",
    METADATA,
    Column("chain", String(41), primary_key=True),
    Column("payer", LargeBinary(20), primary_key=True),
    Column("nonce", LargeBinary(32), primary_key=True),
    Column("amount", BigInteger, nullable=False),
    Column("request", LargeBinary(32), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    Column("answered_at", BigInteger, nullable=False),
)


class PaymentTaken(TristrataError):
    """The payment was taken already: it was answered, is being answered, or was for another request."""


class Payments:
    """The payments of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self, chain: Caip2, payer: Address, nonce: bytes, amount: Amount, request: bytes, now: Timestamp
    ) -> bool:
        """Take a payment for a request (its 32-byte hash); on disk when this returns. Raises `PaymentTaken`.

        Gives whether it was never seen before: else it may be settled already.
        """
        row = {"chain": chain, "payer": payer, "nonce": nonce, "amount": amount, "request": request}
        try:
            async with self._database.begin() as connection:
                await connection.execute(insert(_PAYMENTS), {**row, "tries": 1, "taken_at": now, "answered_at": 0})
            return True
        except IntegrityError as error:
            again = update(_PAYMENTS).where(
                _mine(chain, payer, nonce),
                _PAYMENTS.c.request == request,
                _PAYMENTS.c.answered_at == 0,
                _PAYMENTS.c.tries < MAX_TRIES,
                or_(_PAYMENTS.c.taken_at == 0, _PAYMENTS.c.taken_at < now - LEASE_SECONDS),
            )
            async with self._database.begin() as connection:
                if (await connection.execute(again.values(taken_at=now, tries=_PAYMENTS.c.tries + 1))).rowcount != 1:
                    raise PaymentTaken("this payment was used already", remedy="sign another one") from error
            return False

    async def release(self, chain: Caip2, payer: Address, nonce: bytes) -> None:
        """It was not settled, and will not be: the payer may show it again, with any request."""
        async with self._database.begin() as connection:
            await connection.execute(delete(_PAYMENTS).where(_mine(chain, payer, nonce), _PAYMENTS.c.answered_at == 0))

    async def leave(self, chain: Caip2, payer: Address, nonce: bytes) -> None:
        """It may be settled, but was not answered: the payer may show it again at once, with the same request."""
        async with self._database.begin() as connection:
            change = update(_PAYMENTS).where(_mine(chain, payer, nonce), _PAYMENTS.c.answered_at == 0)
            await connection.execute(change.values(taken_at=0))

    async def leave_all(self) -> None:
        """No process answers any: for the start of a router that has the database for itself."""
        async with self._database.begin() as connection:
            await connection.execute(update(_PAYMENTS).where(_PAYMENTS.c.answered_at == 0).values(taken_at=0))

    async def answer(self, chain: Caip2, payer: Address, nonce: bytes, now: Timestamp) -> None:
        """It is settled, and its answer goes out."""
        async with self._database.begin() as connection:
            await connection.execute(update(_PAYMENTS).where(_mine(chain, payer, nonce)).values(answered_at=now))


def _mine(chain: Caip2, payer: Address, nonce: bytes) -> Any:
    return (_PAYMENTS.c.chain == chain) & (_PAYMENTS.c.payer == payer) & (_PAYMENTS.c.nonce == nonce)
