"""Evidence against validators: what it costs them, and every way to bring it wrongly."""

from collections.abc import Iterable

import boa
import pytest
from eth_abi.abi import encode

from tests.contracts.conftest import (
    ONE,
    QUORUM,
    REF,
    THREE,
    TWO,
    UNBONDING,
    WEIGHTS,
    Validators,
    account,
    as_abi,
    contract,
    domain_of,
    raw,
    reverts,
    sign_all,
)
from tests.contracts.test_validator_set import malformed
from tristrata.bindings.artifacts import load
from tristrata.protocol.attestation import Checkpoint, Epoch
from tristrata.protocol.epoch import Lane
from tristrata.protocol.hashing import address_word, keccak
from tristrata.protocol.ids import Address, Caip2, chain_ref, eip155
from tristrata.protocol.signing import Domain

Signature = tuple[bytes, bytes]
BURNT = "0x000000000000000000000000000000000000dEaD"
REPORTER = account("reporter")


class Chain:
    """A hub as the ledger knows it."""

    def __init__(self, caip2: Caip2, contracts: bytes) -> None:
        self.ref = chain_ref(caip2)
        self.outbox = Domain(caip2, self.ref, Address(contracts * 20))
        self.settlement = address_word(Address(contracts * 19 + b"\x99"))


