"""The Welcome Center's rules, one by one; random sequences run in ``tests/contracts/test_welcome.py``."""

import pytest

from tristrata.protocol.ids import ZERO_ADDRESS, Address, ChainRef
from tristrata.protocol.terms import Credit, Registration, Role, Withdraw
from tristrata.protocol.units import MAX_AMOUNT, Amount, Timestamp
from tristrata.protocol.welcome import (
    CarrierPaid,
    Carry,
    CreditChain,
    Credited,
    CreditReturned,
    Deposited,
    DepositTokens,
    Destination,
    Pause,
    RaiseBudget,
    Register,
    Registered,
    ReturnCredit,
    SetDestination,
    SetSponsorship,
    Sponsored,
    Welcome,
    WelcomeChange,
    WelcomeRefused,
    WithdrawBalance,
    WithdrawBudget,
    Withdrawn,
    apply,
)

NOW = Timestamp(1_000_000)
DAY = 86_400
CONTRACT, ALICE, BOB, SPONSOR, CARRIER = (Address(bytes([number] * 20)) for number in range(1, 6))
HUB, ELSEWHERE = ChainRef(b"\x21" * 32), ChainRef(b"\x22" * 32)
SESSIONS = b"\x31" * 32
USER = Registration(ALICE, Role.USER, NOW)
MINER = Registration(ALICE, Role.MINER, NOW)
OFFER = Sponsored(SPONSOR, CARRIER)


def run(*changes: WelcomeChange, state: Welcome | None = None, now: int = NOW) -> Welcome:
    at = state or Welcome(CONTRACT)
    for change in changes:
        at, _ = apply(at, change, Timestamp(now))
    return at


@pytest.fixture
def funded() -> Welcome:
    return run(DepositTokens(ALICE, BOB, Amount(100)), SetDestination(HUB, SESSIONS, Amount(60)))


@pytest.fixture
def sponsored() -> Welcome:
    return run(SetSponsorship(SPONSOR, Amount(5), 1, 1), RaiseBudget(SPONSOR, Amount(12)))


def test_register__without_a_sponsor__names_the_carrier() -> None:
    state, events = apply(Welcome(CONTRACT), Register(USER, CARRIER), NOW)

    assert events == [Registered(ALICE, Role.USER, CARRIER)]
    assert run(Register(MINER, CARRIER), state=state).roles == {ALICE: Role.USER | Role.MINER}
    with pytest.raises(WelcomeRefused, match="already"):
        run(Register(USER, CARRIER), state=state)
    with pytest.raises(WelcomeRefused, match="good until"):
        run(Register(MINER, CARRIER), state=state, now=NOW + 1)


def test_register__sponsored__moves_the_reward_from_budget_to_balance(sponsored: Welcome) -> None:
    state, events = apply(sponsored, Register(USER, CARRIER, OFFER), NOW)

    assert events == [Registered(ALICE, Role.USER, SPONSOR), CarrierPaid(SPONSOR, CARRIER, Amount(5))]
    assert (state.sponsors[SPONSOR].budget, state.balances) == (7, {CARRIER: 5})
    assert state.custody == sponsored.custody == 12


def test_register__beyond_a_sponsors_limits__is_refused_whole(sponsored: Welcome) -> None:
    once = run(Register(USER, CARRIER, OFFER), state=sponsored)
    other = Registration(BOB, Role.USER, Timestamp(NOW + DAY))

    with pytest.raises(WelcomeRefused, match="first 1"):
        run(Register(MINER, CARRIER, OFFER), state=once)
    with pytest.raises(WelcomeRefused, match="1 a day"):
        run(Register(other, CARRIER, OFFER), state=once)
    next_day = run(Register(other, CARRIER, OFFER), state=once, now=NOW + DAY)
    assert next_day.sponsors[SPONSOR].budget == 2
    third = Registration(CARRIER, Role.USER, Timestamp(NOW + 2 * DAY))
    with pytest.raises(WelcomeRefused, match="cannot pay 5"):
        run(Register(third, CARRIER, OFFER), state=next_day, now=NOW + 2 * DAY)
    with pytest.raises(WelcomeRefused, match="first 0"):
        run(Register(USER, CARRIER, Sponsored(BOB, CARRIER)), state=sponsored)
    with pytest.raises(WelcomeRefused, match="never take out"):
        run(Register(USER, CARRIER, Sponsored(SPONSOR, CONTRACT)), state=sponsored)


