"""Hypothesis strategies for the protocol's structs: any value that a field can hold."""

from hypothesis import strategies as st

from tristrata.protocol.ids import Address
from tristrata.protocol.receipt import Assurance, Receipt
from tristrata.protocol.terms import OpenSession, Role, Terms
from tristrata.protocol.units import Amount

words = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20).filter(any).map(Address)
amounts = st.integers(0, 2**96 - 1).map(Amount)
small_amounts = st.integers(0, 10**12).map(Amount)
uint64 = st.integers(0, 2**64 - 1)
secrets = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))

receipts = st.builds(
    Receipt,
    session=words,
    request_id=words,
    miner=addresses,
    model_id=words,
    prompt_hash=words,
    output_hash=words,
    prompt_tokens=uint64,
    output_tokens=uint64,
    price=amounts,
    started_at=uint64,
    finished_at=uint64,
    assurance=st.sampled_from(Assurance),
    evidence=words,
)

terms = st.builds(
    Terms,
    session_key=addresses,
    router=addresses,
    model_id=words,
    assurance=st.sampled_from(Assurance),
    replicas=st.integers(1, 8),
    router_bps=st.integers(0, 2_000),
    max_prompt_price=amounts,
    max_output_price=amounts,
    max_per_day=amounts,
    exposure_cap=amounts,
    expiry=uint64,
)

open_sessions = st.builds(
    OpenSession,
    owner=addresses,
    nonce=st.integers(0, 2**256 - 1),
    deposit=amounts,
    deadline=uint64,
    terms=terms,
)

roles = st.sampled_from(Role)
earnings = st.dictionaries(addresses, small_amounts, min_size=1, max_size=32)