HUB, OTHER = Chain(eip155(8453), b"\x0a"), Chain(eip155(42161), b"\x0b")
PRIVATE, ORPHAN = Chain(eip155(31_340), b"\x0c"), Chain(eip155(31_341), b"\x0d")
FALSE_ROOT, TRUE_ROOT = b"\x77" * 32, b"\x88" * 32
EPOCH = Epoch(5, 10, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
OTHER_EPOCH = Epoch(5, 10, b"\x01" * 32, b"\x02" * 32, b"\x04" * 32)


class Court(Validators):
    """Validators of two slashable hubs, who all stake 20 for the first one, and evidence against them.

    `PRIVATE` settles on the first hub; `ORPHAN` on one that has no outbox.
    """

    def __init__(self) -> None:
        super().__init__()
        for chain in (HUB, OTHER):
            self.ledger.add_chain(chain.ref, REF, chain.outbox.separator, chain.settlement, sender=self.owner)
            self.change(self.set, "set_slashable", chain.ref, True)
        for chain, parent in ((PRIVATE, HUB), (ORPHAN, PRIVATE)):
            self.ledger.add_chain(chain.ref, parent.ref, bytes(32), bytes(32), sender=self.owner)
        self.change(self.ledger, "set_hub", self.bridge)
        for name, stake in WEIGHTS.items():
            self.register(name, stake)
        self.activate()
        self.publish(*WEIGHTS)
        for name in WEIGHTS:
            self.set.allocate(HUB.ref, 20, sender=account(f"account of {name}"))

    def checkpoint(
        self, name: str, root: bytes, epoch: int = 5, domain: Domain | None = None, chain: Chain = HUB
    ) -> Signature:
        """A validator's signature, for the ledger unless for another domain."""
        [signature] = sign_all(domain or domain_of(self.ledger), Checkpoint(chain.ref, epoch, root), [name])
        return signature

    def contradict(self, chain: Chain, *domains: Domain) -> None:
        """Report a validator that signed two roots, the first for the first domain, the second for the second."""
        roots = (FALSE_ROOT, TRUE_ROOT)
        signed = [self.checkpoint(ONE, root, 5, domain, chain) for root, domain in zip(roots, domains, strict=True)]
        self.set.slash_equivocation(chain.ref, 5, *roots, *signed, sender=REPORTER)

    def equivocate(self, name: str, epoch: int = 5) -> None:
        """Report a validator that signed two roots."""
        signatures = [self.checkpoint(name, root, epoch) for root in (FALSE_ROOT, TRUE_ROOT)]
        self.set.slash_equivocation(HUB.ref, epoch, FALSE_ROOT, TRUE_ROOT, *signatures, sender=REPORTER)

    def lie(self, epoch: int = 5, root: bytes = FALSE_ROOT, signers: Iterable[str] = QUORUM) -> list[Signature]:
        """Have a quorum attest a false root."""
        signatures = sign_all(domain_of(self.ledger), Checkpoint(HUB.ref, epoch, root), signers)
        self.ledger.attest(HUB.ref, epoch, root, signatures, sender=account("anyone"))
        return signatures

    def finalize(self, epoch: int = 5, root: bytes = TRUE_ROOT, chain: Chain = HUB) -> None:
        """Have the bridge bring a root."""
        self.ledger.finalize(chain.ref, epoch, root, sender=self.bridge)

    def convict(self, signatures: list[Signature], epoch: int = 5, chain: Chain = HUB) -> None:
        self.set.slash_conviction(chain.ref, epoch, signatures, sender=REPORTER)

    def prove_false(self, epoch: Epoch = EPOCH, chain: Chain = HUB) -> None:
        """Have the hub's message arrive."""
        payload = encode(["uint8", "bytes32"], [1, epoch.struct_hash])
        self.set.on_message(chain.ref, chain.settlement, payload, sender=self.inbox)

    def slash_false(self, signatures: list[Signature], epoch: Epoch = EPOCH, chain: Chain = HUB) -> None:
        self.set.slash_false_epoch(chain.ref, as_abi(epoch), signatures, sender=REPORTER)

    def stake(self, name: str) -> int:
        return int(self.set.validator(account(f"account of {name}")).stake)

    def part(self, name: str, chain: Chain = HUB) -> int:
        return int(self.set.partition(account(f"account of {name}"), chain.ref).amount)

    def paid(self) -> tuple[int, int]:
        """What reporters got, and what was burnt."""
        return self.token.balanceOf(REPORTER), self.token.balanceOf(BURNT)


@pytest.fixture
def court() -> Court:
    return Court()


def test_slash_equivocation__two_roots__costs_half_of_the_stake_and_the_seat(court: Court) -> None:
    holder = account(f"account of {ONE}")

    court.equivocate(ONE)

    [slashed] = [log for log in court.set.get_logs() if type(log).__name__ == "Slashed"]
    assert (slashed.account, slashed.chain, slashed.epoch) == (holder, HUB.ref, 5)
    assert (slashed.amount, slashed.reporter, slashed.reward) == (20, REPORTER, 2)
    assert court.paid() == (2, 18)
    record = court.set.validator(holder)
    assert (record.stake, record.exit_at, record.seated) == (20, boa.env.timestamp + UNBONDING, False)
    assert court.token.balanceOf(court.set.address) == 80
    court.publish(TWO, THREE)
    assert court.set.current().total == 60


def test_slash_equivocation__odd_stake__is_rounded_up_and_the_reward_down(court: Court) -> None:
    court.equivocate(TWO)

    assert court.stake(TWO) == 35 - 18
    assert court.paid() == (1, 17)


def test_slash_equivocation__again_for_an_epoch__is_refused_and_another_epoch_costs_again(court: Court) -> None:
    holder = account(f"account of {ONE}").lower()
    court.equivocate(ONE)

    with reverts("ValidatorSet", "AlreadySlashed", holder, HUB.ref, 5):
        court.equivocate(ONE)
    exit_at = court.set.validator(holder).exit_at
    boa.env.time_travel(10)
    court.equivocate(ONE, epoch=6)
    assert court.stake(ONE) == 10
    assert court.set.validator(holder).exit_at == exit_at


def sign_epochs(*names: str, chain: Chain = HUB) -> list[Signature]:
    """By each of the names, `EPOCH` and `OTHER_EPOCH`."""
    return [sign_all(chain.outbox, epoch, [name])[0] for name in names for epoch in (EPOCH, OTHER_EPOCH)]


def test_slashing__two_right_epochs_of_one_number__cost_nothing(court: Court) -> None:
    signatures = sign_epochs(ONE)

    with reverts("ValidatorSet", "NotValidator"):
        court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, TRUE_ROOT, *signatures)
    for epoch, signature in zip((EPOCH, OTHER_EPOCH), signatures, strict=True):
        with reverts("ValidatorSet", "NotProvenFalse", HUB.ref, epoch.struct_hash):
            court.slash_false([signature], epoch)
    assert [abi["name"] for abi in load("ValidatorSet").abi if "slash_" in abi.get("name", "")] == [
        "slash_equivocation",
        "slash_conviction",
        "slash_false_epoch",
    ]
    assert court.stake(ONE) == 40


