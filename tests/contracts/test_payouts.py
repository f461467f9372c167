"""Payouts by root: delay, veto, and, whatever the roots say, each cent once and never more than was charged."""

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.contracts.conftest import (
    DELAY,
    ONE,
    THREE,
    TWO,
    VETO_FEE,
    Hub,
    Payouts,
    account,
    make_hub,
    ordered,
    packed,
    reverts,
    validator_set,
)
from tests.contracts.test_sessions import GREEDY_TOKEN
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import checksum

EARNED = {"router": 5, "miner": 95, "other": 20}
BURNT = checksum(bytes(18) + b"\xde\xad")  # type: ignore[arg-type]


@pytest.fixture
def charged(hub: Hub) -> Hub:
    """A hub with validators and one session, charged 120."""
    hub.adopt()
    hub.charge(hub.open(), 1, EARNED)
    return hub


def session_of(hub: Hub, nonce: int = 1) -> bytes:
    return bytes(hub.sessions.session_id(account("owner"), nonce))


def direct(hub: Hub, session: bytes, earned: dict[str, int], name: str) -> int:
    splits = ordered(earned)
    index = [checksum(split.payee) for split in splits].index(account(name))
    return int(hub.settlement.claim_direct(session, packed(splits), index, sender=account("anyone")))


def mature() -> None:
    boa.env.time_travel(DELAY)


def balance(hub: Hub, name: str) -> int:
    return int(hub.dollar.balanceOf(account(name)))


