"""Welcome, models and miners."""

from typing import Any

import boa
import pytest

from tests.contracts.conftest import CHAIN, DOLLAR, REF, account, contract, key, raw, reverts
from tristrata.client.orders import sign_registration
from tristrata.protocol.ids import Address, chain_ref, eip155, model_id
from tristrata.protocol.signing import Domain
from tristrata.protocol.terms import Registration, Role
from tristrata.protocol.units import Timestamp


@pytest.fixture
def welcome() -> Any:
    return contract("onboarding/Welcome.vy", REF)


def signed(welcome: Any, role: Role, chain: str = CHAIN) -> tuple[Any, ...]:
    deadline = Timestamp(boa.env.timestamp + 100)
    domain = Domain(chain, chain_ref(chain), Address(bytes.fromhex(welcome.address[2:])))
    signature = sign_registration(key("user"), domain, Registration(raw("user"), role, deadline))
    return account("user"), int(role), deadline, signature


def test_register__signed_by_the_account__is_sponsored(welcome: Any) -> None:
    welcome.register(*signed(welcome, Role.USER), sender=account("sponsor"))
    welcome.register(*signed(welcome, Role.MINER), sender=account("sponsor"))

    assert welcome.roles(account("user")) == Role.USER | Role.MINER
    with reverts("Welcome", "AlreadyRegistered"):
        welcome.register(*signed(welcome, Role.USER))


def test_register__wrong_chain_role_signer_or_late__is_refused(welcome: Any) -> None:
    who, role, deadline, signature = signed(welcome, Role.USER)
    for attempt in (
        signed(welcome, Role.USER, eip155(2)),
        (who, 2, deadline, signature),
        (account("other"), role, deadline, signature),
        (who, role, deadline + 1, signature),
        (who, role, deadline, b""),
    ):
        with reverts("Welcome", "NotSignedBy"):
            welcome.register(*attempt)
    with reverts("Welcome", "RoleUnknown", 3):
        welcome.register(who, 3, deadline, signature)
    boa.env.time_travel(200)
    with reverts("Welcome", "SignatureExpired"):
        welcome.register(who, role, deadline, signature)


def test_model__registered_twice__has_the_id_python_computes() -> None:
    registry = contract("orchestration/ModelRegistry.vy")
    fields = ("smollm2-135m-instruct", b"\1" * 32, b"\2" * 32, b"\3" * 32)

    assert registry.register(*fields) == registry.register(*fields) == model_id(*fields)
    assert registry.model(model_id(*fields)).name == fields[0]
    with reverts("ModelRegistry", "ModelIncomplete"):
        registry.register("", *fields[1:])


@pytest.fixture
def miners() -> Any:
    with boa.env.prank(account("operator")):
        dollar = contract("testing/TestDollar.vy")
        registry = contract("orchestration/MinerRegistry.vy", dollar.address, 10 * DOLLAR, 60)
        for name in ("miner", "rival"):
            dollar.mint(account(name), 100 * DOLLAR)
            dollar.approve(registry.address, 2**256 - 1, sender=account(name))
    return registry, dollar


def join(registry: Any, name: str = "miner", bond: int = 10 * DOLLAR, nats: bytes = b"\4" * 32) -> None:
    registry.register(account(name + " signs"), nats, bytes(32), 2, bond, sender=account(name))


def test_miner__joins_offers_and_leaves__gets_its_bond_back(miners: Any) -> None:
    registry, dollar = miners
    join(registry)
    registry.add_bond(DOLLAR, sender=account("miner"))
    registry.offer(b"\5" * 32, 50_000, 200_000, sender=account("miner"))

    assert registry.miner_by_nats_key(b"\4" * 32) == account("miner")
    assert registry.miner(account("miner")).bond == 11 * DOLLAR
    assert registry.offer_of(account("miner"), b"\5" * 32) == (50_000, 200_000, True)
    registry.withdraw_offer(b"\5" * 32, sender=account("miner"))
    with reverts("MinerRegistry", "ExitTooEarly"):
        registry.exit(sender=account("miner"))
    registry.request_exit(sender=account("miner"))
    with reverts("MinerRegistry", "AlreadyLeaving"):
        registry.request_exit(sender=account("miner"))
    boa.env.time_travel(60)
    registry.exit(sender=account("miner"))
    assert dollar.balanceOf(account("miner")) == 100 * DOLLAR
    assert registry.miner_by_nats_key(b"\4" * 32) == "0x" + "00" * 20
    join(registry)


def test_miner__breaks_a_rule__is_refused_by_name(miners: Any) -> None:
    registry, _ = miners
    with reverts("MinerRegistry", "BondTooLow", 1, 10 * DOLLAR):
        join(registry, bond=1)
    join(registry)
    with reverts("MinerRegistry", "AlreadyMiner"):
        join(registry)
    with reverts("MinerRegistry", "NatsKeyTaken"):
        join(registry, "rival")
    with reverts("MinerRegistry", "SigningKeyTaken"):
        registry.register(account("miner signs"), b"\6" * 32, bytes(32), 1, 10 * DOLLAR, sender=account("rival"))
    with reverts("MinerRegistry", "ZeroSlots"):
        registry.set_slots(0, sender=account("miner"))
    with reverts("MinerRegistry", "ZeroAmount"):
        registry.add_bond(0, sender=account("miner"))
    with reverts("MinerRegistry", "ModelUnknown"):
        registry.offer(bytes(32), 1, 1, sender=account("miner"))
    with reverts("MinerRegistry", "NotOffered"):
        registry.withdraw_offer(b"\5" * 32, sender=account("miner"))
    for call in (registry.request_exit, registry.exit):
        with reverts("MinerRegistry", "NotMiner"):
            call(sender=account("stranger"))


def test_set_keys__new_keys__free_the_old(miners: Any) -> None:
    registry, _ = miners
    join(registry)
    registry.set_keys(account("new"), b"\7" * 32, b"\x08" * 32, sender=account("miner"))

    assert registry.miner_by_nats_key(b"\7" * 32) == account("miner")
    join(registry, "rival")