def test_slash_equivocation__of_a_grandchild__is_signed_for_its_parents_outbox(court: Court) -> None:
    court.contradict(PRIVATE, HUB.outbox, HUB.outbox)

    assert (court.stake(ONE), *court.paid()) == (20, 2, 18)
    assert court.set.equivocated(account(f"account of {ONE}"), PRIVATE.ref, 5)
    assert not court.set.equivocated(account(f"account of {ONE}"), HUB.ref, 5)


def test_slash_equivocation__signed_for_another_layer__does_not_count(court: Court) -> None:
    ours = domain_of(court.ledger)

    for chain, right, wrong in (
        (HUB, ours, HUB.outbox),
        (PRIVATE, HUB.outbox, ours),
        (PRIVATE, HUB.outbox, OTHER.outbox),
    ):
        for domains in ((wrong, wrong), (right, wrong), (wrong, right)):
            with reverts("ValidatorSet", "NotValidator"):
                court.contradict(chain, *domains)
    with reverts("ValidatorSet", "NoOutbox", PRIVATE.ref):
        court.contradict(ORPHAN, HUB.outbox, HUB.outbox)
    with reverts("CheckpointLedger", "ChainUnknown", REF):
        court.set.slash_equivocation(REF, 5, FALSE_ROOT, TRUE_ROOT, *sign_epochs(ONE))
    assert court.stake(ONE) == 40


def test_slash_conviction__of_a_grandchild_attested_here__is_signed_for_the_ledger(court: Court) -> None:
    court.change(court.set, "set_slashable", PRIVATE.ref, True)
    court.set.allocate(PRIVATE.ref, 10, sender=account(f"account of {ONE}"))
    lie = Checkpoint(PRIVATE.ref, 5, FALSE_ROOT)
    signatures = sign_all(domain_of(court.ledger), lie)
    court.ledger.attest(PRIVATE.ref, 5, FALSE_ROOT, signatures)
    court.finalize(chain=PRIVATE)

    with reverts("ValidatorSet", "NotValidator"):
        court.convict(sign_all(HUB.outbox, lie), chain=PRIVATE)
    court.convict(signatures, chain=PRIVATE)

    assert (court.stake(ONE), court.stake(TWO), court.part(ONE)) == (30, 35, 20)


def test_slash_equivocation__no_contradiction__is_refused(court: Court) -> None:
    once = court.checkpoint(ONE, FALSE_ROOT)

    with reverts("ValidatorSet", "SameStatement"):
        court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, FALSE_ROOT, once, once)
    with reverts("ValidatorSet", "SignersDiffer", account(ONE).lower(), account(TWO).lower()):
        court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, TRUE_ROOT, once, court.checkpoint(TWO, TRUE_ROOT))


