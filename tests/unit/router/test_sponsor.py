"""What the router pays gas for is bounded by the day; what contracts refuse is not counted."""

import pytest

from tristrata.chains.evm import Refusal as ContractRefusal
from tristrata.chains.writer import TransactionReverted
from tristrata.router.accounts.desk import Sponsor
from tristrata.router.http import Refusal


def test_pays__up_to_the_limit_a_day__is_counted_apart_and_starts_anew_the_next_day() -> None:
    now = [86_400.0 * 20_000]
    sponsor = Sponsor(lambda: now[0])

    def carry(who: bytes) -> None:
        with sponsor.pays(who, 2, "things"):
            pass

    def be_refused() -> None:
        with sponsor.pays(b"a", 2, "things"):
            raise TransactionReverted("x", ContractRefusal("Reverted", (), "no"))

    for _ in range(3):
        with pytest.raises(TransactionReverted):
            be_refused()
    for who in (b"a", b"a", b"b"):
        carry(who)
    with pytest.raises(Refusal, match="pays for 2 things a day") as refused:
        carry(b"a")
    assert refused.value.status == 429
    now[0] += 86_400
    carry(b"a")
