from pathlib import Path

import pytest
from msgspec.structs import replace

from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.ids import ChainRef
from tristrata.storage.database import Database
from tristrata.storage.signed import Equivocation, SignedCheckpoints

CHECKPOINT = Checkpoint(ChainRef(b"\x01" * 32), 3, b"\x02" * 32)


async def test_add__another_root_after_a_restart__is_refused(location: Path | str) -> None:
    database = await Database.open(location)
    await SignedCheckpoints(database).add(CHECKPOINT)
    await database.close()

    database = await Database.open(location)
    signed = SignedCheckpoints(database)
    await signed.add(CHECKPOINT)
    await signed.add(replace(CHECKPOINT, epoch=4, root=b"\x03" * 32))
    await signed.add(replace(CHECKPOINT, chain=ChainRef(b"\x09" * 32), root=b"\x03" * 32))
    with pytest.raises(Equivocation, match="epoch 3 .* has signed 0x0202"):
        await signed.add(replace(CHECKPOINT, root=b"\x03" * 32))
    await database.close()