def test_slash_equivocation__signatures_that_prove_nothing__are_refused(court: Court) -> None:
    good = court.checkpoint(ONE, FALSE_ROOT)
    elsewhere = contract("security/CheckpointLedger.vy", REF, court.set.address, 0)
    strangers = (
        court.checkpoint("stranger", TRUE_ROOT),
        court.checkpoint(ONE, TRUE_ROOT, domain=domain_of(elsewhere)),
        court.checkpoint(ONE, TRUE_ROOT, epoch=6),
        court.checkpoint(ONE, TRUE_ROOT, chain=OTHER),
    )

    for bad in malformed(good):
        with reverts("ValidatorSet", "SignatureInvalid", 1):
            court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, TRUE_ROOT, good, bad)
        with reverts("ValidatorSet", "SignatureInvalid", 0):
            court.set.slash_equivocation(HUB.ref, 5, TRUE_ROOT, FALSE_ROOT, bad, good)
    for stranger in strangers:
        with reverts("ValidatorSet", "NotValidator"):
            court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, TRUE_ROOT, good, stranger)
    assert court.stake(ONE) == 40


def test_slash_equivocation__with_the_old_key_and_the_new__is_one_account(court: Court) -> None:
    holder = account(f"account of {ONE}")
    court.set.set_signer(account("new key"), sender=holder)
    signatures = court.checkpoint(ONE, FALSE_ROOT), court.checkpoint("new key", TRUE_ROOT)

    court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, TRUE_ROOT, *signatures, sender=REPORTER)
    court.equivocate(ONE, epoch=6)

    assert court.stake(ONE) == 10


def test_slash_equivocation__while_leaving__still_costs_and_after_it_there_is_nothing(court: Court) -> None:
    holder = account(f"account of {ONE}")
    court.set.request_exit(sender=holder)
    boa.env.time_travel(UNBONDING - 1)
    court.equivocate(ONE, epoch=5)
    boa.env.time_travel(1)
    court.equivocate(ONE, epoch=6)

    court.set.withdraw(sender=holder)

    assert court.token.balanceOf(holder) == 1_000 - 30
    with reverts("ValidatorSet", "NothingAtStake", holder.lower()):
        court.equivocate(ONE, epoch=7)


def test_slash_equivocation__after_losing_the_seat_to_another__still_costs(court: Court) -> None:
    names = [f"validator {number}" for number in range(30)]
    for name in names:
        court.register(name, 100)
    court.activate()
    court.publish(TWO, ONE, *names)
    assert court.set.validator(account(f"account of {THREE}")).exit_at == boa.env.timestamp + UNBONDING

    boa.env.time_travel(UNBONDING - 1)
    court.equivocate(THREE)
    assert court.stake(THREE) == 12


def test_slash_equivocation__by_the_validator_itself__costs_more_than_it_brings(court: Court) -> None:
    holder = account(f"account of {ONE}")
    signatures = [court.checkpoint(ONE, root) for root in (FALSE_ROOT, TRUE_ROOT)]
    court.set.slash_equivocation(HUB.ref, 5, FALSE_ROOT, TRUE_ROOT, *signatures, sender=holder)
    boa.env.time_travel(UNBONDING)

    court.set.withdraw(sender=holder)

    assert court.token.balanceOf(holder) == 1_000 - 18


def test_set_penalties__announced__counts_from_then_on(court: Court) -> None:
    court.change(court.set, "set_penalties", 10_000, 5_000)

    court.equivocate(ONE)
    assert (court.stake(ONE), *court.paid()) == (0, 20, 20)
    with reverts("ValidatorSet", "NothingAtStake"):
        court.equivocate(ONE, epoch=6)
    with reverts("ValidatorSet", "NotOwner", account("stranger").lower()):
        court.set.set_penalties(1, 0, sender=account("stranger"))
    with reverts("ValidatorSet", "PenaltiesOutOfRange", 0, 0):
        court.change(court.set, "set_penalties", 0, 0)
    court.change(court.set, "set_penalties", 1, 0)
    court.equivocate(TWO)
    assert (court.stake(TWO), *court.paid()) == (34, 20, 21)


def test_slash_conviction__two_thirds_sign_a_false_root__lose_what_they_staked_for_the_chain(court: Court) -> None:
    signatures = court.lie()
    court.finalize()

    court.convict(signatures)

    assert court.ledger.checkpoint(HUB.ref, 5).root == TRUE_ROOT
    assert [court.stake(name) for name in (ONE, TWO, THREE)] == [20, 15, 25]
    assert [court.part(name) for name in (ONE, TWO, THREE)] == [0, 0, 20]
    assert court.paid() == (4, 36)
    court.publish(THREE)
    assert court.set.current().total == 25


