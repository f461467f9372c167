"""How stake comes, waits, takes seats, answers for chains, and goes."""

from typing import Any

import boa

from tests.contracts.conftest import (
    CHANGE_DELAY,
    MIN_STAKE,
    ONE,
    QUORUM,
    THREE,
    TWO,
    UNBONDING,
    VALIDITY,
    WEIGHTS,
    Validators,
    account,
    contract,
    key,
    raw,
    reverts,
)
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import ZERO_ADDRESS as ZERO
from tristrata.protocol.ids import checksum
from tristrata.protocol.signing import compact, sign

DIGEST = keccak(b"anything")
ZERO_ADDRESS = checksum(ZERO)
CHAIN_A, CHAIN_B = b"\xaa" * 32, b"\xbb" * 32


def signatures_of(*names: str) -> list[tuple[bytes, bytes]]:
    """In the order that contracts want."""
    return [compact(sign(key(name), DIGEST)) for name in sorted(names, key=raw)]


def deploy(token: str, **changes: Any) -> Any:
    fields = {
        "ledger": account("ledger"),
        "inbox": account("inbox"),
        "min_stake": MIN_STAKE,
        "validity": VALIDITY,
        "activation": Validators.ACTIVATION,
        "unbonding": UNBONDING,
        "equivocation": Validators.EQUIVOCATION,
        "reward": Validators.REWARD,
        "change_delay": CHANGE_DELAY,
    }
    return contract("security/ValidatorSet.vy", token, *{**fields, **changes}.values())


def test_init__values_that_secure_nothing__are_refused() -> None:
    token = contract("security/StakeToken.vy").address

    with reverts("ValidatorSet", "ZeroAmount", 0):
        deploy(token, min_stake=0)
    with reverts("ValidatorSet", "UnbondingTooShort", VALIDITY, VALIDITY):
        deploy(token, unbonding=VALIDITY)
    for equivocation, reward in ((0, 1_000), (10_001, 1_000), (5_000, 5_001)):
        with reverts("ValidatorSet", "PenaltiesOutOfRange", equivocation, reward):
            deploy(token, equivocation=equivocation, reward=reward)
    deploy(token, unbonding=VALIDITY + 1, equivocation=10_000, reward=5_000)


def test_register__with_a_stake__pulls_it_and_waits(validators: Validators) -> None:
    holder = validators.register(ONE, 40)

    record = validators.set.validator(holder)
    active_from = boa.env.timestamp + validators.ACTIVATION
    assert (record.signer, record.stake, record.pending, record.active_from) == (account(ONE), 40, 40, active_from)
    assert (record.exit_at, record.allocated, record.seated) == (0, 0, False)
    assert validators.set.account_of(account(ONE)) == holder
    assert validators.token.balanceOf(validators.set.address) == 40
    assert validators.token.balanceOf(holder) == 960


def test_register__what_is_taken_or_too_little__is_refused(validators: Validators) -> None:
    holder = validators.register(ONE, 40)
    other = validators.fund("other")

    with reverts("ValidatorSet", "AlreadyValidator", holder.lower()):
        validators.set.register(account(TWO), 40, sender=holder)
    with reverts("ValidatorSet", "SignerTaken", account(ONE).lower()):
        validators.set.register(account(ONE), 40, sender=other)
    with reverts("ValidatorSet", "SignerTaken", ZERO_ADDRESS):
        validators.set.register(ZERO_ADDRESS, 40, sender=other)
    with reverts("ValidatorSet", "StakeTooLow", MIN_STAKE - 1, MIN_STAKE):
        validators.set.register(account(TWO), MIN_STAKE - 1, sender=other)
    validators.set.register(account(TWO), MIN_STAKE, sender=other)


def test_register__token_that_keeps_a_part_or_refuses__is_refused() -> None:
    token = contract("testing/WeirdToken.vy")
    validators = deploy(token.address)
    token.mint(account("holder"), 100)
    token.approve(validators.address, 100, sender=account("holder"))

    token.set_mode(2)
    with reverts("ValidatorSet", "WrongAmountReceived", 100, 99):
        validators.register(account(ONE), 100, sender=account("holder"))
    token.set_mode(4)
    with reverts("ValidatorSet", "TransferRefused", token.address.lower(), account("holder").lower(), 100):
        validators.register(account(ONE), 100, sender=account("holder"))


