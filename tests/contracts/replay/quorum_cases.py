"""What validators sign, for hubs and for the ledger; also as evidence against themselves."""

from typing import Any

import boa
from msgspec.structs import replace

from tests.contracts.conftest import MAX_VALIDITY, ONE, UNBONDING, VALIDITY, account, as_abi, key, raw, validator_set
from tests.contracts.replay.case import Case, by_quorum, of, soon, waits
from tests.contracts.replay.world import CHILD, CHILD_SETTLEMENT, SIBLING, World
from tristrata.protocol.attestation import Checkpoint, Epoch, NextSet
from tristrata.protocol.bond import Capability, Jail
from tristrata.protocol.signing import compact, digest, sign
from tristrata.protocol.units import Amount, Timestamp

SALT = b"\x05" * 32
ROOT, OTHER_ROOT, SECOND_ROOT = b"\x0a" * 32, b"\x0b" * 32, b"\x0c" * 32
SET_TIME = 10**6  # how long the hub's set is valid


def epoch(world: World, **changes: Any) -> Epoch:
    return replace(world.next_epoch(ROOT), **changes)


def next_set(world: World, number: int = 2, weight: int = 1) -> NextSet:
    return validator_set(number, {ONE: weight}, boa.env.timestamp + MAX_VALIDITY).succession


def advance(world: World, struct: Any, signatures: Any) -> None:
    candidates = [validator_set(struct.number, {ONE: weight}, struct.valid_until) for weight in (1, 2)]
    [following] = [found for found in candidates if found.root == struct.root]
    world.outbox.advance(struct.number, struct.valid_until, list(following.packed), signatures)


def checkpoint(world: World) -> Checkpoint:
    return Checkpoint(CHILD, 1, ROOT)


def leave(world: World) -> None:
    """Evidence grows never old; but a validator that has left has nothing to lose."""
    world.validators.request_exit(sender=account(ONE))
    boa.env.time_travel(UNBONDING)
    world.validators.withdraw(sender=account(ONE))


def two_checkpoints(world: World, struct: Checkpoint, signed: bytes) -> list[tuple[bytes, bytes]]:
    """A validator's signatures of the digest, and of the other root that `slash_checkpoint` shows."""
    second = digest(of("ledger")(world), replace(struct, root=SECOND_ROOT).struct_hash)
    return [compact(sign(key(ONE), message)) for message in (signed, second)]


def of_child(world: World) -> bytes:
    """The domain of the child's outbox, as the ledger has it."""
    return bytes(world.ledger.outbox_separator_of(CHILD))


def slash_checkpoint(world: World, struct: Checkpoint, signatures: Any) -> None:
    world.validators.slash_equivocation(struct.chain, struct.epoch, struct.root, SECOND_ROOT, *signatures)


def false_epoch(world: World, **changes: Any) -> Epoch:
    """An epoch of the child's that its hub has proved false."""
    found = epoch(world, **changes)
    proven = (1).to_bytes(32, "big") + found.struct_hash
    world.validators.on_message(CHILD, CHILD_SETTLEMENT, proven, sender=world.operator)
    return found


def jail(world: World, **changes: Any) -> Jail:
    return replace(Jail(raw("miner"), soon(), Amount(7), ROOT), **changes)


def capability(world: World, **changes: Any) -> Capability:
    return replace(Capability(raw("miner"), ROOT, SALT, Timestamp(boa.env.timestamp)), **changes)


CASES = [
    Case(
        *("Epoch", "seal", of("outbox"), epoch),
        others=lambda world: [epoch(world, receipts_root=OTHER_ROOT), epoch(world, payouts_root=OTHER_ROOT)],
        authorize=by_quorum,
        carry=lambda world, struct, signatures: world.outbox.seal(as_abi(struct), signatures),
        wrong="NotValidator",
        again="EpochOutOfOrder",
        late="SetExpired",
        wait=waits(SET_TIME + 1),
    ),
    Case(
        *("Epoch", "slash_false_epoch", of_child, false_epoch),
        others=lambda world: [false_epoch(world, epoch=7), false_epoch(world, payouts_root=OTHER_ROOT)],
        authorize=lambda world, struct, signed: [compact(sign(key(ONE), signed))],
        carry=lambda world, struct, signatures: world.validators.slash_false_epoch(CHILD, as_abi(struct), signatures),
        wrong="NotValidator",
        again="NothingToSlash",
        late="NothingToSlash",
        wait=leave,
        forks=False,  # it was signed for another chain, which has not forked
    ),
    Case(
        *("NextSet", "advance", of("outbox"), next_set),
        others=lambda world: [next_set(world, number=3), next_set(world, weight=2)],
        authorize=by_quorum,
        carry=advance,
        wrong="NotValidator",
        again="SetNotNewer",
        late="SetExpired",
        wait=waits(SET_TIME + 1),
    ),
    Case(
        *("Checkpoint", "attest", of("ledger"), checkpoint),
        others=lambda world: [
            Checkpoint(SIBLING, 1, ROOT),
            Checkpoint(CHILD, 2, ROOT),
            Checkpoint(CHILD, 1, OTHER_ROOT),
        ],
        authorize=by_quorum,
        carry=lambda world, struct, signatures: world.ledger.attest(*as_abi(struct), signatures),
        wrong="NotValidator",
        again="AlreadyAttested",
        late="SetExpired",
        wait=waits(VALIDITY + 1),
    ),
    Case(
        *("Checkpoint", "attest_child", of("outbox"), checkpoint),
        others=lambda world: [Checkpoint(SIBLING, 1, ROOT), Checkpoint(CHILD, 1, OTHER_ROOT)],
        authorize=by_quorum,
        carry=lambda world, struct, signatures: world.outbox.attest_child(*as_abi(struct), signatures),
        wrong="NotValidator",
        again="EpochOutOfOrder",
        late="SetExpired",
        wait=waits(SET_TIME + 1),
    ),
    Case(
        *("Checkpoint", "slash_equivocation", of("ledger"), checkpoint),
        others=lambda world: [Checkpoint(SIBLING, 1, ROOT), Checkpoint(CHILD, 2, ROOT)],
        authorize=two_checkpoints,
        carry=slash_checkpoint,
        wrong="NotValidator",
        again="AlreadySlashed",
        late="NothingAtStake",
        wait=leave,
    ),
    Case(
        *("Jail", "jail", of("miners"), jail),
        others=lambda world: [jail(world, miner=raw("rival")), jail(world, evidence=OTHER_ROOT)],
        authorize=by_quorum,
        carry=lambda world, struct, signatures: world.miners.jail(*as_abi(struct), signatures),
        wrong="NotValidator",
        again="EvidenceUsed",
        late="JailOutOfRange",
        wait=waits(500),
    ),
    Case(
        *("Capability", "set_capability", of("miners"), capability),
        others=lambda world: [capability(world, miner=raw("rival")), capability(world, model_id=OTHER_ROOT)],
        authorize=by_quorum,
        carry=lambda world, struct, signatures: world.miners.set_capability(*as_abi(struct), signatures),
        wrong="NotValidator",
        again="MeasurementOutOfRange",
        late="SetExpired",
        wait=waits(SET_TIME + 1),
    ),
]
