"""Miners: every refusal, the draw, jail and penalties, changes of the rules, and tokens that misbehave."""

from dataclasses import dataclass
from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from msgspec.structs import replace

from tests.contracts.conftest import (
    CHAIN,
    CHANGE_DELAY,
    KEPT_EPOCHS,
    MAX_VALIDITY,
    ONE,
    REF,
    account,
    contract,
    domain_of,
    raw,
    reverts,
    sign_all,
    validator_set,
)
from tristrata.protocol.bond import MAX_JAIL, MAX_OFFERS, Capability, Jail
from tristrata.protocol.hashing import ZERO_WORD, keccak
from tristrata.protocol.ids import ModelId, chain_ref, eip155
from tristrata.protocol.signing import Domain
from tristrata.protocol.sum_tree import MAX_DRAWN, draw
from tristrata.protocol.units import Amount, Timestamp

MIN_BOND = 100
EXIT_DELAY = 60
FUNDS = 10_000
NAMES = ("miner", "rival", "third")
MODELS = tuple(ModelId(bytes([number]) * 32) for number in (1, 2, 3))
MODEL = MODELS[0]
EVIDENCE = b"\xee" * 32
RANDOMNESS = b"\x11" * 32
NOBODY = "0x" + "00" * 20
BURNT = "0x000000000000000000000000000000000000dEaD"
QUEUE = "task queue"
FEE, REFUSING = 2, 4  # modes of WeirdToken


@dataclass
class Registry:
    """A registry with its asset and validators; the accounts of `NAMES` hold `FUNDS`, and approved all of it."""

    asset: Any
    miners: Any
    outbox: Any

    def join(self, name: str = "miner", bond: int = MIN_BOND, keys: str = "", slots: int = 2) -> None:
        keys = keys or name
        self.miners.register(account(keys + " signs"), nats(keys), ZERO_WORD, slots, bond, sender=account(name))

    def offer(self, name: str = "miner", model: bytes = MODEL) -> None:
        self.miners.offer(model, 50_000, 200_000, sender=account(name))

    def reserve(self, amount: int, name: str = "miner") -> bool:
        return bool(self.miners.reserve(account(name), amount, sender=account(QUEUE)))

    def release(self, amount: int, name: str = "miner") -> None:
        self.miners.release(account(name), amount, sender=account(QUEUE))

    def penalize(self, amount: int, jail_seconds: int = 0, name: str = "miner") -> None:
        self.miners.penalize(account(name), amount, jail_seconds, sender=account(QUEUE))

    def jailing(self, seconds: int = 1_000, penalty: int = 0, evidence: bytes = EVIDENCE, name: str = "miner") -> Jail:
        return Jail(raw(name), Timestamp(boa.env.timestamp + seconds), Amount(penalty), evidence)

    def jail(self, order: Jail, signatures: list[Any] | None = None, name: str = "miner") -> None:
        signed = sign_all(domain_of(self.miners), order) if signatures is None else signatures
        self.miners.jail(account(name), order.until, order.penalty, order.evidence, signed, sender=account("anyone"))

    def change(self, method: str, type_: str, value: int) -> None:
        """Announce a change of the rules, wait, and make it."""
        self.announce(method, type_, value)
        boa.env.time_travel(CHANGE_DELAY)
        getattr(self.miners, method)(value, sender=account("operator"))

    def announce(self, method: str, type_: str, value: int) -> None:
        call = keccak(f"{method}({type_})".encode())[:4] + encode([type_], [value])
        self.miners.announce(keccak(call), sender=account("operator"))

    def weight(self, model: bytes = MODEL) -> int:
        return int(self.miners.weight_of(self.miners.snapshot(model)))

    def record(self, name: str = "miner") -> Any:
        return self.miners.miner(account(name))


def nats(name: str) -> bytes:
    return keccak(name.encode())


