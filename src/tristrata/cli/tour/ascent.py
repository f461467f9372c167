"""A tour's second half: receipts climb to Ethereum and are verified, one is tampered with, miners take their pay."""

import asyncio
import json
import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec.structs import replace

from tristrata.bindings.hub import Hub
from tristrata.bindings.security import Security
from tristrata.chains.evm import EvmChain, Level
from tristrata.chains.pool import Chains
from tristrata.chains.writer import TransactionWriter
from tristrata.cli.tour.records import Answer, Milestone, Screen, Step, TourBroken
from tristrata.client.money import Treasurer
from tristrata.client.paths import PathFinder
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol import codec
from tristrata.protocol.attestation import Checkpoint
from tristrata.protocol.ids import Caip2, show
from tristrata.protocol.proof import LinkBroken, ReceiptProof, parse_proof, proof_to_json, verify
from tristrata.protocol.signing import digest
from tristrata.storage.attestations import Attestations
from tristrata.storage.bulletin import Bulletin
from tristrata.storage.content_store import ContentStore
from tristrata.storage.database import Database
from tristrata.storage.intents import Intents
from tristrata.validator.service import checkpoint_domains

_PATIENCE_SECONDS = 120.0
_POLL_SECONDS = 0.25
_SHOW_SECONDS = 0.1
_OURS = re.compile(r"\d+-[a-z][a-z0-9-]*\.json|tampered\.json")


