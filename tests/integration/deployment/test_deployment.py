"""A whole network deployed on real anvils, and one session's life on it: opened by signature, charged, claimed."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from msgspec.structs import astuple, replace

from tests.support.deployment import OPERATOR, Deployed
from tristrata.bindings.hub import charge_arguments
from tristrata.chains.evm import ChainUnreachable, EvmChain, Level, WrongChain
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.client.orders import sign_order, sign_permit, sign_registration
from tristrata.config.manifest import read_manifest
from tristrata.deployment.apply import DeploymentBroken, apply, check
from tristrata.deployment.plan import plan
from tristrata.protocol.authorization import Asset
from tristrata.protocol.hashing import address_word, keccak, word
from tristrata.protocol.ids import Address, eip155, session_id
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.terms import OpenSession, Registration, Role, Terms
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import SignedVoucher, Split, Voucher, splits_hash
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents

OWNER, SESSION_KEY = (PrivateKey(keccak(name)) for name in (b"owner", b"session key"))
ROUTER, MINER = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
DOLLAR = 10**6


async def test_apply__twice__deploys_once_and_passes_the_check(deployed: Deployed) -> None:
    planned = plan(deployed.network, address_of(OPERATOR.public_key), address_of(OPERATOR.public_key))
    again = await apply(planned, deployed.network, deployed.writers, deployed.manifest_file)

    assert again == deployed.manifest == read_manifest(deployed.manifest_file)
    assert await deployed.chains["arbitrum"].nonce(address_of(OPERATOR.public_key)) == 9
    await check(again, deployed.network, deployed.chains)


async def test_check__code_replaced_or_gone__names_the_contract(deployed: Deployed) -> None:
    sessions = deployed.contract("acme", "Sessions").address
    await deployed.chains["acme"].rpc("anvil_setCode", "0x" + sessions.hex(), "0x00")

    with pytest.raises(DeploymentBroken, match="Sessions .* acme; there is another contract"):
        await check(deployed.manifest, deployed.network, deployed.chains)


async def test_check__endpoint_of_another_chain_or_none__says_so(deployed: Deployed) -> None:
    url = deployed.chains["acme"].url
    async with EvmChain("base", eip155(31_338), url) as chain:
        with pytest.raises(WrongChain, match="serves chain 31340; base is 31338"):
            await chain.check()
    async with EvmChain("base", eip155(31_338), "http://127.0.0.1:1") as chain:
        with pytest.raises(ChainUnreachable, match="base does not answer"):
            await chain.check()


async def test_session__from_registration_to_claim__pays_whom_the_voucher_names(deployed: Deployed) -> None:
    """The path of the demo, by hand: Base registers, the operator carries it over, Arbitrum opens, charges, pays."""
    owner = address_of(OWNER.public_key)
    base, arbitrum = deployed.writers["base"], deployed.writers["arbitrum"]
    now = (await deployed.chains["arbitrum"].block(Level.SOFT)).timestamp
    deadline = Timestamp(now + 3_600)

    welcome = deployed.contract("base", "Welcome")
    registration = Registration(owner, Role.USER, deadline)
    signature = sign_registration(OWNER, deployed.domain("base", "Welcome"), registration)
    await welcome.write(base, "register", "register", owner, Role.USER, deadline, signature)

    dollar, sessions = deployed.contract("arbitrum", "TestDollar"), deployed.contract("arbitrum", "Sessions")
    settlement = deployed.contract("arbitrum", "Settlement")
    payload = word(1) + address_word(owner) + word(Role.USER)
    source = (deployed.network.ref("base"), address_word(welcome.address))
    await asyncio.gather(
        sessions.write(arbitrum, "carry", "on_message", *source, payload),
        dollar.write(arbitrum, "mint", "mint", owner, 10 * DOLLAR),
    )

    terms = Terms(
        session_key=address_of(SESSION_KEY.public_key),
        router=ROUTER,
        managed=False,
        model_id=b"\x01" * 32,
        assurance=Assurance.NONE,
        replicas=1,
        router_bps=500,
        max_prompt_price=DOLLAR,
        max_output_price=DOLLAR,
        max_per_day=0,
        exposure_cap=DOLLAR,
        expiry=Timestamp(now + 100_000),
    )
    order = OpenSession(owner, 1, Amount(5 * DOLLAR), deadline, terms)
    asset = Asset(deployed.chains["arbitrum"].chain_id, dollar.address, "Test Dollar", "1")
    permit = sign_permit(OWNER, asset, owner, sessions.address, order.deposit, 0, deadline)
    v, r, s = permit.signature[64], permit.signature[:32], permit.signature[32:64]
    opening = (
        owner,
        order.nonce,
        order.deposit,
        order.deadline,
        astuple(terms),
        sign_order(OWNER, deployed.domain("arbitrum", "Sessions"), order),
        permit.deadline,
        v,
        r,
        s,
    )
    opened = await sessions.write(arbitrum, "open", "open_for", *opening)
    session = session_id(deployed.network.ref("arbitrum"), owner, order.nonce)

    record = await sessions.read("session", session, at=opened.block)
    assert (record[0], record[2]) == (owner, 5 * DOLLAR)
    [log] = [
        event
        for raw in await deployed.chains["arbitrum"].logs([sessions.address], opened.block, opened.block)
        if (event := sessions.event(raw)) and event.name == "Opened"
    ]
    assert log.values == {"session_id": session, "owner": owner, "router": ROUTER, "deposit": 5 * DOLLAR}

    splits = tuple(sorted([Split(ROUTER, Amount(5)), Split(MINER, Amount(95))]))
    voucher = Voucher(session, 1, Amount(100), b"\x02" * 32, splits_hash(splits))
    domain = deployed.domain("arbitrum", "Settlement")
    signed = sign(SESSION_KEY, digest(domain.separator, voucher.struct_hash))

    def charge(voucher: Voucher, before: tuple[int, tuple[Split, ...]]) -> tuple[Any, ...]:
        (call,), words, amounts = charge_arguments([(SignedVoucher(voucher, splits, signed), before)])
        return call, words, amounts

    await settlement.write(arbitrum, "charge 1", "charge", *charge(voucher, (0, ())))
    place = splits.index(Split(MINER, Amount(95)))
    words = [split.packed for split in splits]
    paid = await settlement.write(arbitrum, "claim 1", "claim_direct", session, 1, words, place)
    assert await dollar.read("balanceOf", MINER, at=paid.block) == 95

    with pytest.raises(TransactionReverted, match=r"ChargeNotUp\(100, 1, 100, 1\)"):
        await settlement.write(arbitrum, "charge again", "charge", *charge(voucher, (1, splits)))
    with pytest.raises(TransactionReverted, match="WrongSigner"):
        await settlement.write(arbitrum, "forged", "charge", *charge(replace(voucher, count=2), (1, splits)))


async def test_submit__same_purpose_twice_and_after_a_restart__sends_once(deployed: Deployed, tmp_path: Path) -> None:
    writer = deployed.writers["arbitrum"]
    dollar = deployed.contract("arbitrum", "TestDollar")
    before = await deployed.chains["arbitrum"].nonce(writer.address)

    first, second = await asyncio.gather(*(dollar.write(writer, "mint once", "mint", MINER, DOLLAR) for _ in range(2)))
    database = await Database.open(tmp_path / "operator.sqlite")
    restarted = TransactionWriter(deployed.chains["arbitrum"], OPERATOR, Intents(database))
    third = await dollar.write(restarted, "mint once", "mint", MINER, DOLLAR)
    await database.close()

    assert first == second == third
    assert await deployed.chains["arbitrum"].nonce(writer.address) == before + 1
    assert await dollar.read("balanceOf", MINER, at=first.block) == DOLLAR


async def test_submit__many_at_once__have_consecutive_nonces(deployed: Deployed) -> None:
    writer = deployed.writers["arbitrum"]
    dollar = deployed.contract("arbitrum", "TestDollar")

    done = await asyncio.gather(*(dollar.write(writer, f"mint {number}", "mint", MINER, 1) for number in range(30)))
    assert await dollar.read("balanceOf", MINER, at=max(inclusion.block for inclusion in done)) == 30