def make_registry(asset: Any = None) -> Registry:
    operator = account("operator")
    with boa.env.prank(operator):
        asset = asset or contract("testing/TestDollar.vy")
        outbox = contract("messaging/Outbox.vy", REF, operator, operator, MAX_VALIDITY, KEPT_EPOCHS)
        arguments = (REF, asset.address, MIN_BOND, EXIT_DELAY, outbox.address, account(QUEUE), CHANGE_DELAY)
        miners = contract("orchestration/MinerRegistry.vy", *arguments)
        for name in NAMES:
            asset.mint(account(name), FUNDS)
            asset.approve(miners.address, 2**256 - 1, sender=account(name))
        adopted = validator_set(valid_until=boa.env.timestamp + MAX_VALIDITY)
        outbox.set_from_l1(adopted.number, adopted.valid_until, list(adopted.packed))
    return Registry(asset, miners, outbox)


@pytest.fixture
def registry() -> Registry:
    return make_registry()


def test_miner__joins_offers_and_leaves__gets_its_bond_back(registry: Registry) -> None:
    miners, me = registry.miners, account("miner")
    registry.join()
    miners.add_bond(1, sender=me)
    registry.offer()

    assert (miners.miner_by_nats_key(nats("miner")), miners.miner_by_signing_key(account("miner signs"))) == (me, me)
    assert (registry.record().bond, registry.weight()) == (MIN_BOND + 1, MIN_BOND + 1)
    assert miners.offer_of(me, MODEL) == (50_000, 200_000, True)
    miners.request_exit(sender=me)
    assert (registry.weight(), miners.snapshot(MODEL)) == (0, 0)
    boa.env.time_travel(EXIT_DELAY)
    miners.exit(sender=me)
    assert registry.asset.balanceOf(me) == FUNDS
    assert miners.miner_by_nats_key(nats("miner")) == miners.miner_by_signing_key(account("miner signs")) == NOBODY
    assert (miners.offers_of(me), miners.offer_of(me, MODEL).active) == ([], False)
    registry.join()
    registry.offer()
    assert (registry.weight(), miners.draw(miners.snapshot(MODEL), RANDOMNESS, 8)) == (MIN_BOND, [me])


def test_register__breaks_a_rule__is_refused_by_name(registry: Registry) -> None:
    with reverts("MinerRegistry", "BondTooLow", MIN_BOND - 1, MIN_BOND):
        registry.join(bond=MIN_BOND - 1)
    with reverts("MinerRegistry", "ZeroSlots", 0):
        registry.join(slots=0)
    with reverts("MinerRegistry", "SigningKeyTaken", NOBODY):
        registry.miners.register(NOBODY, nats("miner"), ZERO_WORD, 1, MIN_BOND, sender=account("miner"))
    with reverts("MinerRegistry", "NatsKeyTaken", ZERO_WORD):
        registry.miners.register(account("x"), ZERO_WORD, ZERO_WORD, 1, MIN_BOND, sender=account("miner"))
    registry.join()
    with reverts("MinerRegistry", "AlreadyMiner", account("miner").lower()):
        registry.join()
    with reverts("MinerRegistry", "SigningKeyTaken", account("miner signs").lower()):
        registry.miners.register(account("miner signs"), nats("x"), ZERO_WORD, 1, MIN_BOND, sender=account("rival"))
    with reverts("MinerRegistry", "NatsKeyTaken", nats("miner")):
        registry.miners.register(account("x"), nats("miner"), ZERO_WORD, 1, MIN_BOND, sender=account("rival"))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set_keys", ("0x" + "01" * 20, b"\1" * 32, ZERO_WORD)),
        ("set_slots", (1,)),
        ("offer", (MODEL, 1, 1)),
        ("add_bond", (1,)),
        ("remove_bond", (1,)),
        ("withdraw_bond", ()),
        ("request_exit", ()),
        ("exit", ()),
        ("unjail", (account("miner"),)),
        ("jail", (account("miner"), 2**63, 1, EVIDENCE, [])),
        ("set_capability", (account("miner"), MODEL, EVIDENCE, 1, [])),
    ],
)
def test_any_change__of_no_miner__is_refused(registry: Registry, method: str, arguments: tuple[Any, ...]) -> None:
    with reverts("MinerRegistry", "NotMiner", account("miner").lower()):
        getattr(registry.miners, method)(*arguments, sender=account("miner"))


