"""What is known of a signed struct and one way to carry it, and how it can be signed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import boa

from tests.contracts.conftest import QUORUM, key, raw
from tests.contracts.replay.world import PEOPLE, World, raw_of, refusals, stored
from tristrata.protocol.authorization import Authorization
from tristrata.protocol.signing import compact, digest, sign
from tristrata.protocol.units import Timestamp

SIGNERS = (*PEOPLE, "router", "newcomer", "other newcomer")


@dataclass(frozen=True)
class Case:
    """One struct and one way to carry it. ``again`` and ``late`` are the refusals of a second time, and after ``wait``.

    ``authorize`` gives, for a digest, what ``carry`` takes; for orders that are paid by the same signature that is the
    payer's authorization, which has the digest as its nonce.
    """

    name: str
    how: str
    separator: Callable[[World], bytes]
    make: Callable[[World], Any]
    others: Callable[[World], Sequence[Any]]
    authorize: Callable[[World, Any, bytes], Any]
    carry: Callable[[World, Any, Any], object]
    wrong: str
    again: str
    late: str
    wait: Callable[[World], None]
    is_salted: bool = True
    forks: bool = True
    hashed: Callable[[Any], bytes] = attrgetter("struct_hash")

    def digest(self, world: World, struct: Any) -> bytes:
        """What is signed to have it carried in this world."""
        return digest(self.separator(world), self.hashed(struct))

    def succeed(self, world: World, struct: Any, signed: bytes) -> None:
        """Carry it with a signature of this digest; it must change something."""
        before = stored()
        self.carry(world, struct, self.authorize(world, struct, signed))
        assert stored() != before

    def refused(self, world: World, struct: Any, *signed: bytes) -> set[str]:
        """The errors with which it is refused with signatures of these digests."""
        return self.refused_with(world, struct, *(self.authorize(world, struct, each) for each in signed))

    def refused_with(self, world: World, struct: Any, *authorities: Any) -> set[str]:
        """The errors with which it is refused with what was signed for something else."""
        return refusals(partial(self.carry, world, struct, each) for each in authorities)


def of(name: str) -> Callable[[World], bytes]:
    """The domain of the contract that a world has under this name."""
    return lambda world: world.domain(getattr(world, name)).separator


def of_token(name: str) -> Callable[[World], bytes]:
    return lambda world: world.asset(getattr(world, name)).separator


def by(name: str) -> Callable[[World, Any, bytes], bytes]:
    """A plain signature, of 65 bytes."""
    return lambda world, struct, signed: sign(key(name), signed)


def by_owner_of(field: str) -> Callable[[World, Any, bytes], bytes]:
    """A plain signature of whom the struct itself names."""
    keys = {raw(name): key(name) for name in SIGNERS}
    return lambda world, struct, signed: sign(keys[getattr(struct, field)], signed)


def by_quorum(world: World, struct: Any, signed: bytes) -> list[tuple[bytes, bytes]]:
    return [compact(sign(key(name), signed)) for name in sorted(QUORUM, key=raw)]


def by_payment(
    contract: str, payer: str, amount: str, until: Callable[[Any], int]
) -> Callable[[World, Any, bytes], tuple[int, bytes, bytes]]:
    """The payer's EIP-3009 authorization to a contract, whose nonce is the digest."""

    def authorize(world: World, struct: Any, signed: bytes) -> tuple[int, bytes, bytes]:
        paid = Authorization(
            getattr(struct, payer),
            raw_of(getattr(world, contract)),
            getattr(struct, amount),
            Timestamp(0),
            Timestamp(until(struct)),
            signed,
        )
        found = by_owner_of("owner")(world, paid, digest(world.asset(world.dollar).separator, paid.receive_hash))
        return vrs(found)

    return authorize


def vrs(signature: bytes) -> tuple[int, bytes, bytes]:
    return signature[64], signature[:32], signature[32:64]


def soon() -> Timestamp:
    return Timestamp(boa.env.timestamp + 500)


def waits(seconds: int) -> Callable[[World], None]:
    return lambda world: boa.env.time_travel(seconds)
