"""Epochs on the running network: receipts proven from Ethereum, whoever lies, stops or is killed meanwhile."""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from coincurve import PrivateKey
from msgspec.structs import astuple

from tests.e2e.conftest import MODEL, Customer
from tests.support.network import CliNetwork, paused, wait_for
from tristrata.bindings.hub import open_hubs
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.chains.writer import TransactionReverted, TransactionWriter
from tristrata.client import RouterApi
from tristrata.client.account import Account, NewSession
from tristrata.client.money import Treasurer
from tristrata.client.paths import PathFinder
from tristrata.devnet.treasury import give_dollars, give_ether
from tristrata.protocol import codec
from tristrata.protocol.attestation import Epoch
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, SessionId, session_id
from tristrata.protocol.proof import ReceiptProof, proof_to_json
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import address_of, digest, sign
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, Timestamp
from tristrata.protocol.voucher import SignedVoucher, Split, Voucher, splits_hash
from tristrata.settler.service import HubSettler
from tristrata.storage.attestations import Attestations
from tristrata.storage.bulletin import Bulletin
from tristrata.storage.content_store import ContentMissing, ContentStore
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents
from tristrata.storage.receipt_book import ReceiptBook

VALIDATORS = ("validator-1", "validator-2", "validator-3")
QUESTION = [{"role": "user", "content": "What is the capital of Japan?"}]


@dataclass
class Observer:
    """What anybody can see: the chains, the content store, the bulletin."""

    customer: Customer
    security: Security
    finder: PathFinder
    store: ContentStore
    attestations: Attestations

    async def ask(self, session: NewSession) -> dict[str, Any]:
        """One answer; gives the document of its receipt."""
        answer = await self.customer.client(session).chat.completions.create(
            model=MODEL, messages=QUESTION, temperature=0, seed=7
        )
        async with RouterApi(self.customer.settings.router, session.api_key) as api:
            return await api.receipt(answer.id.removeprefix("chatcmpl-"))

    async def prove(self, document: dict[str, Any]) -> ReceiptProof:
        receipt = codec.receipt_from_json(document["receipt"])
        signature = bytes.fromhex(document["signature"][2:])
        return await self.finder.prove(self.customer.hub, receipt, signature, document["position"])

    async def until_on_ethereum(self, document: dict[str, Any]) -> ReceiptProof:
        async with _patience():
            while True:
                proof = await self.prove(document)
                if proof.path is not None:
                    named = proof.path.checkpoint
                    head = (await self.security.chain.block(Level.FINALIZED)).number
                    if (await self.security.checkpoint(named.chain_ref, named.epoch, at=head)).lane:
                        return proof
                await _a_moment()

    async def last_epoch(self) -> int:
        hub = self.customer.hub
        return int(await hub.outbox.read("last_epoch", at=(await hub.chain.block(Level.SOFT)).number))


@pytest.fixture
async def observer(customer: Customer) -> AsyncIterator[Observer]:
    settings = customer.settings
    hubs = open_hubs(settings.network, settings.manifest, customer.chains)
    security = Security(settings.network, settings.manifest, customer.chains)
    store = ContentStore(settings.home.content)
    finder = PathFinder(settings.network, hubs, security, store)
    yield Observer(customer, security, finder, store, Attestations(Bulletin(settings.home.bulletin)))