def test_set_keys__new_keys__the_old_stay_closed_to_others_for_ever(registry: Registry) -> None:
    miners, me = registry.miners, account("miner")
    registry.join()
    miners.set_keys(account("new signs"), nats("new"), b"\x08" * 32, sender=me)

    assert (miners.miner_by_nats_key(nats("new")), miners.miner_by_signing_key(account("new signs"))) == (me, me)
    assert miners.miner_by_nats_key(nats("miner")) == miners.miner_by_signing_key(account("miner signs")) == NOBODY
    miners.set_keys(account("new signs"), nats("new"), ZERO_WORD, sender=me)
    miners.request_exit(sender=me)
    boa.env.time_travel(EXIT_DELAY)
    miners.exit(sender=me)
    for keys in ("miner", "new"):
        with reverts("MinerRegistry", "SigningKeyTaken"):
            registry.join("rival", keys=keys)
    registry.join(keys="miner")


def test_set_slots__any_number_but_zero__is_recorded(registry: Registry) -> None:
    registry.join()
    registry.miners.set_slots(7, sender=account("miner"))

    assert registry.record().slots == 7
    with reverts("MinerRegistry", "ZeroSlots", 0):
        registry.miners.set_slots(0, sender=account("miner"))


def test_offer__breaks_a_rule__is_refused_by_name(registry: Registry) -> None:
    registry.join()
    with reverts("MinerRegistry", "ModelUnknown", ZERO_WORD):
        registry.offer(model=ZERO_WORD)
    with reverts("MinerRegistry", "NotOffered", account("miner").lower(), MODEL):
        registry.miners.withdraw_offer(MODEL, sender=account("miner"))
    for number in range(MAX_OFFERS):
        registry.offer(model=bytes([number + 1]) * 32)
    registry.offer()  # again: new prices
    with reverts("MinerRegistry", "TooManyOffers", account("miner").lower(), MAX_OFFERS):
        registry.offer(model=b"\xff" * 32)
    registry.penalize(0, 10)
    with reverts("MinerRegistry", "InJail", account("miner").lower(), boa.env.timestamp + 10):
        registry.offer()
    registry.miners.request_exit(sender=account("miner"))
    with reverts("MinerRegistry", "AlreadyLeaving", boa.env.timestamp + EXIT_DELAY):
        registry.offer()


def test_withdraw_offer__any_of_several__leaves_the_others(registry: Registry) -> None:
    registry.join()
    for model in MODELS:
        registry.offer(model=model)
    registry.miners.withdraw_offer(MODELS[0], sender=account("miner"))

    assert set(registry.miners.offers_of(account("miner"))) == set(MODELS[1:])
    registry.miners.withdraw_offer(MODELS[1], sender=account("miner"))
    registry.miners.withdraw_offer(MODELS[2], sender=account("miner"))
    assert registry.miners.offers_of(account("miner")) == []
    assert [registry.weight(model) for model in MODELS] == [0, 0, 0]


def test_draw__from_a_snapshot__knows_nothing_of_what_came_later(registry: Registry) -> None:
    miners, weights = registry.miners, [100, 300, 600]
    for name, weight in zip(NAMES, weights, strict=True):
        registry.join(name, weight)
        registry.offer(name)
    snapshot = miners.snapshot(MODEL)
    registry.penalize(250, 100, "rival")
    miners.add_bond(5_000, sender=account("miner"))
    miners.request_exit(sender=account("third"))

    assert miners.weight_of(snapshot) == 1_000
    for seed in range(20):
        randomness = keccak(bytes([seed]))
        for count in range(MAX_DRAWN + 1):
            drawn = [account(NAMES[place]) for place in draw(weights, randomness, count)]
            assert miners.draw(snapshot, randomness, count) == drawn
    assert miners.draw(miners.snapshot(MODEL), RANDOMNESS, 8) == [account("miner")]


