"""Sessions paid in tokens that misbehave: no money is lost, and none is taken that is not there."""

import boa
import pytest

from tests.contracts.conftest import DOLLAR, GRACE, REF, Hub, account, contract, make_hub, raw, reverts
from tests.contracts.session_orders import soon
from tristrata.protocol.ids import session_id
from tristrata.protocol.orders import ClaimTo
from tristrata.protocol.units import Amount

ZERO = "0x" + 40 * "0"
FEE, REFUSING, SILENT, REENTRANT, BLOCKING = 2, 4, 8, 16, 32  # modes of WeirdToken


@pytest.fixture
def weird() -> Hub:
    return make_hub(contract("testing/WeirdToken.vy"))


def low(name: str) -> str:
    return account(name).lower()


def test_open__token_that_keeps_a_fee__is_refused(weird: Hub) -> None:
    weird.dollar.set_mode(FEE)

    with reverts("Sessions", "WrongAmountReceived", 1_000, 990):
        weird.open(deposit=1_000)
    assert weird.sessions.session(session_id(REF, raw("owner"), 1)).owner == ZERO


def test_open__token_that_returns_false__is_refused(weird: Hub) -> None:
    weird.dollar.set_mode(REFUSING)

    with reverts("Sessions", "TransferRefused", weird.dollar.address.lower(), low("owner"), 1_000):
        weird.open(deposit=1_000)


def test_open__token_that_returns_nothing__works(weird: Hub) -> None:
    weird.dollar.set_mode(SILENT)
    session = weird.open(deposit=1_000)

    weird.charge(session, 1, {"miner": 7})
    assert weird.claim_direct(session, 0) == 7
    weird.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    weird.sessions.close(session)
    assert weird.dollar.balanceOf(account("owner")) == 1_000 * DOLLAR - 7


def kept(hub: Hub) -> list[tuple[str, int]]:
    """Refunds that the last call kept, because the token refused to pay them."""
    return [(log.owner, log.amount) for log in hub.settlement.get_logs() if type(log).__name__ == "RefundKept"]


@pytest.mark.parametrize("mode", [REFUSING, BLOCKING])
def test_close__token_that_refuses_the_owner__ends_the_session_and_keeps_the_refund(weird: Hub, mode: int) -> None:
    session = weird.open(deposit=1_000)
    weird.charge(session, 1, {"miner": 100})
    weird.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    weird.dollar.set_blocked(account("owner"), True)
    weird.dollar.set_mode(mode)

    weird.sessions.close(session)

    assert weird.sessions.is_closed(session)
    assert weird.settlement.kept_refund(account("owner")) == 900
    assert weird.dollar.balanceOf(weird.settlement.address) == 1_000
    weird.dollar.set_mode(SILENT)
    assert weird.claim_direct(session, 0) == 100
    assert weird.settlement.collect_refund(account("cold"), sender=account("thief")) == 0
    assert weird.settlement.collect_refund(account("cold"), sender=account("owner")) == 900
    assert weird.settlement.collect_refund(account("cold"), sender=account("owner")) == 0
    assert weird.dollar.balanceOf(account("cold")) == 900
    assert weird.dollar.balanceOf(weird.settlement.address) == 0


def test_close__two_refunds_that_are_refused__add_up(weird: Hub) -> None:
    opened = [weird.open(nonce=nonce, deposit=100 * nonce) for nonce in (1, 2)]
    for session in opened:
        weird.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    weird.dollar.set_mode(REFUSING)

    for session in opened:
        weird.sessions.close(session)

    weird.dollar.set_mode(SILENT)
    assert weird.settlement.collect_refund(account("owner"), sender=account("owner")) == 300


def test_forfeit__managed_and_its_owner_is_refused_by_the_token__ends_all_the_same() -> None:
    """Else a router could fork the sessions of blocked owners for nothing."""
    hub = make_hub(contract("testing/WeirdToken.vy"), unsecured_limit=1_000)
    session = hub.open(deposit=1_000, managed=True)
    hub.charge(session, 1, {"miner": 100})
    fork, splits, _ = hub.charge_call(session, 1, {"other": 50})
    hub.dollar.set_blocked(account("owner"), True)
    hub.dollar.set_mode(BLOCKING)

    hub.settlement.forfeit(fork, splits, hub.charge_call(session, 1, {"miner": 100})[1])

    assert kept(hub) == [(account("owner"), 850)]
    assert hub.sessions.is_closed(session)
    assert hub.settlement.collect_refund(account("cold"), sender=account("owner")) == 850


def test_collect_refund__recipient_that_the_token_refuses__loses_nothing(weird: Hub) -> None:
    session = weird.open(deposit=1_000)
    weird.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    weird.dollar.set_mode(REFUSING)
    weird.sessions.close(session)

    with reverts("Settlement", "TransferRefused", weird.dollar.address.lower(), low("cold"), 1_000):
        weird.settlement.collect_refund(account("cold"), sender=account("owner"))
    assert weird.settlement.kept_refund(account("owner")) == 1_000


def test_open__token_reenters_to_take_what_it_has_not_brought__is_refused(weird: Hub) -> None:
    """The session is chargeable before its deposit has come; what comes must still be the whole of it."""
    weird.open(nonce=1, deposit=1_000)
    mine = session_id(REF, raw("owner"), 2)
    charge = weird.charge_call(mine, 1, {"thief": 500})
    settlement = weird.settlement
    calls = [
        settlement.charge.prepare_calldata(*charge),
        settlement.claim_direct.prepare_calldata(mine, 1, charge[1], 0),
    ]
    weird.dollar.set_reentry(settlement.address, settlement.multicall.prepare_calldata(calls))
    weird.dollar.set_mode(REENTRANT)

    with reverts("Sessions", "WrongAmountReceived", 500, 0):
        weird.open(nonce=2, deposit=500)
    assert weird.dollar.balanceOf(account("thief")) == 0


