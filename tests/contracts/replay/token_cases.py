"""What a token's owner signs for the token itself."""

from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from tests.contracts.conftest import (
    account,
    as_abi,
    key,
    raw,
)
from tests.contracts.replay.case import Case, by_owner_of, of_token, soon, vrs, waits
from tests.contracts.replay.world import World, raw_of
from tristrata.protocol.authorization import Authorization, Cancellation, Permit
from tristrata.protocol.ids import checksum
from tristrata.protocol.signing import digest, sign
from tristrata.protocol.units import Timestamp

SALT, OTHER_SALT = b"\x05" * 32, b"\x06" * 32


def permit(world: World, spender: Any, token: Any, owner: str = "owner", value: int = 5) -> Permit:
    return Permit(raw(owner), raw_of(spender), value, token.nonces(account(owner)), soon())


def welcome_permit(world: World, **changes: Any) -> Permit:
    return permit(world, world.welcome, world.dollar, **changes)


def deposit_with_permit(world: World, struct: Permit, signature: bytes) -> None:
    arguments = checksum(struct.owner), struct.value, struct.deadline, *vrs(signature)
    world.welcome.deposit_with_permit(*arguments)


def stake_permit(world: World, **changes: Any) -> Permit:
    return permit(world, world.validators, world.stake, **changes)


def carry_stake_permit(world: World, struct: Permit, signature: bytes) -> None:
    arguments = checksum(struct.owner), checksum(struct.spender), struct.value, struct.deadline
    world.stake.permit(*arguments, *vrs(signature))


def transfer(world: World, **changes: Any) -> Authorization:
    order = Authorization(raw("owner"), raw("payee"), 5, Timestamp(0), soon(), SALT)
    return replace(order, **changes)


def other_transfers(world: World) -> list[Authorization]:
    changes: list[dict[str, Any]] = [{"owner": raw("other owner")}, {"to": raw("thief")}, {"value": 6}]
    return [transfer(world, **change) for change in (*changes, {"nonce": OTHER_SALT})]


def use_up(world: World) -> None:
    """A cancellation has no deadline; it is too late once the authorization was used."""
    order = transfer(world)
    signature = sign(key("owner"), digest(of_token("dollar")(world), order.transfer_hash))
    world.dollar.transferWithAuthorization(*as_abi(order), *vrs(signature))


CASES = [
    Case(
        *("Permit", "deposit_with_permit", of_token("dollar"), welcome_permit),
        others=lambda world: [welcome_permit(world, owner="other owner"), welcome_permit(world, value=6)],
        authorize=by_owner_of("owner"),
        carry=deposit_with_permit,
        wrong="PermitRefused",
        again="PermitRefused",
        late="PermitRefused",
        wait=waits(501),
        is_salted=False,
    ),
    Case(
        *("Permit", "permit of the stake", of_token("stake"), stake_permit),
        others=lambda world: [stake_permit(world, owner="other owner"), stake_permit(world, value=6)],
        authorize=by_owner_of("owner"),
        carry=carry_stake_permit,
        wrong="erc20: invalid signature",
        again="erc20: invalid signature",  # the owner's next nonce is another
        late="erc20: expired deadline",
        wait=waits(501),
        is_salted=False,
    ),
    Case(
        *("TransferWithAuthorization", "transferWithAuthorization", of_token("dollar"), transfer, other_transfers),
        authorize=by_owner_of("owner"),
        carry=lambda world, order, signature: world.dollar.transferWithAuthorization(*as_abi(order), *vrs(signature)),
        wrong="WrongSigner",
        again="AuthorizationSpent",
        late="AuthorizationExpired",
        wait=waits(500),
        is_salted=False,
        hashed=attrgetter("transfer_hash"),
    ),
    Case(
        *("ReceiveWithAuthorization", "receiveWithAuthorization", of_token("dollar"), transfer, other_transfers),
        authorize=by_owner_of("owner"),
        carry=lambda world, order, signature: world.dollar.receiveWithAuthorization(
            *as_abi(order), *vrs(signature), sender=checksum(order.to)
        ),
        wrong="WrongSigner",
        again="AuthorizationSpent",
        late="AuthorizationExpired",
        wait=waits(500),
        is_salted=False,
        hashed=attrgetter("receive_hash"),
    ),
    Case(
        *("CancelAuthorization", "cancelAuthorization", of_token("dollar")),
        make=lambda world: Cancellation(raw("owner"), SALT),
        others=lambda world: [Cancellation(raw("other owner"), SALT), Cancellation(raw("owner"), OTHER_SALT)],
        authorize=by_owner_of("owner"),
        carry=lambda world, order, signature: world.dollar.cancelAuthorization(*as_abi(order), *vrs(signature)),
        wrong="WrongSigner",
        again="AuthorizationSpent",
        late="AuthorizationSpent",
        wait=use_up,
        is_salted=False,
    ),
]