def test_remove_bond__breaks_a_rule__is_refused_by_name(registry: Registry) -> None:
    miners, me = registry.miners, account("miner")
    registry.join(bond=MIN_BOND + 50)
    assert registry.reserve(20)
    for change in (miners.add_bond, miners.remove_bond):
        with reverts("MinerRegistry", "ZeroAmount", 0):
            change(0, sender=me)
    with reverts("MinerRegistry", "BondNeeded", 31, MIN_BOND + 30, MIN_BOND):
        miners.remove_bond(31, sender=me)
    with reverts("MinerRegistry", "BondNeeded"):
        miners.remove_bond(2**96 - 1, sender=me)
    with reverts("MinerRegistry", "WithdrawalTooEarly", 0, boa.env.timestamp):
        miners.withdraw_bond(sender=me)
    miners.remove_bond(30, sender=me)
    with reverts("MinerRegistry", "AlreadyWithdrawing", boa.env.timestamp + EXIT_DELAY):
        miners.remove_bond(1, sender=me)
    boa.env.time_travel(EXIT_DELAY - 1)
    with reverts("MinerRegistry", "WithdrawalTooEarly", boa.env.timestamp + 1, boa.env.timestamp):
        miners.withdraw_bond(sender=me)
    registry.penalize(0, 10)
    boa.env.time_travel(1)
    with reverts("MinerRegistry", "InJail"):
        miners.withdraw_bond(sender=me)
    boa.env.time_travel(10)
    miners.withdraw_bond(sender=me)
    assert registry.asset.balanceOf(me) == FUNDS - MIN_BOND - 20
    miners.request_exit(sender=me)
    with reverts("MinerRegistry", "AlreadyLeaving"):
        miners.remove_bond(1, sender=me)


def test_penalize__more_than_there_is__burns_bond_and_what_is_being_withdrawn(registry: Registry) -> None:
    registry.join(bond=MIN_BOND + 50)
    registry.offer()
    registry.miners.remove_bond(50, sender=account("miner"))

    registry.penalize(MIN_BOND + 30)
    assert (registry.record().bond, registry.record().withdrawing, registry.weight()) == (0, 20, 0)
    registry.penalize(2**96 - 1)
    assert registry.asset.balanceOf(BURNT) == MIN_BOND + 50
    boa.env.time_travel(EXIT_DELAY)
    registry.miners.withdraw_bond(sender=account("miner"))
    assert registry.asset.balanceOf(account("miner")) == FUNDS - MIN_BOND - 50


def test_penalize__below_the_least_bond__is_drawn_and_offers_no_more_until_it_adds(registry: Registry) -> None:
    miners, me = registry.miners, account("miner")
    registry.join(bond=MIN_BOND + 50)
    registry.offer()
    registry.penalize(50)
    assert (registry.weight(), registry.reserve(1)) == (MIN_BOND, True)
    registry.release(1)
    registry.penalize(1)

    assert (registry.weight(), miners.snapshot(MODEL), registry.reserve(0)) == (0, 0, False)
    for model in MODELS[:2]:
        with reverts("MinerRegistry", "BondTooLow", MIN_BOND - 1, MIN_BOND):
            registry.offer(model=model)
    miners.add_bond(1, sender=me)
    assert (registry.weight(), miners.draw(miners.snapshot(MODEL), RANDOMNESS, 8)) == (MIN_BOND, [me])
    registry.offer(model=MODELS[1])
    assert registry.weight(MODELS[1]) == MIN_BOND


def test_penalize__below_the_least_bond__leaves_with_what_is_left(registry: Registry) -> None:
    registry.join()
    registry.offer()
    registry.penalize(1)
    registry.miners.request_exit(sender=account("miner"))
    boa.env.time_travel(EXIT_DELAY)
    registry.miners.exit(sender=account("miner"))

    assert registry.asset.balanceOf(account("miner")) == FUNDS - 1