@pytest.mark.parametrize(("name", "more"), [("top_up", (1,)), ("close", ())])
def test_close__token_reenters_sessions__is_locked_out(weird: Hub, name: str, more: tuple[int, ...]) -> None:
    first, second = weird.open(nonce=1, deposit=1_000), weird.open(nonce=2, deposit=1_000)
    for session in (first, second):
        weird.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    token = weird.dollar.address
    weird.dollar.mint(token, 1)
    weird.dollar.approve_as_token(weird.sessions.address, 1)
    weird.dollar.set_reentry(weird.sessions.address, getattr(weird.sessions, name).prepare_calldata(second, *more))
    weird.dollar.set_mode(REENTRANT)

    weird.sessions.close(first)

    assert (weird.dollar.reentries(), weird.dollar.reentry_succeeded()) == (1, False)
    weird.dollar.set_mode(SILENT)
    getattr(weird.sessions, name)(second, *more, sender=token)  # which works outside of another call


def claim_to(hub: Hub, session: bytes, payee: str, recipient: str) -> tuple[object, ...]:
    """The arguments of `claim_to` for the only payee of a session."""
    count, splits = hub.last[session]
    order = ClaimTo(raw(payee), raw(recipient), Amount(hub.settlement.claimed(account(payee))), soon())
    signature = hub.order(order, payee, hub.settlement)
    return account(recipient), order.deadline, signature, session, count, [split.packed for split in splits], 0


@pytest.mark.parametrize("mode", [REFUSING, BLOCKING])
def test_claim_direct__recipient_that_the_token_refuses__can_be_paid_to_another_account(weird: Hub, mode: int) -> None:
    session = weird.open(deposit=1_000)
    weird.charge(session, 1, {"miner": 100})
    weird.dollar.set_blocked(account("miner"), True)
    weird.dollar.set_mode(mode)

    with reverts("Settlement", "PaymentRefused", low("miner"), low("miner"), 100):
        weird.claim_direct(session, 0)
    assert (weird.settlement.claimed(account("miner")), weird.settlement.total_paid()) == (0, 0)
    if mode == REFUSING:
        weird.dollar.set_mode(SILENT)
    assert weird.settlement.claim_to(*claim_to(weird, session, "miner", "cold"), sender=account("anyone")) == 100
    assert weird.dollar.balanceOf(account("cold")) == weird.settlement.claimed(account("miner")) == 100
    assert (weird.claim_direct(session, 0), weird.settlement.total_paid()) == (0, 100)


def test_claim_to__recipient_that_the_token_refuses__is_refused(weird: Hub) -> None:
    session = weird.open(deposit=1_000)
    weird.charge(session, 1, {"miner": 100})
    weird.dollar.set_blocked(account("cold"), True)
    weird.dollar.set_mode(BLOCKING)

    with reverts("Settlement", "PaymentRefused", low("miner"), low("cold"), 100):
        weird.settlement.claim_to(*claim_to(weird, session, "miner", "cold"))
    assert weird.settlement.claimed(account("miner")) == 0


@pytest.mark.parametrize("name", ["charge", "claim_direct", "claim_to", "forfeit", "close"])
def test_claim_direct__token_reenters__finds_everything_locked(weird: Hub, name: str) -> None:
    session, other = weird.open(nonce=1, deposit=1_000), weird.open(nonce=2, deposit=1_000)
    for each in (session, other):
        weird.charge(each, 1, {"miner": 100})
    weird.sessions.request_close(other, sender=account("owner"))
    boa.env.time_travel(GRACE)
    settlement = weird.settlement
    (fork, splits, _), charged = (
        weird.charge_call(other, 2, {"thief": 50}),
        weird.charge_call(other, 1, {"miner": 100})[1],
    )
    target, function, arguments = {
        "charge": (settlement, "charge", weird.charge_call(other, 2, {"miner": 200})),
        "claim_direct": (settlement, "claim_direct", (other, 1, charged, 0)),
        "claim_to": (settlement, "claim_to", claim_to(weird, other, "miner", "cold")),
        "forfeit": (settlement, "forfeit", (fork, splits, charged)),
        "close": (weird.sessions, "close", (other,)),
    }[name]
    weird.dollar.set_reentry(target.address, getattr(target, function).prepare_calldata(*arguments))
    weird.dollar.set_mode(REENTRANT)
    with boa.env.anchor():
        getattr(target, function)(*arguments)  # which works outside of another call

    assert weird.claim_direct(session, 0) == 100

    assert (weird.dollar.reentries(), weird.dollar.reentry_succeeded()) == (1, False)
    assert weird.settlement.total_paid() == weird.dollar.balanceOf(account("miner")) == 100


def test_close__token_reenters_settlement__finds_it_locked(weird: Hub) -> None:
    session = weird.open(deposit=1_000)
    weird.charge(session, 1, {"miner": 100})
    weird.sessions.request_close(session, sender=account("owner"))
    boa.env.time_travel(GRACE)
    charged = weird.charge_call(session, 1, {"miner": 100})[1]
    call = weird.settlement.claim_direct.prepare_calldata(session, 1, charged, 0)
    weird.dollar.set_reentry(weird.settlement.address, call)
    weird.dollar.set_mode(REENTRANT)

    weird.sessions.close(session)

    assert (weird.dollar.reentries(), weird.dollar.reentry_succeeded()) == (1, False)
    assert weird.claim_direct(session, 0) == 100
    assert weird.dollar.balanceOf(weird.settlement.address) == 0