def test_register__on_the_last_second_of_a_utc_day__counts_for_that_day(sponsored: Welcome) -> None:
    midnight = (NOW // DAY + 1) * DAY
    first, second = (Registration(who, Role.USER, Timestamp(midnight)) for who in (ALICE, BOB))
    state = run(Register(first, CARRIER, OFFER), state=sponsored, now=midnight - 1)

    with pytest.raises(WelcomeRefused, match="1 a day"):
        run(Register(second, CARRIER, OFFER), state=state, now=midnight - 1)
    assert run(Register(second, CARRIER, OFFER), state=state, now=midnight).sponsors[SPONSOR].on_day == 1


def test_deposit__for_another__is_that_accounts() -> None:
    state, events = apply(Welcome(CONTRACT), DepositTokens(ALICE, BOB, Amount(7)), NOW)

    assert (state.balances, events) == ({ALICE: 7}, [Deposited(ALICE, BOB, Amount(7))])
    for account, amount in ((ALICE, 0), (ZERO_ADDRESS, 1), (CONTRACT, 1)):
        with pytest.raises(WelcomeRefused):
            run(DepositTokens(account, BOB, Amount(amount)))


def test_withdraw__up_to_the_balance__is_paid(funded: Welcome) -> None:
    state, events = apply(funded, WithdrawBalance(ALICE, Amount(100), BOB), NOW)

    assert (state.custody, events) == (0, [Withdrawn(ALICE, BOB, Amount(100))])
    for amount, recipient in ((0, BOB), (101, BOB), (1, ZERO_ADDRESS), (1, CONTRACT)):
        with pytest.raises(WelcomeRefused):
            run(WithdrawBalance(ALICE, Amount(amount), recipient), state=funded)


def test_credit__within_the_limit__leaves_custody_as_it_is(funded: Welcome) -> None:
    state, events = apply(funded, CreditChain(ALICE, HUB, Amount(60)), NOW)

    assert events == [Credited(ALICE, HUB, Amount(60))]
    assert state.destinations[HUB] == Destination(SESSIONS, Amount(60), Amount(60))
    assert (state.balances[ALICE], state.custody) == (40, funded.custody)


@pytest.mark.parametrize(
    ("destination", "amount", "match"), [(HUB, 61, "limit"), (ELSEWHERE, 1, "no destination"), (HUB, 0, "zero")]
)
def test_credit__breaks_a_rule__is_refused(funded: Welcome, destination: ChainRef, amount: int, match: str) -> None:
    with pytest.raises(WelcomeRefused, match=match):
        run(CreditChain(ALICE, destination, Amount(amount)), state=funded)


def test_credit__returned__never_more_than_was_credited(funded: Welcome) -> None:
    state = run(CreditChain(ALICE, HUB, Amount(60)), state=funded)
    state, events = apply(state, ReturnCredit(HUB, SESSIONS, BOB, Amount(50)), NOW)

    assert (state.balances[BOB], events) == (50, [CreditReturned(BOB, HUB, Amount(50))])
    with pytest.raises(WelcomeRefused, match="10 is credited"):
        run(ReturnCredit(HUB, SESSIONS, BOB, Amount(11)), state=state)
    for source, sender in ((HUB, b"\x32" * 32), (ELSEWHERE, SESSIONS), (ELSEWHERE, bytes(32))):
        with pytest.raises(WelcomeRefused, match="receives no credits"):
            run(ReturnCredit(source, sender, BOB, Amount(1)), state=state)


def test_destination__with_credit_out__keeps_its_receiver(funded: Welcome) -> None:
    state = run(CreditChain(ALICE, HUB, Amount(1)), SetDestination(HUB, SESSIONS, Amount(0)), state=funded)

    with pytest.raises(WelcomeRefused, match="limit is 0"):
        run(CreditChain(ALICE, HUB, Amount(1)), state=state)
    with pytest.raises(WelcomeRefused, match="must stay"):
        run(SetDestination(HUB, b"\x32" * 32, Amount(60)), state=state)
    back = run(ReturnCredit(HUB, SESSIONS, ALICE, Amount(1)), state=state)
    assert run(SetDestination(HUB, b"\x32" * 32, Amount(60)), state=back).destinations[HUB].receiver == b"\x32" * 32


def test_order__carried__once_and_in_time(funded: Welcome) -> None:
    withdraw = Carry(Withdraw(ALICE, Amount(1), BOB, 7, NOW))
    credit = Carry(Credit(ALICE, HUB, Amount(1), 8, NOW))
    state = run(withdraw, credit, state=funded)

    assert (state.balances[ALICE], state.destinations[HUB].credited) == (98, 1)
    for again in (withdraw, credit, Carry(Credit(ALICE, HUB, Amount(1), 7, NOW))):
        with pytest.raises(WelcomeRefused, match="nonce"):
            run(again, state=state)
    with pytest.raises(WelcomeRefused, match="good until"):
        run(withdraw, state=funded, now=NOW + 1)


def test_order__that_is_refused__keeps_its_nonce_free(funded: Welcome) -> None:
    with pytest.raises(WelcomeRefused, match="cannot give"):
        run(Carry(Withdraw(ALICE, Amount(101), BOB, 7, NOW)), state=funded)

    assert run(Carry(Withdraw(ALICE, Amount(100), BOB, 7, NOW)), state=funded).balances[ALICE] == 0


def test_budget__raised_and_withdrawn__within_its_bounds(sponsored: Welcome) -> None:
    assert run(WithdrawBudget(SPONSOR, Amount(12), BOB), state=sponsored).custody == 0
    for change in (
        RaiseBudget(SPONSOR, Amount(0)),
        RaiseBudget(SPONSOR, Amount(MAX_AMOUNT - 11)),
        WithdrawBudget(SPONSOR, Amount(13), BOB),
        WithdrawBudget(SPONSOR, Amount(0), BOB),
        WithdrawBudget(SPONSOR, Amount(1), CONTRACT),
        WithdrawBudget(ALICE, Amount(1), BOB),
    ):
        with pytest.raises(WelcomeRefused):
            run(change, state=sponsored)


def test_pause__stops_what_begins__and_nothing_that_ends(funded: Welcome) -> None:
    begun = run(CreditChain(ALICE, HUB, Amount(1)), RaiseBudget(SPONSOR, Amount(3)), state=funded)
    state = run(Pause(paused=True), state=begun)

    for change in (
        Register(USER, CARRIER),
        DepositTokens(ALICE, ALICE, Amount(1)),
        CreditChain(ALICE, HUB, Amount(1)),
        Carry(Credit(ALICE, HUB, Amount(1), 1, NOW)),
        RaiseBudget(SPONSOR, Amount(1)),
    ):
        with pytest.raises(WelcomeRefused, match="paused"):
            run(change, state=state)
        run(Pause(paused=False), change, state=state)
    out = run(
        WithdrawBalance(ALICE, Amount(50), ALICE),
        Carry(Withdraw(ALICE, Amount(49), ALICE, 1, NOW)),
        ReturnCredit(HUB, SESSIONS, ALICE, Amount(1)),
        WithdrawBalance(ALICE, Amount(1), ALICE),
        WithdrawBudget(SPONSOR, Amount(3), SPONSOR),
        state=state,
    )
    assert out.custody == 0