def test_set_min_bond__above_a_miners_bond__gives_it_no_new_task_until_it_adds(registry: Registry) -> None:
    registry.join()
    registry.offer()
    assert registry.reserve(10)
    registry.change("set_min_bond", "uint96", MIN_BOND + 1)

    assert not registry.reserve(1)
    registry.release(10)
    assert registry.weight() == 0
    registry.miners.add_bond(1, sender=account("miner"))
    assert (registry.weight(), registry.reserve(1)) == (MIN_BOND + 1, True)


def test_exit__too_early_reserved_or_jailed__is_refused_until_it_is_not(registry: Registry) -> None:
    miners, me = registry.miners, account("miner")
    registry.join()
    assert registry.reserve(40)
    with reverts("MinerRegistry", "ExitTooEarly", 0, boa.env.timestamp):
        miners.exit(sender=me)
    miners.request_exit(sender=me)
    with reverts("MinerRegistry", "AlreadyLeaving", boa.env.timestamp + EXIT_DELAY):
        miners.request_exit(sender=me)
    with reverts("MinerRegistry", "ExitTooEarly", boa.env.timestamp + EXIT_DELAY, boa.env.timestamp):
        miners.exit(sender=me)
    boa.env.time_travel(EXIT_DELAY)
    with reverts("MinerRegistry", "BondReserved", me.lower(), 40):
        miners.exit(sender=me)
    registry.release(40)
    registry.penalize(1, 10)
    with reverts("MinerRegistry", "InJail"):
        miners.exit(sender=me)
    boa.env.time_travel(10)
    miners.exit(sender=me)
    assert registry.asset.balanceOf(me) == FUNDS - 1


def test_exit__while_withdrawing__pays_that_too(registry: Registry) -> None:
    registry.join(bond=MIN_BOND + 50)
    registry.miners.remove_bond(50, sender=account("miner"))
    registry.miners.request_exit(sender=account("miner"))
    boa.env.time_travel(EXIT_DELAY)
    registry.miners.exit(sender=account("miner"))

    assert registry.asset.balanceOf(account("miner")) == FUNDS


def test_task_queue__another_caller_or_too_much__is_refused(registry: Registry) -> None:
    registry.join()
    me = account("miner")
    for method, arguments in (("reserve", (me, 0)), ("release", (me, 0)), ("penalize", (me, 1, 1))):
        with reverts("MinerRegistry", "NotTaskQueue", me.lower()):
            getattr(registry.miners, method)(*arguments, sender=me)
    assert registry.reserve(5)
    with reverts("MinerRegistry", "NotReserved", me.lower(), 6, 5):
        registry.release(6)
    registry.penalize(7, 7, "stranger")
    assert registry.asset.balanceOf(BURNT) == 0


def test_jail__signed_by_a_quorum__shuts_out_and_burns_up_to_the_cap(registry: Registry) -> None:
    registry.join(bond=10_000)
    registry.offer()
    registry.jail(registry.jailing(seconds=1_000, penalty=5_000))

    assert registry.asset.balanceOf(BURNT) == 1_000  # ten percent
    assert registry.weight() == 0
    assert not registry.reserve(1)
    with reverts("MinerRegistry", "InJail"):
        registry.miners.unjail(account("miner"))
    with reverts("MinerRegistry", "EvidenceUsed", account("miner").lower(), EVIDENCE):
        registry.jail(registry.jailing())
    registry.jail(registry.jailing(seconds=500, evidence=b"\1" * 32))  # shorter: the longer one stays
    boa.env.time_travel(999)
    with reverts("MinerRegistry", "InJail"):
        registry.offer()
    boa.env.time_travel(1)
    registry.miners.unjail(account("miner"), sender=account("anyone"))
    assert registry.weight() == 9_000
    with reverts("MinerRegistry", "NotJailed", account("miner").lower()):
        registry.miners.unjail(account("miner"))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("unjail", (account("miner"),)), ("withdraw_bond", ()), ("withdraw_offer", (MODELS[1],))],
)
def test_jail__over__the_next_change_restores_the_weight(
    registry: Registry, method: str, arguments: tuple[Any, ...]
) -> None:
    registry.join(bond=MIN_BOND + 50)
    for model in MODELS[:2]:
        registry.offer(model=model)
    registry.miners.remove_bond(50, sender=account("miner"))
    registry.jail(registry.jailing(seconds=EXIT_DELAY))
    boa.env.time_travel(EXIT_DELAY)

    assert registry.weight() == 0
    getattr(registry.miners, method)(*arguments, sender=account("miner"))
    assert registry.weight() == MIN_BOND