def test_register__paused__is_refused_and_all_ways_out_are_open(published: Validators) -> None:
    holder = account(f"account of {ONE}")
    published.fund("late")
    published.set.pause(True, sender=published.owner)

    with reverts("ValidatorSet", "ContractPaused", published.set.address.lower()):
        published.register("late", 40)
    published.set.request_exit(sender=holder)
    published.publish(TWO, THREE)
    boa.env.time_travel(UNBONDING)
    published.set.withdraw(sender=holder)
    assert published.token.balanceOf(holder) == 1_000
    published.set.pause(False, sender=published.owner)
    published.register("late", 40)


def test_publish__newcomer__is_in_no_set_before_its_stake_is_active(published: Validators) -> None:
    holder = published.register("late", 1_000)

    active_from = boa.env.timestamp + published.ACTIVATION
    boa.env.time_travel(published.ACTIVATION - 1)
    with reverts("ValidatorSet", "NotActiveYet", holder.lower(), active_from):
        published.publish(*WEIGHTS, "late")
    published.publish(*WEIGHTS)
    boa.env.time_travel(1)
    published.publish(*WEIGHTS, "late")
    assert published.set.member_weight(3, account("late")) == 1_000
    assert set(published.set.seats()) == {account(f"account of {name}") for name in (*WEIGHTS, "late")}


