"""What a validator has signed: written down before the signature is given away, so that no restart makes it sign twice.

Two checkpoints of one chain and epoch with different roots are what Ethereum punishes.
"""

from sqlalchemy import BigInteger, Column, LargeBinary, Table, insert, select
from sqlalchemy.exc import IntegrityError

from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import show
from tristrata.storage.database import METADATA, Database

_CHECKPOINTS = Table(
    "signed_checkpoints",
    METADATA,
    Column("chain", LargeBinary(32), primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("root", LargeBinary(32), nullable=False),
)


class Equivocation(TristrataError):
    """Signing this would contradict what was signed before."""


class SignedCheckpoints:
    """The checkpoints of one validator."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, checkpoint: Checkpoint) -> None:
        """Note that a checkpoint is about to be signed; on disk when this returns. The same one again changes nothing.

        Raises `Equivocation` when another root was signed for the chain and epoch.
        """
        key = {"chain": checkpoint.chain, "epoch": checkpoint.epoch}
        try:
            async with self._database.begin() as connection:
                await connection.execute(insert(_CHECKPOINTS), {**key, "root": checkpoint.root})
        except IntegrityError:
            query = select(_CHECKPOINTS.c.root).filter_by(**key)
            async with self._database.read() as connection:
                signed = (await connection.execute(query)).scalar_one()
            if signed != checkpoint.root:
                raise Equivocation(
                    f"epoch {checkpoint.epoch} of chain {show(checkpoint.chain)} has root {show(checkpoint.root)}; "
                    f"this validator has signed {show(signed)}",
                    remedy="find out which chain this endpoint serves; sign nothing until then",
                ) from None