def test_jail__time_out_of_range__is_refused(registry: Registry) -> None:
    registry.join()
    now = boa.env.timestamp
    for seconds in (0, MAX_JAIL + 1):
        with reverts("MinerRegistry", "JailOutOfRange", now + seconds, now, now + MAX_JAIL):
            registry.jail(registry.jailing(seconds))
    registry.penalize(0, 2 * MAX_JAIL)
    assert registry.record().jailed_until == now + MAX_JAIL
    registry.jail(registry.jailing(MAX_JAIL))


def test_jail__not_signed_for_just_this__is_refused(registry: Registry) -> None:
    registry.join()
    registry.join("rival")
    order, ours = registry.jailing(), domain_of(registry.miners)
    with reverts("MinerRegistry", "NoQuorum", 40, 100):
        registry.jail(order, sign_all(ours, order, [ONE]))
    for domain in (
        Domain(eip155(2), ours.ref, ours.contract),
        Domain(CHAIN, chain_ref(eip155(2)), ours.contract),
        domain_of(registry.outbox),
    ):
        with reverts("MinerRegistry", "NotValidator"):
            registry.jail(order, sign_all(domain, order))
    signatures = sign_all(ours, order)
    for changed in (
        replace(order, until=order.until + 1),
        replace(order, penalty=1),
        replace(order, evidence=ZERO_WORD),
    ):
        with reverts("MinerRegistry", "NotValidator"):
            registry.jail(changed, signatures)
    with reverts("MinerRegistry", "NotValidator"):
        registry.jail(order, signatures, name="rival")
    boa.env.time_travel(MAX_VALIDITY + 1)
    late = registry.jailing()
    with reverts("MinerRegistry", "SetExpired"):
        registry.jail(late)


def test_set_capability__newer_and_signed__replaces_the_older(registry: Registry) -> None:
    registry.join()

    def record(measured_at: int, probe: bytes = b"\1" * 32, signed: Capability | None = None) -> None:
        measured = Capability(raw("miner"), MODEL, probe, Timestamp(measured_at))
        signatures = sign_all(domain_of(registry.miners), signed or measured)
        registry.miners.set_capability(account("miner"), MODEL, probe, measured_at, signatures)

    now = boa.env.timestamp
    record(now - 5)
    record(now - 3, b"\2" * 32)
    assert registry.miners.capability_of(account("miner"), MODEL) == (b"\2" * 32, now - 3)
    for measured_at in (now - 3, now + 1):
        with reverts("MinerRegistry", "MeasurementOutOfRange", measured_at, now - 3, now):
            record(measured_at)
    for signed in (
        Capability(raw("rival"), MODEL, EVIDENCE, Timestamp(now)),
        Capability(raw("miner"), MODELS[1], EVIDENCE, Timestamp(now)),
        Capability(raw("miner"), MODEL, ZERO_WORD, Timestamp(now)),
        Capability(raw("miner"), MODEL, EVIDENCE, Timestamp(now - 1)),
    ):
        with reverts("MinerRegistry", "NotValidator"):
            record(now, EVIDENCE, signed)