def test_claim__after_the_delay__pays_what_is_due(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    charged.settle(payouts.root)
    mature()

    for name, amount in EARNED.items():
        assert charged.settlement.claim(*payouts.claim(name, 1), sender=account("anyone")) == amount
        [event] = [log for log in charged.settlement.get_logs() if type(log).__name__ == "Claimed"]
        assert (event.payee, event.amount) == (account(name), amount)
        assert charged.settlement.claim(*payouts.claim(name, 1)) == 0
        assert balance(charged, name) == charged.settlement.claimed(account(name)) == amount
    assert charged.settlement.total_paid() == charged.settlement.total_charged() == 120


def test_claim__a_later_epoch__pays_the_difference_and_an_older_one_nothing(charged: Hub) -> None:
    first, more = Payouts(EARNED), {"router": 6, "miner": 100, "other": 20}
    charged.settle(first.root)
    charged.charge(session_of(charged), 2, more, EARNED)
    second = Payouts(more)
    charged.settle(second.root)
    mature()

    assert charged.settlement.claim(*first.claim("miner", 1)) == 95
    assert charged.settlement.claim(*second.claim("miner", 2)) == 5
    assert charged.settlement.claim(*second.claim("router", 2)) == 6
    assert charged.settlement.claim(*first.claim("router", 1)) == 0
    assert charged.settlement.total_paid() == 106


@pytest.mark.parametrize("count", [1, 2, 3, 7, 33])
def test_claim__trees_of_any_size__are_standard_merkle_trees(hub: Hub, count: int) -> None:
    hub.adopt()
    earned = {f"payee {number}": number + 1 for number in range(count)}
    session = hub.open()
    hub.charge(session, 1, {"payee 0": sum(earned.values())})
    root, proofs = plain_standard_tree([encode(["address", "uint256"], [account(n), a]) for n, a in earned.items()])
    assert root == Payouts(earned).root
    hub.settle(root)
    mature()

    for (name, amount), proof in zip(earned.items(), proofs, strict=True):
        assert hub.settlement.claim(account(name), amount, 1, proof) == amount


def plain_standard_tree(values: list[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """The definition of https://github.com/OpenZeppelin/merkle-tree: an array of nodes, the root first."""
    hashed = [keccak(keccak(value)) for value in values]
    leaves = sorted(hashed)
    tree = [b""] * (len(leaves) - 1) + leaves[::-1]
    for node in reversed(range(len(leaves) - 1)):
        tree[node] = keccak(b"".join(sorted(tree[2 * node + 1 : 2 * node + 3])))
    proofs = []
    for leaf in hashed:
        node, proof = tree.index(leaf), []
        while node:
            proof.append(tree[node + 1 if node % 2 else node - 1])
            node = (node - 1) // 2
        proofs.append(proof)
    return tree[0], proofs


def test_claim__too_early__is_refused_with_the_time(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    charged.settle(payouts.root)
    mature_at = boa.env.timestamp + DELAY
    boa.env.time_travel(DELAY - 1)

    with reverts("Settlement", "PayoutTooEarly", mature_at, mature_at - 1):
        charged.settlement.claim(*payouts.claim("miner", 1))
    boa.env.time_travel(1)
    assert charged.settlement.claim(*payouts.claim("miner", 1)) == 95


def test_claim__not_in_the_root__is_refused(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    charged.settle(payouts.root)
    charged.settle()  # an epoch without payouts
    mature()
    payee, amount, _, proof = payouts.claim("miner", 1)

    for changed in (
        (payee, amount + 1, 1, proof),
        (account("stranger"), amount, 1, proof),
        (payee, amount, 2, proof),
        (payee, amount, 2, []),
        (payee, amount, 1, proof[:-1]),
        (payee, amount, 1, [*proof, bytes(32)]),
        (payee, amount, 1, proof[::-1]),
    ):
        with reverts("Settlement", "WrongProof", changed[0].lower(), changed[1], changed[2]):
            charged.settlement.claim(*changed)


def test_claim__an_epoch_that_is_not_sealed__is_refused(charged: Hub) -> None:
    with reverts("Settlement", "EpochNotSealed", 1):
        charged.settlement.claim(account("miner"), 95, 1, [])


def test_claim_many__of_several_payees_and_epochs__pays_all_or_none(charged: Hub) -> None:
    first, more = Payouts(EARNED), {"router": 6, "miner": 100, "other": 20}
    charged.settle(first.root)
    charged.charge(session_of(charged), 2, more, EARNED)
    second = Payouts(more)
    charged.settle(second.root)
    mature()
    payee, amount, epoch, proof = second.claim("other", 2)

    with reverts("Settlement", "WrongProof", payee.lower(), amount + 1, 2):
        charged.settlement.claim_many([first.claim("miner", 1), (payee, amount + 1, epoch, proof)])
    assert charged.settlement.total_paid() == 0
    charged.settlement.claim_many(
        [first.claim("miner", 1), second.claim("miner", 2), second.claim("router", 2), second.claim("miner", 2)]
    )
    assert (balance(charged, "miner"), balance(charged, "router"), balance(charged, "other")) == (100, 6, 0)
    charged.settlement.claim_many([])


def test_claim_many__32_at_once__fit(hub: Hub) -> None:
    hub.adopt()
    earned = {f"payee {number}": number + 1 for number in range(32)}
    hub.charge(hub.open(), 1, earned)
    payouts = Payouts(earned)
    hub.settle(payouts.root)
    mature()

    hub.settlement.claim_many([payouts.claim(name, 1) for name in earned])

    assert hub.settlement.total_paid() == sum(earned.values())


# with claim_direct


def test_claim__after_claim_direct__pays_the_rest(charged: Hub) -> None:
    second = charged.open(nonce=2)
    charged.charge(second, 1, {"miner": 50})
    payouts = Payouts({**EARNED, "miner": 145})
    charged.settle(payouts.root)
    mature()

    assert direct(charged, session_of(charged), EARNED, "miner") == 95
    assert charged.settlement.claim(*payouts.claim("miner", 1)) == 50
    assert direct(charged, second, {"miner": 50}, "miner") == 0
    assert balance(charged, "miner") == charged.settlement.total_paid() == 145


def test_claim_direct__after_claim__pays_only_what_was_charged_since(charged: Hub) -> None:
    payouts, more = Payouts(EARNED), {"router": 5, "miner": 99, "other": 20}
    charged.settle(payouts.root)
    mature()
    charged.settlement.claim(*payouts.claim("miner", 1))

    assert direct(charged, session_of(charged), EARNED, "miner") == 0
    charged.charge(session_of(charged), 2, more, EARNED)
    assert direct(charged, session_of(charged), more, "miner") == 4
    assert charged.settlement.claim(*payouts.claim("miner", 1)) == 0
    assert balance(charged, "miner") == 99


# veto


def fund_validator(hub: Hub, name: str, amount: int = VETO_FEE) -> None:
    hub.dollar.mint(account(name), amount, sender=hub.operator)
    hub.dollar.approve(hub.settlement.address, 2**256 - 1, sender=account(name))


def test_veto__by_one_member__burns_the_fee_and_stops_the_payouts(charged: Hub) -> None:
    payouts = Payouts(EARNED)
    charged.settle(payouts.root)
    fund_validator(charged, THREE)
    boa.env.time_travel(DELAY - 1)

    charged.settlement.veto(1, sender=account(THREE))

    [event] = [log for log in charged.settlement.get_logs() if type(log).__name__ == "Vetoed"]
    assert (event.epoch, event.validator) == (1, account(THREE))
    assert charged.settlement.vetoed(1)
    assert (balance(charged, THREE), charged.dollar.balanceOf(BURNT)) == (0, VETO_FEE)
    mature()
    with reverts("Settlement", "PayoutVetoed", 1):
        charged.settlement.claim(*payouts.claim("miner", 1))
    with reverts("Settlement", "PayoutVetoed", 1):
        charged.settlement.claim_many([payouts.claim("miner", 1)])
    assert direct(charged, session_of(charged), EARNED, "miner") == 95
    charged.settle(payouts.root)
    mature()
    assert charged.settlement.claim(*payouts.claim("router", 2)) == 5


def test_veto__by_no_member_of_the_current_valid_set__is_refused(charged: Hub) -> None:
    charged.settle(Payouts(EARNED).root)
    for name in ("stranger", ONE, TWO):
        fund_validator(charged, name)

    with reverts("Settlement", "NotValidator", account("stranger").lower()):
        charged.settlement.veto(1, sender=account("stranger"))
    charged.adopt(validator_set(2, {TWO: 1}, boa.env.timestamp + 10))
    with reverts("Settlement", "NotValidator", account(ONE).lower()):
        charged.settlement.veto(1, sender=account(ONE))
    boa.env.time_travel(11)
    with reverts("Settlement", "NotValidator", account(TWO).lower()):
        charged.settlement.veto(1, sender=account(TWO))


def test_veto__unsealed_mature_or_vetoed_epoch__is_refused(charged: Hub) -> None:
    fund_validator(charged, ONE, 10 * VETO_FEE)

    with reverts("Settlement", "EpochNotSealed", 1):
        charged.settlement.veto(1, sender=account(ONE))
    charged.settle(Payouts(EARNED).root)
    charged.settlement.veto(1, sender=account(ONE))
    with reverts("Settlement", "PayoutVetoed", 1):
        charged.settlement.veto(1, sender=account(ONE))
    charged.settle(Payouts(EARNED).root)
    mature_at = boa.env.timestamp + DELAY
    mature()
    with reverts("Settlement", "VetoTooLate", mature_at, mature_at):
        charged.settlement.veto(2, sender=account(ONE))


def test_veto__without_the_fee__is_refused(charged: Hub) -> None:
    charged.settle(Payouts(EARNED).root)
    fund_validator(charged, ONE, VETO_FEE - 1)

    with pytest.raises(boa.BoaError):
        charged.settlement.veto(1, sender=account(ONE))
    assert not charged.settlement.vetoed(1)


def test_veto__asset_that_keeps_a_part__is_refused(charged: Hub) -> None:
    charged.settle(Payouts(EARNED).root)
    greedy = boa.loads_partial(GREEDY_TOKEN).deploy(override_address=charged.dollar.address)
    greedy.mint(account(ONE), VETO_FEE)

    with reverts("Settlement", "WrongAmountReceived", VETO_FEE, VETO_FEE - VETO_FEE // 100):
        charged.settlement.veto(1, sender=account(ONE))


# validators that lie


def test_false_root__vetoed__pays_the_stranger_nothing(charged: Hub) -> None:
    theft = Payouts({"stranger": 120})
    charged.settle(theft.root, signers=(ONE, TWO))
    fund_validator(charged, THREE)
    charged.settlement.veto(1, sender=account(THREE))
    mature()

    with reverts("Settlement", "PayoutVetoed", 1):
        charged.settlement.claim(*theft.claim("stranger", 1))
    assert {name: direct(charged, session_of(charged), EARNED, name) for name in EARNED} == EARNED


def test_false_root__not_vetoed__never_pays_above_what_was_charged(charged: Hub) -> None:
    greedy, theft = Payouts({"stranger": 121, "thief": 2**256 - 1}), Payouts({"stranger": 100, "accomplice": 21})
    charged.settle(greedy.root)
    charged.settle(theft.root)
    mature()

    with reverts("Settlement", "AboveCharged", 121, 120):
        charged.settlement.claim(*greedy.claim("stranger", 1))
    with reverts("Settlement", "AboveCharged", 2**256 - 1, 120):
        charged.settlement.claim(*greedy.claim("thief", 1))
    assert charged.settlement.claim(*theft.claim("stranger", 2)) == 100
    with reverts("Settlement", "AboveCharged", 21, 20):
        charged.settlement.claim(*theft.claim("accomplice", 2))
    with reverts("Settlement", "AboveCharged", 21, 20):
        charged.settlement.claim(*greedy.claim("stranger", 1))
    assert charged.settlement.total_paid() == 100


def test_false_root__not_vetoed__takes_nothing_of_deposits_and_the_rest_is_paid_as_more_is_charged(
    charged: Hub,
) -> None:
    charged.settle(Payouts({"stranger": 100}).root)
    mature()
    charged.settlement.claim(account("stranger"), 100, 1, [])
    session, more = session_of(charged), {**EARNED, "other": 120}

    assert direct(charged, session, EARNED, "miner") == 20
    assert direct(charged, session, EARNED, "router") == 0
    charged.charge(session, 2, more, EARNED)
    assert direct(charged, session, more, "miner") == 75
    assert charged.settlement.total_paid() == 195
    before = balance(charged, "owner")
    boa.env.time_travel(20_000)
    charged.sessions.close(session)
    assert balance(charged, "owner") - before == 10_000_000 - 220


class AnyOrder(RuleBasedStateMachine):
    """Charges, epochs, and claims by both ways in any order: what was charged for a payee is paid, each cent once."""

    names = ("router", "miner", "other")

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.hub = make_hub()
        self.hub.adopt()
        fund_validator(self.hub, ONE, 100 * VETO_FEE)
        self.sessions = [self.hub.open(deposit=5_000, nonce=nonce) for nonce in (1, 2)]
        self.earned: list[dict[str, int]] = [{}, {}]
        self.epochs: list[Payouts] = []

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    def charged(self) -> dict[str, int]:
        return {name: sum(earned.get(name, 0) for earned in self.earned) for name in self.names}

    def grown(self, which: int, amounts: list[int]) -> tuple[dict[str, int], tuple[Any, ...]]:
        before = self.earned[which]
        after = {name: before.get(name, 0) + more for name, more in zip(self.names, amounts, strict=True)}
        return after, self.hub.charge_call(self.sessions[which], 1, after, before)

    @rule(which=st.integers(0, 1), amounts=st.lists(st.integers(1, 60), min_size=3, max_size=3))
    def charge(self, which: int, amounts: list[int]) -> None:
        after, call = self.grown(which, amounts)
        self.hub.settlement.charge(*call)
        self.earned[which] = after

    @rule(amounts=st.one_of(st.none(), st.lists(st.integers(1, 60), min_size=3, max_size=3)))
    def settle(self, amounts: list[int] | None) -> None:
        """The epoch pays what was charged before; what it charges itself is for the next."""
        payouts, calls = Payouts({name: amount for name, amount in self.charged().items() if amount}), []
        if amounts:
            self.earned[0], call = self.grown(0, amounts)
            calls.append(call)
        self.hub.settle(payouts.root, calls)
        self.epochs.append(payouts)

    @rule(seconds=st.sampled_from([1, DELAY // 2, DELAY]))
    def wait(self, seconds: int) -> None:
        boa.env.time_travel(seconds)

    @rule(back=st.integers(0, 3))
    def veto(self, back: int) -> None:
        if back < len(self.epochs) and self.payable(epoch := len(self.epochs) - back) == "early":
            self.hub.settlement.veto(epoch, sender=account(ONE))

    def payable(self, epoch: int) -> str:
        if self.hub.settlement.vetoed(epoch):
            return "vetoed"
        return "early" if boa.env.timestamp < self.hub.outbox.sealed(epoch).timestamp + DELAY else "mature"

    @rule(back=st.integers(0, 5), name=st.sampled_from(names))
    def claim(self, back: int, name: str) -> None:
        if back >= len(self.epochs) or name not in self.epochs[-1 - back].amounts:
            return
        epoch = len(self.epochs) - back
        arguments = self.epochs[epoch - 1].claim(name, epoch)
        if self.payable(epoch) == "mature":
            due = max(0, arguments[1] - balance(self.hub, name))
            assert self.hub.settlement.claim(*arguments) == due
        else:
            error = {"vetoed": "PayoutVetoed", "early": "PayoutTooEarly"}[self.payable(epoch)]
            with reverts("Settlement", error):
                self.hub.settlement.claim(*arguments)

    @rule(which=st.integers(0, 1), name=st.sampled_from(names))
    def claim_direct(self, which: int, name: str) -> None:
        if self.earned[which]:
            direct(self.hub, self.sessions[which], self.earned[which], name)

    @rule()
    def claim_everything_directly(self) -> None:
        for session, earned in zip(self.sessions, self.earned, strict=True):
            for name in earned:
                direct(self.hub, session, earned, name)
        assert {name: balance(self.hub, name) for name in self.names} == self.charged()

    @invariant()
    def nothing_is_paid_twice(self) -> None:
        if not hasattr(self, "epochs"):
            return
        charged, paid = self.charged(), {name: balance(self.hub, name) for name in self.names}
        assert all(paid[name] <= charged[name] for name in self.names)
        assert all(paid[name] == self.hub.settlement.claimed(account(name)) for name in self.names)
        assert self.hub.settlement.total_paid() == sum(paid.values())
        assert self.hub.settlement.total_charged() == sum(charged.values())
        assert self.hub.dollar.balanceOf(self.hub.sessions.address) == 10_000 - sum(paid.values())


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


class LyingValidators(RuleBasedStateMachine):
    """Epochs that pay anyone anything: what is paid in all stays within what was charged, and deposits are safe."""

    names = ("router", "miner", "stranger")

    @initialize()
    def start(self) -> None:
        self.anchor = boa.env.anchor()
        self.anchor.__enter__()
        self.hub = make_hub()
        self.hub.adopt()
        self.session = self.hub.open(deposit=5_000)
        self.earned: dict[str, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "anchor"):
            self.anchor.__exit__(None, None, None)

    @rule(router=st.integers(1, 60), miner=st.integers(1, 60))
    def charge(self, router: int, miner: int) -> None:
        before = self.earned
        after = {"router": before.get("router", 0) + router, "miner": before.get("miner", 0) + miner}
        self.hub.charge(self.session, 1, after, before)
        self.earned = after

    @rule(name=st.sampled_from(names), amount=st.integers(1, 200))
    def steal(self, name: str, amount: int) -> None:
        theft = Payouts({name: amount})
        self.hub.settle(theft.root)
        mature()
        due = max(0, amount - balance(self.hub, name))
        left = self.hub.settlement.total_charged() - self.hub.settlement.total_paid()
        if due > left:
            with reverts("Settlement", "AboveCharged", due, left):
                self.hub.settlement.claim(*theft.claim(name, self.hub.outbox.last_epoch()))
        else:
            assert self.hub.settlement.claim(*theft.claim(name, self.hub.outbox.last_epoch())) == due

    @rule(name=st.sampled_from(["router", "miner"]))
    def claim_direct(self, name: str) -> None:
        if self.earned:
            left = self.hub.settlement.total_charged() - self.hub.settlement.total_paid()
            due = max(0, self.earned[name] - balance(self.hub, name))
            assert direct(self.hub, self.session, self.earned, name) == min(due, left)

    @invariant()
    def deposits_are_safe(self) -> None:
        if not hasattr(self, "earned"):
            return
        paid, charged = sum(balance(self.hub, name) for name in self.names), sum(self.earned.values())
        assert self.hub.settlement.total_paid() == paid <= self.hub.settlement.total_charged() == charged
        assert self.hub.dollar.balanceOf(self.hub.sessions.address) == 5_000 - paid


TestLyingValidators = LyingValidators.TestCase
TestLyingValidators.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