class TestProof:
    async def test_verify__receipt_of_an_answer__is_awaited_then_proven_then_offline(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        session = await observer.customer.open()
        file = tmp_path / "receipt.json"
        with paused(network, "settler"):
            document = await observer.ask(session)
            file.write_text(json.dumps(proof_to_json(await observer.prove(document))))
            awaiting = network.run("verify", str(file))
            assert (awaiting.returncode, "awaiting" in (awaiting.stdout + awaiting.stderr).lower()) == (2, True)

        proof = await observer.until_on_ethereum(document)
        assert proof.path is not None
        file.write_text(json.dumps(proof_to_json(proof)))
        proven = network.run("verify", str(file))
        assert proven.returncode == 0, proven.stdout + proven.stderr
        root = "0x" + proof.path.checkpoint.root.hex()
        nowhere = CliNetwork(tmp_path / "nowhere")
        assert nowhere.run("verify", str(file), "--checkpoint", root).returncode == 0
        assert nowhere.run("verify", str(file), "--checkpoint", "0x" + "11" * 32).returncode == 1
        other_chain = network.run("verify", str(file), "--rpc", network.status()["chains"]["base"]["rpc"])
        assert other_chain.returncode == 3
        assert "serves chain 31338" in other_chain.stdout + other_chain.stderr

    def test_ask__and_wait__leaves_a_file_that_verify_proves(self, network: CliNetwork, tmp_path: Path) -> None:
        for hub in ("arbitrum", "acme"):
            file = tmp_path / f"{hub}.json"
            asked = network.run("ask", "List five fruits.", "--hub", hub, "--receipt", str(file), "--wait")
            assert asked.returncode == 0, asked.stderr
            wait_for(lambda file=file: network.run("verify", str(file)).returncode == 0)
            proven = json.loads(network.run("verify", str(file), "--json").stdout)
            assert proven["status"] == "proven"

    async def test_verify__epoch_that_the_ledger_does_not_know__is_awaited(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        document = await observer.ask(await observer.customer.open())
        with paused(network, "relayer"):
            async with _patience():
                while (proof := await observer.prove(document)).path is None:
                    await _a_moment()
            file = tmp_path / "receipt.json"
            file.write_text(json.dumps(proof_to_json(proof)))
            assert network.run("verify", str(file)).returncode == 2
        await observer.until_on_ethereum(document)


class TestValidators:
    async def test_validator__one_is_down__the_others_are_quorum(self, network: CliNetwork, observer: Observer) -> None:
        with paused(network, "validator-2"):
            document = await observer.ask(await observer.customer.open())
            assert (await observer.until_on_ethereum(document)).path is not None

    async def test_validator__two_are_down__nothing_is_sealed_until_one_is_back(
        self, network: CliNetwork, observer: Observer
    ) -> None:
        session = await observer.customer.open()
        await observer.until_on_ethereum(await observer.ask(session))
        with paused(network, "validator-1", "validator-2"):
            document = await observer.ask(session)
            await _seconds(4)
            assert (await observer.prove(document)).path is None
        await observer.until_on_ethereum(document)

    async def test_proposal__with_a_wrong_root__gets_no_signature_and_an_alarm(
        self, network: CliNetwork, observer: Observer
    ) -> None:
        hub, liar = observer.customer.hub, PrivateKey()
        session = await observer.customer.open()
        await observer.until_on_ethereum(await observer.ask(session))
        with paused(network, "settler"):
            number = await observer.last_epoch() + 1
            block = (await hub.chain.block(Level.FINALIZED)).number
            last = (await observer.finder.epoch_of(hub, session.session, 0)).content
            wrong = Epoch(number, block, b"\x01" * 32, b"\x02" * 32, last)
            observer.attestations.propose(hub.ref, address_of(liar.public_key), wrong)
            message = digest(hub.outbox_domain.separator, wrong.struct_hash)
            logs = [network.home.logs / f"{name}.log" for name in VALIDATORS]
            wait_for(lambda: all("alarm: nothing is signed" in log.read_text() for log in logs))
            assert observer.attestations.signatures(hub.ref, number, message) == {}
        await observer.until_on_ethereum(await observer.ask(session))

    async def test_validator__without_router_and_settler_state__recomputes_everything(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        await observer.until_on_ethereum(await observer.ask(await observer.customer.open()))
        alone = CliNetwork(tmp_path)
        home = alone.home.folder
        (home / "keys").mkdir(parents=True, mode=0o700)
        for name in ("network.json", "manifest.json", "keys/password", "keys/validator-1.json"):
            shutil.copy2(network.home.folder / name, home / name)
        for name in ("content", "bulletin"):
            (home / name).symlink_to(network.home.folder / name)

        ready = alone.run("validator", "validator-1", "--check")
        assert ready.returncode == 0, ready.stdout
        assert "33.3 % of validator set 1" in ready.stdout
        base = network.status()["chains"]["base"]["rpc"]
        misled = alone.run("validator", "validator-1", "--check", "--rpc", f"arbitrum={base}")
        assert misled.returncode == 1
        assert "✗ arbitrum" in misled.stdout
        assert "serves chain 31338" in misled.stdout
        running = alone.start("validator", "validator-1", "--dry-run")
        try:
            assert running.stdout is not None
            lines = [running.stdout.readline() for _ in range(1)]
        finally:
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=20)
        output = "".join(lines) + rest
        assert "would sign" in output
        assert '"event": "signed"' not in output
        assert running.returncode == 0

    def test_validator__unknown_name__says_what_is_missing(self, network: CliNetwork) -> None:
        unready = network.run("validator", "nobody", "--check")
        assert unready.returncode == 1
        assert "nobody.json cannot be read" in unready.stdout


class TestSettler:
    async def test_settler__killed_between_store_and_chain__goes_on_and_seals_once(
        self, network: CliNetwork, observer: Observer
    ) -> None:
        hub, session = observer.customer.hub, await observer.customer.open()
        await observer.until_on_ethereum(await observer.ask(session))
        with paused(network, *VALIDATORS):
            document = await observer.ask(session)
            number = await observer.last_epoch() + 1
            async with _patience():
                while not observer.attestations.proposals(hub.ref, number):
                    await _a_moment()
            killed = network.status()["processes"]["settler"]
            os.kill(killed, signal.SIGKILL)
            wait_for(lambda: network.status()["processes"].get("settler", killed) != killed)

        await observer.until_on_ethereum(document)
        async with RouterApi(observer.customer.settings.router, session.api_key) as api:
            state = await api.session(session.session)
        assert state["charged"] == state["cumulative"]

    async def test_settler__two_at_once__seal_every_epoch_once_and_charge_nothing_twice(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        settings, hub = observer.customer.settings, observer.customer.hub
        session = await observer.customer.open()
        books = await Database.open_to_read(settings.home.actor("router") / "router.sqlite")
        database = await Database.open(tmp_path / "second.sqlite")
        writer = TransactionWriter(hub.chain, observer.customer.key, Intents(database))
        second = HubSettler(hub, writer, ReceiptBook(books), observer.store, observer.attestations, 0)
        for _ in range(3):
            document = await observer.ask(session)
            for _ in range(8):
                await _one_step(second)
                await _a_moment()
        proof = await _stepping(second, observer.until_on_ethereum(document))
        await books.close()
        await database.close()

        history = observer.finder._histories[hub.name]
        assert [sealed.epoch for sealed in history.sealed] == list(range(1, len(history.sealed) + 1))
        assert proof.path is not None
        cumulative = int(document["voucher"]["cumulative"])
        head = (await hub.chain.block(Level.SOFT)).number
        assert await hub.charged(session.session, at=head) == cumulative

    async def test_settler__charge_that_no_receipts_account_for__is_left_out_and_stops_nobody(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        hub, payee = observer.customer.hub, Address(os.urandom(20))
        database = await Database.open(tmp_path / "stranger.sqlite")
        writer = TransactionWriter(hub.chain, await _stranger(observer), Intents(database))
        nonsense = await _charge_nonsense(observer, writer, payee, Amount(700))
        log = network.home.logs / "settler.log"
        wait_for(lambda: nonsense.hex() in log.read_text())

        proof = await observer.until_on_ethereum(await observer.ask(await observer.customer.open()))
        assert proof.path is not None
        assert await observer.finder.epoch_of(hub, nonsense, 0) is None

        await _seconds(3)  # what was charged for the last answers may still be on its way
        number = await observer.last_epoch()
        await _seconds(3)
        assert await observer.last_epoch() == number
        warnings = [line for line in log.read_text().splitlines() if nonsense.hex() in line and "left out" in line]
        assert len(warnings) == 1

        money = await Treasurer(hub, observer.store).money(payee)
        assert (money.earned, money.maturing, money.claimable, money.unsealed) == (700, 0, 0, 700)
        without_contents = Treasurer(hub, ContentStore(tmp_path / "empty"))
        with pytest.raises(ContentMissing):
            await without_contents.claim(writer, payee)
        assert await without_contents.money(payee) == money
        await without_contents.claim_direct(writer, payee)
        assert (await without_contents.money(payee)).wallet == 700
        await database.close()


class TestMoney:
    async def test_content_withheld__nothing_is_signed_but_money_is_charged_and_claimed(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        hub, session = observer.customer.hub, await observer.customer.open()
        await observer.until_on_ethereum(await observer.ask(session))
        hidden = network.home.folder / "content-hidden"
        with paused(network, *VALIDATORS):
            document = await observer.ask(session)
            number = await observer.last_epoch() + 1
            async with _patience():
                while not (proposals := observer.attestations.proposals(hub.ref, number)):
                    await _a_moment()
            content = network.home.content / proposals[0].content.hex()[:2] / proposals[0].content.hex()
            content.rename(hidden)
        log = network.home.logs / "validator-1.log"
        wait_for(lambda: proposals[0].content.hex() in log.read_text())
        await _seconds(2)
        assert await observer.last_epoch() == number - 1

        owed = int(document["voucher"]["cumulative"])
        try:
            assert await _charge_and_claim_direct(observer, document, tmp_path) >= owed
        finally:
            hidden.rename(content)
        await observer.until_on_ethereum(document)  # with the content back, the epoch is sealed after all

    async def test_everyone_gone__users_and_miners_get_their_money_out(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        customer, hub = observer.customer, observer.customer.hub
        session = await customer.open()
        with paused(network, "settler"):
            document = await observer.ask(session)
            with paused(network, "router", "relayer", "admission", "miner-1", "miner-2", *VALIDATORS):
                owed = int(document["voucher"]["cumulative"])
                assert await _charge_and_claim_direct(observer, document, tmp_path) >= owed

                database = await Database.open(tmp_path / "owner.sqlite")
                writer = TransactionWriter(hub.chain, customer.key, Intents(database))
                await hub.sessions.write(writer, "ask to close", "request_close", session.session)
                head = (await hub.chain.block(Level.SOFT)).number
                record = await hub.session(session.session, at=head)
                assert record is not None
                async with _patience():
                    while (await hub.chain.block(Level.SOFT)).timestamp < record.closing_at:
                        await _a_moment()
                closed = await hub.sessions.write(writer, "close", "close", session.session)
                await database.close()
                assert await hub.balance(customer.account.address, at=closed.block) == 5_000_000 - owed

    async def test_claim__after_the_veto_delay__pays_once_and_says_where_the_money_is(
        self, network: CliNetwork, observer: Observer
    ) -> None:
        document = await observer.ask(await observer.customer.open())
        await observer.until_on_ethereum(document)
        miner = codec.receipt_from_json(document["receipt"]).miner
        treasurer = Treasurer(observer.customer.hub, observer.store)
        async with _patience():
            while (await treasurer.money(miner)).claimable == 0:
                await _a_moment()
        names = {_account(network, name): name for name in ("miner-1", "miner-2")}
        name = names[miner]

        before = (await treasurer.money(miner)).wallet
        claimed = network.run("claim", name)
        assert claimed.returncode == 0, claimed.stderr
        again = network.run("claim", name)
        assert "arbitrum: nothing to claim now" in again.stdout
        money = await treasurer.money(miner)
        assert money.wallet > before
        assert (money.claimed, money.claimable) == (money.earned, 0)
        seen = json.loads(network.run("where-is-my-money", name, "--json").stdout)
        assert seen[0]["claimed"] == str(money.claimed)

    async def test_claim_direct__settler_gone__the_miner_charges_its_own_voucher_and_is_paid(
        self, network: CliNetwork, observer: Observer
    ) -> None:
        session = await observer.customer.open()
        with paused(network, "settler", "relayer", *VALIDATORS):
            document = await observer.ask(session)
            receipt = codec.receipt_from_json(document["receipt"])
            name = {_account(network, name): name for name in ("miner-1", "miner-2")}[receipt.miner]
            claimed = network.run("claim", name, "--direct")
            assert claimed.returncode == 0, claimed.stderr
            head = (await observer.customer.hub.chain.block(Level.SOFT)).number
            charged = await observer.customer.hub.charged(session.session, at=head)
        assert charged == int(document["voucher"]["cumulative"])
        money = await Treasurer(observer.customer.hub, observer.store).money(receipt.miner)
        assert money.claimed == money.earned

    async def test_claim__more_than_the_epoch_says__is_refused_by_the_contract(
        self, network: CliNetwork, observer: Observer, tmp_path: Path
    ) -> None:
        hub = observer.customer.hub
        document = await observer.ask(await observer.customer.open())
        await observer.until_on_ethereum(document)
        miner = codec.receipt_from_json(document["receipt"]).miner
        treasurer = Treasurer(hub, observer.store)
        async with _patience():
            while (payout := await treasurer.payout(miner)) is None:
                await _a_moment()
        database = await Database.open(tmp_path / "thief.sqlite")
        writer = TransactionWriter(hub.chain, observer.customer.key, Intents(database))
        seal, (packed, sums), proof = payout.arguments
        arguments = (seal, (packed + 1, sums), proof)
        with pytest.raises(TransactionReverted):
            await hub.settlement.write(writer, "too much", "claim", *arguments)
        await database.close()


async def _charge_and_claim_direct(observer: Observer, document: dict[str, Any], folder: Path) -> int:
    """Charge an answer's voucher and pay its payees all that was charged for them, as anyone may; what they were paid.

    All of their sessions are opened, since what a payee claimed by epochs counts against what is opened for it.
    """
    hub = observer.customer.hub
    signed = codec.voucher_from_json(document["voucher"])
    database = await Database.open(folder / "anyone.sqlite")
    writer = TransactionWriter(hub.chain, observer.customer.key, Intents(database))
    treasurer = Treasurer(hub, observer.store)
    await treasurer.money(observer.customer.account.address)
    last = treasurer._history.last_charge(signed.voucher.session)
    if last[0] < signed.voucher.count:
        await hub.charge(writer, signed, last)
    paid = 0
    for payee in {split.payee for split in signed.splits}:
        before = await hub.balance(payee, at=(await hub.chain.block(Level.SOFT)).number)
        done = await treasurer.claim_direct(writer, payee)
        paid += await hub.balance(payee, at=done[-1].block) - before
        money = await treasurer.money(payee)
        assert money.claimed == money.earned
    await database.close()
    return paid


async def _stranger(observer: Observer) -> PrivateKey:
    """The key of another registered user, with ether on the hub."""
    customer, key = observer.customer, PrivateKey()
    known = customer.account
    stranger = Account(key, known._router, known._welcome, known._hubs)
    await give_ether(customer.chains, [customer.hub.name], stranger.address)
    await stranger.register()
    await stranger.wait_until_known(customer.hub)
    return key


async def _charge_nonsense(observer: Observer, writer: TransactionWriter, payee: Address, amount: Amount) -> SessionId:
    """Open a session of the writer's with a key of its own, and charge what no receipt ever said."""
    customer, hub, session_key = observer.customer, observer.customer.hub, PrivateKey()
    await give_dollars(customer.settings, customer.chains, [(hub.name, writer.address, amount)])
    terms = Terms(
        session_key=address_of(session_key.public_key),
        router=writer.address,
        managed=False,
        model_id=os.urandom(32),
        assurance=Assurance.NONE,
        replicas=1,
        router_bps=0,
        max_prompt_price=1,
        max_output_price=1,
        max_per_day=0,
        exposure_cap=amount,
        expiry=Timestamp((await hub.chain.block(Level.SOFT)).timestamp + 100_000),
    )
    await hub.asset.write(writer, "approve", "approve", hub.sessions.address, amount)
    await hub.sessions.write(writer, "open", "open", 1, amount, astuple(terms))
    session, splits = session_id(hub.ref, writer.address, 1), (Split(payee, amount),)
    voucher = Voucher(session, 7, amount, os.urandom(32), splits_hash(splits))
    signature = sign(session_key, digest(hub.settlement_domain.separator, voucher.struct_hash))
    await hub.charge(writer, SignedVoucher(voucher, splits, signature), (0, ()))
    return session


async def _one_step(settler: HubSettler) -> None:
    with suppress(TristrataError):  # where the other settler was first
        await settler.step(2**60)


async def _stepping(settler: HubSettler, work: Any) -> Any:
    waiting = asyncio.ensure_future(work)
    while not waiting.done():
        await _one_step(settler)
        await _a_moment()
    return waiting.result()


def _account(network: CliNetwork, name: str) -> bytes:
    from tristrata.custody.keystore import load_key, read_password

    key = load_key(network.home.keystore(name), read_password(network.home.password_file))
    return address_of(key.public_key)


def _patience() -> Any:
    return asyncio.timeout(60)


async def _a_moment() -> None:
    await asyncio.sleep(0.1)


async def _seconds(number: float) -> None:
    await asyncio.sleep(number)