def test_slash_conviction__the_honest__are_never_slashed(court: Court) -> None:
    honest = court.checkpoint(THREE, TRUE_ROOT)
    court.lie()
    court.finalize()

    with reverts("ValidatorSet", "NotValidator"):
        court.convict([honest])
    with reverts("ValidatorSet", "NotConvicted", HUB.ref, 6):
        court.convict([honest], epoch=6)
    assert court.stake(THREE) == 25


def test_slash_conviction__some_signers_done_already__are_passed_over(court: Court) -> None:
    signatures = court.lie(signers=(ONE, TWO, THREE))
    court.finalize()
    court.convict(signatures[1:2])

    court.convict(signatures)

    assert sum(court.stake(name) for name in WEIGHTS) == 40
    with reverts("ValidatorSet", "NothingToSlash", HUB.ref, 5):
        court.convict(signatures)
    with reverts("ValidatorSet", "NothingToSlash", HUB.ref, 5):
        court.convict([])


def test_slash_conviction__malformed_among_good_ones__is_refused_with_its_place(court: Court) -> None:
    signatures = court.lie()
    court.finalize()

    with reverts("ValidatorSet", "SignatureInvalid", 1):
        court.convict([signatures[0], malformed(signatures[1])[0]])


def test_slash_conviction__final_root_agrees_or_came_first__convicts_nobody(court: Court) -> None:
    signatures = court.lie(root=TRUE_ROOT)
    court.finalize()
    court.finalize(epoch=6)

    for epoch in (5, 6):
        with reverts("ValidatorSet", "NotConvicted", HUB.ref, epoch):
            court.convict(signatures, epoch=epoch)


def test_slash_conviction__chain_not_slashable__only_freezes_it(court: Court) -> None:
    court.change(court.set, "set_slashable", HUB.ref, False)
    signatures = court.lie()
    court.finalize()

    assert court.ledger.frozen(HUB.ref)
    with reverts("ValidatorSet", "NotSlashable", HUB.ref):
        court.convict(signatures)


def test_slash_conviction__stake_of_other_chains__is_out_of_reach(court: Court) -> None:
    holder = account(f"account of {ONE}")
    court.set.allocate(OTHER.ref, 20, sender=holder)
    signatures = court.lie()
    court.finalize()

    court.convict(signatures)

    assert (court.part(ONE), court.part(ONE, OTHER), court.stake(ONE)) == (0, 20, 20)
    assert court.set.validator(holder).allocated == 20


def test_slash_conviction__staked_for_the_chain_only_afterwards__costs_nothing(court: Court) -> None:
    for name in WEIGHTS:
        court.set.deallocate(HUB.ref, 20, sender=account(f"account of {name}"))
    boa.env.time_travel(UNBONDING)
    for name in WEIGHTS:
        court.set.release(HUB.ref, sender=account(f"account of {name}"))
    court.publish(*WEIGHTS)
    signatures = court.lie()
    court.finalize()
    boa.env.time_travel(1)
    court.set.allocate(HUB.ref, 20, sender=account(f"account of {ONE}"))

    with reverts("ValidatorSet", "NothingToSlash", HUB.ref, 5):
        court.convict(signatures)


def test_slash_conviction__taken_back_but_not_free_yet__is_lost(court: Court) -> None:
    signatures = court.lie()
    court.set.deallocate(HUB.ref, 20, sender=account(f"account of {ONE}"))
    boa.env.time_travel(UNBONDING - 1)
    court.finalize()

    court.convict(signatures)

    assert court.stake(ONE) == 20
    boa.env.time_travel(1)
    with reverts("ValidatorSet", "ReleaseTooEarly", 0, boa.env.timestamp):
        court.set.release(HUB.ref, sender=account(f"account of {ONE}"))


