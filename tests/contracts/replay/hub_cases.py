"""What owners, session keys and payees sign for a hub."""

from operator import attrgetter
from typing import Any

import boa
from msgspec.structs import replace

from tests.contracts.conftest import (
    DOLLAR,
    ChargeCall,
    as_abi,
    ordered,
    packed,
    raw,
)
from tests.contracts.replay.case import Case, by, by_owner_of, by_payment, of, soon, waits
from tests.contracts.replay.world import FIRST, World
from tristrata.protocol.ids import checksum
from tristrata.protocol.orders import ClaimTo, ReplaceKey, RequestClose, TopUp
from tristrata.protocol.signing import compact
from tristrata.protocol.terms import OpenSession
from tristrata.protocol.units import Amount
from tristrata.protocol.voucher import Voucher

SALT, OTHER_SALT = b"\x05" * 32, b"\x06" * 32
MORE, FORKED = {"miner": 190, "router": 10}, {"miner": 190, "router": 4}
NO_EPOCH = (0, 0, bytes(32), bytes(32), bytes(32))


def voucher(world: World, nonce: int, earned: dict[str, int]) -> Voucher:
    return world.voucher(world.session(nonce), 2, ordered(earned))


def charge_call(world: World, struct: Voucher, authority: bytes, earned: dict[str, int]) -> ChargeCall:
    """The arguments of `charge`, also where the voucher was charged before: the best that a replay can bring."""
    charged = world.settlement.charged_amount(struct.session)
    before = MORE if charged == sum(MORE.values()) else FIRST
    call = struct.session, struct.count, struct.head, 1 if before is FIRST else 2, 2, *compact(authority)
    return call, packed(ordered(earned)), [split.amount for split in ordered(before)]


def charge(world: World, struct: Voucher, authority: bytes) -> None:
    world.settlement.charge(*charge_call(world, struct, authority, MORE))


def settle(world: World, struct: Voucher, authority: bytes) -> None:
    call, splits, before = charge_call(world, struct, authority, MORE)
    world.settlement.settle([call], splits, before, NO_EPOCH, [])


def forfeit(world: World, struct: Voucher, authority: bytes) -> None:
    call, splits, _ = charge_call(world, struct, authority, FORKED)
    world.settlement.forfeit(call, splits, packed(ordered(FIRST)))


def close_sessions(world: World) -> None:
    """A voucher has no deadline of its own: it is good until its session is closed."""
    boa.env.time_travel(20_000)  # past expiry and grace
    for nonce in (1, 2):
        world.sessions.close(world.session(nonce))


def open_session(world: World) -> OpenSession:
    return OpenSession(raw("owner"), 3, Amount(DOLLAR), soon(), world.terms())


def other_sessions(world: World) -> list[OpenSession]:
    order = open_session(world)
    return [replace(order, nonce=4), replace(order, owner=raw("other owner")), replace(order, deposit=Amount(7))]


def session_fields(order: OpenSession) -> tuple[Any, ...]:
    return checksum(order.owner), order.nonce, order.deposit, order.deadline, as_abi(order.terms)


def claim_to(world: World, payee: str = "miner", recipient: str = "cold") -> ClaimTo:
    return ClaimTo(raw(payee), raw(recipient), Amount(0), soon())


def carry_claim_to(world: World, order: ClaimTo, signature: bytes) -> None:
    splits = ordered(FIRST)
    index = [split.payee for split in splits].index(order.payee)
    to = checksum(order.recipient), order.deadline, signature
    world.settlement.claim_to(*to, world.session(1), 1, packed(splits), index)


CASES = [
    *(
        Case(
            *("Voucher", how, of("settlement")),
            make=lambda world, earned=earned: voucher(world, 1, earned),
            others=lambda world, earned=earned: [voucher(world, 2, earned)],
            authorize=by("session key"),
            carry=carry,
            wrong="WrongSigner",
            again=again,
            late="SessionClosed",
            wait=close_sessions,
        )
        for how, carry, earned, again in (
            ("charge", charge, MORE, "ChargeNotUp"),
            ("settle", settle, MORE, "ChargeNotUp"),
            ("forfeit", forfeit, FORKED, "SessionClosed"),
        )
    ),
    Case(
        *("OpenSession", "open_for", of("sessions"), open_session, other_sessions),
        authorize=by_owner_of("owner"),
        carry=lambda world, order, signature: world.sessions.open_for(
            *session_fields(order), signature, 0, 27, bytes(32), bytes(32)
        ),
        wrong="NotSignedBy",
        again="SessionExists",
        late="SignatureExpired",
        wait=waits(501),
    ),
    Case(
        *("OpenSession", "open_with_authorization", of("sessions"), open_session, other_sessions),
        authorize=by_payment("sessions", "owner", "deposit", attrgetter("deadline")),
        carry=lambda world, order, paid: world.sessions.open_with_authorization(*session_fields(order), *paid),
        wrong="WrongSigner",
        again="SessionExists",
        late="AuthorizationExpired",
        wait=waits(500),
    ),
    Case(
        *("TopUp", "top_up_with_authorization", of("sessions")),
        make=lambda world: TopUp(world.session(1), raw("owner"), Amount(5), SALT, soon()),
        others=lambda world: [
            TopUp(world.session(2), raw("owner"), Amount(5), SALT, soon()),
            TopUp(world.session(1), raw("other owner"), Amount(5), SALT, soon()),
            TopUp(world.session(1), raw("owner"), Amount(5), OTHER_SALT, soon()),
        ],
        authorize=by_payment("sessions", "payer", "amount", attrgetter("deadline")),
        carry=lambda world, order, paid: world.sessions.top_up_with_authorization(*as_abi(order), *paid),
        wrong="WrongSigner",
        again="AuthorizationSpent",
        late="AuthorizationExpired",
        wait=waits(500),
    ),
    Case(
        *("ReplaceKey", "replace_key_for", of("sessions")),
        make=lambda world: ReplaceKey(world.session(1), raw("session key"), raw("new key"), soon()),
        others=lambda world: [
            ReplaceKey(world.session(2), raw("session key"), raw("new key"), soon()),
            ReplaceKey(world.session(1), raw("session key"), raw("thief"), soon()),
        ],
        authorize=by("owner"),
        carry=lambda world, order, signature: world.sessions.replace_key_for(
            order.session, checksum(order.new_key), order.deadline, signature
        ),
        wrong="NotSignedBy",
        again="NotSignedBy",  # it names the key that it replaces
        late="SignatureExpired",
        wait=waits(501),
    ),
    Case(
        *("RequestClose", "request_close_for", of("sessions")),
        make=lambda world: RequestClose(world.session(1), raw("owner"), soon()),
        others=lambda world: [
            RequestClose(world.session(2), raw("owner"), soon()),
            RequestClose(world.session(1), raw("router"), soon()),
        ],
        authorize=by_owner_of("sender"),
        carry=lambda world, order, signature: world.sessions.request_close_for(*as_abi(order), signature),
        wrong="NotSignedBy",
        again="AlreadyClosing",
        late="SignatureExpired",
        wait=waits(501),
    ),
    Case(
        *("ClaimTo", "claim_to", of("settlement"), claim_to),
        others=lambda world: [claim_to(world, payee="router"), claim_to(world, recipient="thief")],
        authorize=by_owner_of("payee"),
        carry=carry_claim_to,
        wrong="NotSignedBy",
        again="NotSignedBy",  # it names what was claimed before
        late="SignatureExpired",
        wait=waits(501),
    ),
]