class Ascent:
    """From charged receipts to proven ones."""

    def __init__(self, settings: ActorSettings, chains: Chains, hubs: Mapping[Caip2, Hub], screen: Screen) -> None:
        self._settings = settings
        self._hubs = {hub.name: hub for hub in hubs.values()}
        self._screen = screen
        self._answers: list[Answer] = []
        self._steps: dict[bytes, Step] = {}
        self._security = Security(settings.network, settings.manifest, chains)
        self._domains = checkpoint_domains(settings.network, dict(hubs), self._security)
        self._attestations = Attestations(Bulletin(settings.home.bulletin))
        self._finder = PathFinder(settings.network, hubs, self._security, ContentStore(settings.home.content))

    def add(self, answer: Answer) -> None:
        """Follow one more receipt from now on."""
        self._answers.append(answer)

    async def watch(self) -> None:
        """Follow receipts until cancelled, beside whatever else the tour does."""
        while True:
            for number, answer in enumerate(self._answers):
                if not answer.l1_tx:
                    self._answers[number] = await self._follow(answer)
            await asyncio.sleep(_POLL_SECONDS)

    @property
    def steps(self) -> list[Step]:
        """The transactions that the receipts climbed by, each once, however many receipts it carried."""
        return list(self._steps.values())

    async def finish(self, watching: "asyncio.Task[None]") -> list[Answer]:
        """Wait until every receipt's root is on Ethereum. Raises `TourBroken` after two minutes."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        self._screen.climbing(self._answers)
        while not all(answer.l1_tx for answer in self._answers):
            if watching.done():
                watching.result()
            if time.monotonic() > deadline:
                raise TourBroken("not every receipt is on Ethereum after two minutes", remedy="see the relayer's log")
            await asyncio.sleep(_SHOW_SECONDS)
            self._screen.climbing(self._answers)
        return self._answers

    def verify(self, answers: list[Answer], folder: Path) -> None:
        """Verify every receipt against the root on Ethereum, and show what a changed one breaks at.

        Leaves the receipt files in ``folder``, in place of an earlier tour's. Raises `LinkBroken`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.json"):
            if _OURS.fullmatch(old.name):
                old.unlink()
        for number, answer in enumerate(answers, 1):
            file = folder / f"{number}-{answer.hub}.json"
            file.write_text(json.dumps(answer.path, indent=2) + "\n")
            proof = parse_proof(file.read_bytes())
            assert proof.path is not None
            started = time.perf_counter()
            hops = verify(proof, proof.path.checkpoint.root).hops
            milliseconds = 1_000 * (time.perf_counter() - started)
            way = " → ".join(f"epoch {hop.epoch}" for hop in hops)
            root = show(proof.path.checkpoint.root)[:12]
            self._screen.say(
                f"[green]✓[/green] {file}: {way} → Ethereum {root}…, by attestation  [dim]{milliseconds:.1f} ms[/dim]"
            )
        self._tamper(folder, answers[0])

    async def claim(self) -> list[Step]:
        """Claim what every miner has earned, on every hub, once the veto delay is over."""
        settings = self._settings
        await asyncio.sleep(settings.network.parameters.payout_delay_seconds + 1)
        password = read_password(settings.home.password_file)
        steps = []
        async with AsyncExitStack() as stack:
            for name, miner in settings.network.miners.items():
                key = load_key(settings.home.keystore(name), password)
                database = await Database.open(settings.home.actor(name) / "claims.sqlite")
                stack.push_async_callback(database.close)
                for hub in (self._hubs[hub] for hub in miner.hubs):
                    started, treasurer = time.monotonic(), Treasurer(hub, ContentStore(settings.home.content))
                    writer = TransactionWriter(hub.chain, key, Intents(database))
                    before = (await treasurer.money(writer.address)).claimed
                    done = await treasurer.claim(writer, writer.address)
                    if done is not None:
                        paid = (await treasurer.money(writer.address)).claimed - before
                        seconds = round(time.monotonic() - started, 3)
                        step = Step(f"{name} claims", hub.name, done.gas_used, seconds, f"{paid / 10**6:.6f} tUSD")
                        steps.append(step)
        return steps

    async def _follow(self, answer: Answer) -> Answer:
        hub = self._hubs[answer.hub]
        receipt = codec.receipt_from_json(answer.receipt["receipt"])
        signature = bytes.fromhex(answer.receipt["signature"][2:])
        position = answer.receipt["position"]
        record = await self._finder.epoch_of(hub, receipt.session, position)
        if record is None:
            return answer
        reached = {milestone.name for milestone in answer.milestones}
        if "settled" not in reached:
            gas = await _gas(hub.chain, record.tx_hash)
            self._steps[record.tx_hash] = Step(f"settle epoch {record.epoch}", hub.name, gas, None)
            answer = _reach(answer, "settled", gas)
        if "attested" not in reached and await self._is_attested(hub, record.epoch, record.root):
            answer = _reach(answer, "attested", 0)
        proof = await self._finder.prove(hub, receipt, signature, position)
        l1_tx = await self._l1_transaction(proof)
        if l1_tx is None or "attested" not in {milestone.name for milestone in answer.milestones}:
            return answer
        gas = await _gas(self._security.chain, l1_tx)
        self._steps[l1_tx] = Step("attest an epoch", self._security.name, gas, None)
        answer = _reach(answer, "Ethereum", gas)
        return replace(answer, path=proof_to_json(proof), l1_tx=show(l1_tx))

    async def _is_attested(self, hub: Hub, epoch: int, root: bytes) -> bool:
        message = digest(self._domains[hub.caip2].separator, Checkpoint(hub.ref, epoch, root).struct_hash)
        head = (await self._security.chain.block(Level.SOFT)).number
        signatures = self._attestations.signatures(hub.ref, epoch, message)
        return bool(await self._security.quorum_of(signatures, at=head))

    async def _l1_transaction(self, proof: ReceiptProof) -> bytes | None:
        if proof.path is None:
            return None
        named = proof.path.checkpoint
        head = (await self._security.chain.block(Level.SOFT)).number
        found = await self._security.checkpoint(named.chain_ref, named.epoch, at=head)
        if not found.lane:
            return None
        verify(proof, found.root)
        for event in await self._security.events(self._security.first_block, head):
            values = event.values
            if event.name == "Attested" and (values["chain"], values["epoch"]) == (named.chain_ref, named.epoch):
                return event.log.tx_hash
        return None

    def _tamper(self, folder: Path, answer: Answer) -> None:
        document = json.loads(json.dumps(answer.path))
        price = document["receipt"]["price"]
        document["receipt"]["price"] = str(int(price) + 1)
        file = folder / "tampered.json"
        file.write_text(json.dumps(document, indent=2) + "\n")
        try:
            proof = parse_proof(file.read_bytes())
            assert proof.path is not None
            verify(proof, proof.path.checkpoint.root)
        except LinkBroken as broken:
            self._screen.say(
                f"[red]✗[/red] {file}: price {price} → {int(price) + 1} breaks at [bold]{broken.link}[/bold]"
            )
            return
        raise TourBroken("a receipt with another price was believed")


def _reach(answer: Answer, name: str, gas: int) -> Answer:
    milestone = Milestone(name, int(1_000 * (time.time() - answer.asked_at)), gas)
    return replace(answer, milestones=(*answer.milestones, milestone))


async def _gas(chain: EvmChain, tx_hash: bytes) -> int:
    receipt = await chain.receipt(tx_hash)
    if receipt is None:
        raise TourBroken(f"transaction {show(tx_hash)} is in no block of {chain.name} any more")
    return receipt.gas_used