def test_rules__announced_and_within_bounds__change(registry: Registry) -> None:
    miners = registry.miners
    registry.change("set_min_bond", "uint96", 10 * MIN_BOND)
    registry.change("set_max_penalty_bps", "uint16", 5_000)

    assert (miners.min_bond(), miners.max_penalty_bps()) == (10 * MIN_BOND, 5_000)
    for value in (0, 10 * MIN_BOND + 1):
        with reverts("MinerRegistry", "MinBondOutOfRange", value, 10 * MIN_BOND):
            miners.set_min_bond(value, sender=account("operator"))
    with reverts("MinerRegistry", "MaxPenaltyTooHigh", 5_001, 5_000):
        miners.set_max_penalty_bps(5_001, sender=account("operator"))
    for change in (miners.set_min_bond, miners.set_max_penalty_bps):
        with reverts("MinerRegistry", "NotOwner"):
            change(7, sender=account("miner"))
        with reverts("MinerRegistry", "ChangeNotAnnounced"):
            change(7, sender=account("operator"))
    registry.announce("set_min_bond", "uint96", 7)
    with reverts("MinerRegistry", "ChangeNotRipe"):
        miners.set_min_bond(7, sender=account("operator"))


def test_pause__stops_register_and_offer_only(registry: Registry) -> None:
    miners, me = registry.miners, account("miner")
    registry.join(bond=MIN_BOND + 50)
    registry.offer()
    miners.pause(True, sender=account("operator"))

    with reverts("MinerRegistry", "ContractPaused"):
        registry.join("rival")
    with reverts("MinerRegistry", "ContractPaused"):
        registry.offer()
    miners.add_bond(1, sender=me)
    miners.remove_bond(1, sender=me)
    assert registry.reserve(1)
    registry.release(1)
    registry.jail(registry.jailing(10))
    boa.env.time_travel(EXIT_DELAY)
    miners.unjail(me)
    miners.withdraw_bond(sender=me)
    miners.withdraw_offer(MODEL, sender=me)
    miners.request_exit(sender=me)
    boa.env.time_travel(EXIT_DELAY)
    miners.exit(sender=me)
    assert registry.asset.balanceOf(me) == FUNDS


def test_register__token_that_misbehaves__is_refused() -> None:
    token = contract("testing/WeirdToken.vy")
    registry = make_registry(token)
    token.set_mode(FEE)
    with reverts("MinerRegistry", "WrongAmountReceived", MIN_BOND, MIN_BOND - 1):
        registry.join()
    token.set_mode(REFUSING)
    with reverts("MinerRegistry", "TransferRefused", token.address.lower(), account("miner").lower(), MIN_BOND):
        registry.join()
    assert not registry.record().active


def test_exit__token_refuses_to_pay__keeps_the_record() -> None:
    token = contract("testing/WeirdToken.vy")
    registry = make_registry(token)
    registry.join()
    registry.miners.request_exit(sender=account("miner"))
    boa.env.time_travel(EXIT_DELAY)
    token.set_mode(REFUSING)

    with reverts("MinerRegistry", "TransferRefused", token.address.lower(), account("miner").lower(), MIN_BOND):
        registry.miners.exit(sender=account("miner"))
    assert registry.record().bond == MIN_BOND


def test_register__more_than_trees_can_add_up__is_refused(registry: Registry) -> None:
    registry.asset.mint(account("miner"), 2**88, sender=account("operator"))
    registry.join("rival")

    with reverts("MinerRegistry", "RegistryFull", MIN_BOND, 2**88 - MIN_BOND, 2**88 - 1):
        registry.join(bond=2**88 - MIN_BOND)
    registry.join(bond=2**88 - MIN_BOND - 1)
    for name in ("miner", "rival"):
        registry.offer(name)
    assert registry.weight() == 2**88 - 1


def test_reserve__eight_offers_among_few_miners__costs_what_the_contract_says(registry: Registry) -> None:
    for name in NAMES:  # trees of two levels
        registry.join(name)
        for number in range(MAX_OFFERS):
            registry.offer(name, bytes([number + 1]) * 32)

    assert registry.reserve(1)
    assert registry.miners.call_trace().gas_used < 60_000 + MAX_OFFERS * 2 * 24_700