def test_add_stake__more__weighs_after_the_activation(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    published.set.add_stake(50, sender=holder)
    published.publish(*WEIGHTS)
    assert published.set.member_weight(2, account(ONE)) == 40
    boa.env.time_travel(published.ACTIVATION - 1)
    published.set.add_stake(10, sender=holder)
    boa.env.time_travel(published.ACTIVATION - 1)
    published.publish(*WEIGHTS)
    assert published.set.member_weight(3, account(ONE)) == 40
    boa.env.time_travel(1)
    published.publish(*WEIGHTS)
    assert published.set.member_weight(4, account(ONE)) == 100
    assert published.token.balanceOf(published.set.address) == 160
    published.set.add_stake(7, sender=holder)
    record = published.set.validator(holder)
    assert (record.stake, record.pending) == (107, 7)


def test_add_stake__nothing_or_by_a_stranger_or_a_leaver__is_refused(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    with reverts("ValidatorSet", "ZeroAmount", 0):
        published.set.add_stake(0, sender=holder)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.add_stake(1, sender=account("stranger"))
    published.set.request_exit(sender=holder)
    with reverts("ValidatorSet", "AlreadyLeaving", boa.env.timestamp + UNBONDING):
        published.set.add_stake(1, sender=holder)


def test_set_signer__another_key__signs_from_the_next_set_on(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    published.set.set_signer(account("new key"), sender=holder)

    published.set.require_quorum(DIGEST, signatures_of(*QUORUM))
    with reverts("ValidatorSet", "NotValidator", account(ONE).lower()):
        published.publish(*WEIGHTS)
    published.publish("new key", TWO, THREE)
    published.set.require_quorum(DIGEST, signatures_of("new key", TWO))
    with reverts("ValidatorSet", "NotValidator", account(ONE).lower()):
        published.set.require_quorum(DIGEST, signatures_of(ONE, TWO))
    assert published.set.account_of(account(ONE)) == published.set.account_of(account("new key")) == holder


def test_set_signer__a_key_that_is_or_was_anothers__is_refused(published: Validators) -> None:
    holder, other = account(f"account of {ONE}"), account(f"account of {TWO}")
    published.set.set_signer(account("new key"), sender=holder)

    for taken in (ONE, "new key", THREE):
        with reverts("ValidatorSet", "SignerTaken", account(taken).lower()):
            published.set.set_signer(account(taken), sender=other)
    with reverts("ValidatorSet", "SignerTaken", ZERO_ADDRESS):
        published.set.set_signer(ZERO_ADDRESS, sender=other)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.set_signer(account("its key"), sender=account("stranger"))
    published.set.set_signer(account(ONE), sender=holder)
    assert published.set.validator(holder).signer == account(ONE)


def test_request_exit__by_a_member__leaves_the_next_set_only(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    published.set.request_exit(sender=holder)

    exit_at = boa.env.timestamp + UNBONDING
    assert published.set.validator(holder).exit_at == exit_at
    published.set.require_quorum(DIGEST, signatures_of(*QUORUM))
    with reverts("ValidatorSet", "NotValidator", account(ONE).lower()):
        published.publish(*WEIGHTS)
    published.publish(TWO, THREE)
    assert published.set.member_weight(2, account(ONE)) == 0
    with reverts("ValidatorSet", "NotValidator", account(ONE).lower()):
        published.set.require_quorum(DIGEST, signatures_of(ONE))
    with reverts("ValidatorSet", "AlreadyLeaving", exit_at):
        published.set.request_exit(sender=holder)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.request_exit(sender=account("stranger"))


def test_withdraw__after_the_unbonding__returns_the_stake_once_and_for_all(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    with reverts("ValidatorSet", "ExitTooEarly", 0, boa.env.timestamp):
        published.set.withdraw(sender=holder)
    published.set.request_exit(sender=holder)
    exit_at = boa.env.timestamp + UNBONDING
    boa.env.time_travel(UNBONDING - 1)
    with reverts("ValidatorSet", "ExitTooEarly", exit_at, exit_at - 1):
        published.set.withdraw(sender=holder)
    boa.env.time_travel(1)
    published.set.withdraw(sender=holder)
    assert published.token.balanceOf(holder) == 1_000
    with reverts("ValidatorSet", "NothingAtStake", holder.lower()):
        published.set.withdraw(sender=holder)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.withdraw(sender=account("stranger"))
    with reverts("ValidatorSet", "AlreadyValidator", holder.lower()):
        published.set.register(account("new key"), 30, sender=holder)
    with reverts("ValidatorSet", "SignerTaken", account(ONE).lower()):
        published.set.register(account(ONE), 30, sender=published.fund("other"))


def test_withdraw__token_that_refuses__loses_nothing() -> None:
    token, holder = contract("testing/WeirdToken.vy"), account("holder")
    validators = deploy(token.address)
    token.mint(holder, 100)
    token.approve(validators.address, 100, sender=holder)
    validators.register(account(ONE), 100, sender=holder)
    validators.request_exit(sender=holder)
    boa.env.time_travel(UNBONDING)

    token.set_mode(4)
    with reverts("ValidatorSet", "TransferRefused", token.address.lower(), holder.lower(), 100):
        validators.withdraw(sender=holder)
    token.set_mode(1)
    validators.withdraw(sender=holder)
    assert token.balanceOf(holder) == 100


def test_withdraw__reentered_by_the_token__is_locked() -> None:
    token, holder = contract("testing/WeirdToken.vy"), account("holder")
    validators = deploy(token.address)
    token.mint(holder, 100)
    token.approve(validators.address, 100, sender=holder)
    token.mint(token.address, 100)
    token.approve_as_token(validators.address, 100)
    for number, sender in enumerate((holder, token.address)):  # the token is a validator too, and may withdraw
        validators.register(account(f"key {number}"), 100, sender=sender)
        validators.request_exit(sender=sender)
    boa.env.time_travel(UNBONDING)
    token.set_reentry(validators.address, validators.withdraw.prepare_calldata())
    token.set_mode(16)

    validators.withdraw(sender=holder)

    assert (token.reentries(), token.reentry_succeeded()) == (1, False)
    assert (token.balanceOf(holder), token.balanceOf(validators.address)) == (100, 100)


def test_set_slashable__announced__changes_after_the_delay(published: Validators) -> None:
    change = keccak(published.set.set_slashable.prepare_calldata(CHAIN_A, True))

    with reverts("ValidatorSet", "NotOwner", account("stranger").lower()):
        published.set.set_slashable(CHAIN_A, True, sender=account("stranger"))
    with reverts("ValidatorSet", "ChangeNotAnnounced", change):
        published.set.set_slashable(CHAIN_A, True, sender=published.owner)
    published.set.announce(change, sender=published.owner)
    with reverts("ValidatorSet", "ChangeNotRipe"):
        published.set.set_slashable(CHAIN_A, True, sender=published.owner)
    boa.env.time_travel(CHANGE_DELAY)
    published.set.set_slashable(CHAIN_A, True, sender=published.owner)
    assert published.set.slashable(CHAIN_A)
    published.change(published.set, "set_slashable", CHAIN_A, False)
    assert not published.set.slashable(CHAIN_A)


def test_allocate__parts_of_the_stake__answer_for_their_chains(published: Validators) -> None:
    holder = account(f"account of {ONE}")
    published.change(published.set, "set_slashable", CHAIN_A, True)
    published.change(published.set, "set_slashable", CHAIN_B, True)
    since = boa.env.timestamp

    published.set.allocate(CHAIN_A, 15, sender=holder)
    boa.env.time_travel(10)
    published.set.allocate(CHAIN_A, 5, sender=holder)
    published.set.allocate(CHAIN_B, 20, sender=holder)

    assert tuple(published.set.partition(holder, CHAIN_A)) == (20, 0, 0, since)
    assert tuple(published.set.partition(holder, CHAIN_B)) == (20, 0, 0, since + 10)
    assert published.set.validator(holder).allocated == 40
    with reverts("ValidatorSet", "AboveFreeStake", 1, 0):
        published.set.allocate(CHAIN_B, 1, sender=holder)
    published.set.add_stake(1, sender=holder)
    published.set.allocate(CHAIN_B, 1, sender=holder)


def test_allocate__what_may_not_be__is_refused(published: Validators) -> None:
    holder = account(f"account of {ONE}")

    with reverts("ValidatorSet", "NotSlashable", CHAIN_A):
        published.set.allocate(CHAIN_A, 1, sender=holder)
    published.change(published.set, "set_slashable", CHAIN_A, True)
    with reverts("ValidatorSet", "ZeroAmount", 0):
        published.set.allocate(CHAIN_A, 0, sender=holder)
    with reverts("ValidatorSet", "AboveFreeStake", 41, 40):
        published.set.allocate(CHAIN_A, 41, sender=holder)
    with reverts("ValidatorSet", "NotValidator", account("stranger").lower()):
        published.set.allocate(CHAIN_A, 1, sender=account("stranger"))
    published.set.request_exit(sender=holder)
    with reverts("ValidatorSet", "AlreadyLeaving"):
        published.set.allocate(CHAIN_A, 1, sender=holder)


def test_deallocate__a_part__is_free_after_the_unbonding(published: Validators) -> None:
    holder = account(f"account of {ONE}")
    published.change(published.set, "set_slashable", CHAIN_A, True)
    published.set.allocate(CHAIN_A, 40, sender=holder)
    since = boa.env.timestamp

    published.set.deallocate(CHAIN_A, 10, sender=holder)
    boa.env.time_travel(UNBONDING - 1)
    published.set.deallocate(CHAIN_A, 5, sender=holder)
    free_at = boa.env.timestamp + UNBONDING
    boa.env.time_travel(UNBONDING - 1)
    with reverts("ValidatorSet", "ReleaseTooEarly", free_at, free_at - 1):
        published.set.release(CHAIN_A, sender=holder)
    assert tuple(published.set.partition(holder, CHAIN_A)) == (40, 15, free_at, since)
    with reverts("ValidatorSet", "AboveFreeStake", 1, 0):
        published.set.allocate(CHAIN_A, 1, sender=holder)
    boa.env.time_travel(1)
    published.set.release(CHAIN_A, sender=holder)

    assert tuple(published.set.partition(holder, CHAIN_A)) == (25, 0, 0, since)
    assert published.set.validator(holder).allocated == 25
    with reverts("ValidatorSet", "ReleaseTooEarly", 0, free_at):
        published.set.release(CHAIN_A, sender=holder)


def test_deallocate__more_than_there_is_or_nothing__is_refused(published: Validators) -> None:
    holder = account(f"account of {ONE}")
    published.change(published.set, "set_slashable", CHAIN_A, True)
    published.set.allocate(CHAIN_A, 40, sender=holder)
    published.set.deallocate(CHAIN_A, 30, sender=holder)

    with reverts("ValidatorSet", "AbovePartition", 11, 10):
        published.set.deallocate(CHAIN_A, 11, sender=holder)
    with reverts("ValidatorSet", "ZeroAmount", 0):
        published.set.deallocate(CHAIN_A, 0, sender=holder)
    with reverts("ValidatorSet", "AbovePartition", 1, 0):
        published.set.deallocate(CHAIN_A, 1, sender=account("stranger"))


def full_set(validators: Validators, *stakes: int) -> list[str]:
    """32 validators with a seat each: with these stakes, then with 100."""
    names = [f"validator {number}" for number in range(32)]
    for name, stake in zip(names, [*stakes, *[100] * (32 - len(stakes))], strict=True):
        validators.register(name, stake)
    validators.activate()
    validators.publish(*names)
    return names


def test_publish__set_full__newcomer_with_more_displaces_the_smallest(validators: Validators) -> None:
    names = full_set(validators, 60, 50)
    smallest = account("account of validator 1")
    validators.register("as small", 50)
    newcomer = validators.register("larger", 51)
    validators.activate()

    others = [name for name in names if name != "validator 1"]
    with reverts("ValidatorSet", "SetFull", account("account of as small").lower(), 50, 50):
        validators.publish(*others, "as small")
    validators.publish(*others, "larger")
    [taken] = [log for log in validators.set.get_logs() if type(log).__name__ == "SeatTaken"]
    exit_at = boa.env.timestamp + UNBONDING
    assert (taken.account, taken.displaced) == (newcomer, smallest)
    record = validators.set.validator(smallest)
    assert (record.stake, record.exit_at, record.seated) == (50, exit_at, False)
    assert (validators.set.current().total, len(validators.set.seats())) == (60 + 51 + 30 * 100, 32)
    boa.env.time_travel(UNBONDING)
    validators.set.withdraw(sender=smallest)
    assert validators.token.balanceOf(smallest) == 1_000


def test_publish__equally_small__the_lowest_account_goes(validators: Validators) -> None:
    names = full_set(validators, 50, 50, 50)
    lowest = min(names[:3], key=lambda name: raw(f"account of {name}"))
    validators.register("larger", 51)
    validators.activate()

    kept = next(name for name in names if name not in (lowest, *names[3:]))
    with reverts("ValidatorSet", "NotValidator", account(lowest).lower()):
        validators.publish(*(name for name in names if name != kept), "larger")
    validators.publish(*(name for name in names if name != lowest), "larger")
    assert validators.set.validator(account(f"account of {lowest}")).exit_at == boa.env.timestamp + UNBONDING


def test_publish__smallest_adds_stake_in_time__keeps_its_seat(validators: Validators) -> None:
    names = full_set(validators, 50)
    newcomer = validators.register("larger", 60)
    validators.activate()

    validators.set.add_stake(10, sender=account("account of validator 0"))

    with reverts("ValidatorSet", "SetFull", newcomer.lower(), 60, 60):
        validators.publish(*names[1:], "larger")
    validators.publish(*names)
    assert validators.set.current().total == 50 + 31 * 100


def test_publish__full_of_newcomers__the_waiting_cannot_push_out_each_other(validators: Validators) -> None:
    names = full_set(validators)
    for number in range(3):
        validators.register(f"newcomer {number}", 200 + number)
    validators.activate()
    pushed_out = sorted((f"account of {name}" for name in names), key=raw)[:3]
    staying = [name for name in names if f"account of {name}" not in pushed_out]

    validators.publish(*staying, *(f"newcomer {number}" for number in range(3)))

    assert validators.set.current().total == 29 * 100 + 603


def test_publish__seat_given_up__is_free_for_another(validators: Validators) -> None:
    names = full_set(validators)
    validators.register("late", MIN_STAKE)
    validators.activate()
    validators.set.request_exit(sender=account("account of validator 7"))

    validators.publish(*(name for name in names if name != "validator 7"), "late")

    [taken] = [log for log in validators.set.get_logs() if type(log).__name__ == "SeatTaken"]
    assert (taken.account, taken.displaced) == (account("account of late"), ZERO_ADDRESS)
    assert validators.set.current().total == 31 * 100 + MIN_STAKE