def test_slash_conviction__after_an_equivocation__takes_what_is_left(court: Court) -> None:
    court.set.allocate(HUB.ref, 20, sender=account(f"account of {ONE}"))
    signatures = court.lie()
    court.finalize()
    court.equivocate(ONE)

    court.convict(signatures)

    assert (court.stake(ONE), court.part(ONE)) == (0, 0)


def test_slash_false_epoch__its_hub_proves_it_false__signers_lose_their_partition(court: Court) -> None:
    one, _, three, _ = sign_epochs(ONE, THREE)
    with reverts("ValidatorSet", "NotProvenFalse"):
        court.slash_false([one])
    court.prove_false()

    court.slash_false([one, three])

    assert [court.stake(name) for name in (ONE, TWO, THREE)] == [20, 35, 5]
    assert court.paid() == (4, 36)
    with reverts("ValidatorSet", "NothingToSlash", HUB.ref, 5):
        court.slash_false([one])


def test_slash_false_epoch__another_epoch_or_hub__is_refused(court: Court) -> None:
    [ours, other_epoch], [theirs, _] = sign_epochs(ONE), sign_epochs(ONE, chain=OTHER)
    court.prove_false()

    with reverts("ValidatorSet", "NotProvenFalse"):
        court.slash_false([other_epoch], OTHER_EPOCH)
    with reverts("ValidatorSet", "NotProvenFalse"):
        court.slash_false([theirs], chain=OTHER)
    with reverts("ValidatorSet", "NotValidator"):
        court.slash_false([theirs])
    court.change(court.set, "set_slashable", HUB.ref, False)
    with reverts("ValidatorSet", "NotSlashable", HUB.ref):
        court.slash_false([ours])


def test_on_message__from_elsewhere_or_something_else__is_refused(court: Court) -> None:
    payload = encode(["uint8", "bytes32"], [1, b"\x01" * 32])

    with reverts("ValidatorSet", "NotInbox", account("stranger").lower()):
        court.set.on_message(HUB.ref, HUB.settlement, payload, sender=account("stranger"))
    for chain, sender in (
        (HUB.ref, OTHER.settlement),
        (HUB.ref, address_word(raw("stranger"))),
        (REF, bytes(32)),
        (REF, HUB.settlement),
    ):
        with reverts("ValidatorSet", "UnknownSource", chain, sender):
            court.set.on_message(chain, sender, payload, sender=court.inbox)
    other_kind = encode(["uint8", "bytes32"], [2, b"\x01" * 32])
    for wrong in (other_kind, payload[:63], payload + b"\0", b"", b"\x01" + payload[1:]):
        with reverts("ValidatorSet", "MessageUnknown", keccak(wrong)):
            court.set.on_message(HUB.ref, HUB.settlement, wrong, sender=court.inbox)


def test_on_message__again__keeps_the_time_of_the_first(court: Court) -> None:
    court.prove_false()
    [event] = [log for log in court.set.get_logs() if type(log).__name__ == "EpochProvenFalse"]
    proven_at = boa.env.timestamp
    boa.env.time_travel(10)

    court.prove_false()

    assert (event.chain, event.epoch_hash) == (HUB.ref, EPOCH.struct_hash)
    assert court.set.false_since(HUB.ref, EPOCH.struct_hash) == proven_at
    assert court.set.get_logs() == []


def test_slashing__paused__goes_on(court: Court) -> None:
    court.set.pause(True, sender=court.owner)
    signatures = court.lie()
    court.finalize()
    court.prove_false()

    court.convict(signatures)
    court.slash_false(sign_epochs(THREE)[:1])
    court.equivocate(ONE)

    assert [court.stake(name) for name in (ONE, TWO, THREE)] == [10, 15, 5]
    assert court.ledger.checkpoint(HUB.ref, 5).lane == Lane.FINAL
