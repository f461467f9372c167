import pytest
from msgspec.structs import replace

from tristrata.protocol.errors import InvalidValue
from tristrata.protocol.parameters import Windows, check_windows

FITTING = Windows(
    grace=90_000,
    epoch=600,
    payout_delay=3_600,
    set_validity=604_800,
    unbonding=1_209_600,
    finality=1_200,
    outage=86_400,
    change_delay=1_209_600,
    miner_exit=259_200,
    router_exit=604_800,
)


def test_check_windows__at_the_edge__holds() -> None:
    check_windows(FITTING)
    check_windows(replace(FITTING, unbonding=604_800 + 1_200 + 3_600, grace=1_200 + 600 + 86_400))
    check_windows(replace(FITTING, change_delay=604_800))


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"unbonding": 604_800 + 1_200 + 3_600 - 1}, "unbonding is 609599 s; .* 609600 s"),
        ({"set_validity": 1_209_600}, "unbonding is"),
        ({"payout_delay": 700_000}, "unbonding is"),
        ({"grace": 1_200 + 600 + 86_400 - 1}, "grace is 88199 s; .* 88200 s"),
        ({"outage": 100_000}, "grace is"),
        ({"change_delay": 604_799}, "change delay is 604799 s; .* router exit, 604800 s"),
        ({"miner_exit": 1_209_601}, "change delay is 1209600 s; .* miner exit, 1209601 s"),
        ({"grace": 1_209_601}, "change delay is .* grace"),
        ({"router_exit": 1_209_601}, "change delay is .* router exit"),
    ],
)
def test_check_windows__one_second_short__is_refused_and_named(change: dict[str, float], names: str) -> None:
    with pytest.raises(InvalidValue, match=names):
        check_windows(replace(FITTING, **change))
