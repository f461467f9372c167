"""A hub's contracts on an anvil of their own, and whole epochs of it settled one transaction after another."""

import asyncio
import re
import tempfile
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from coincurve import PrivateKey

from benchmarks.stats import BenchmarkFailed
from tristrata.bindings.contract import Contract, constructor_data
from tristrata.bindings.hub import LastCharge, charge_arguments
from tristrata.chains.evm import EvmChain
from tristrata.deployment.plan import create_address
from tristrata.devnet.toolchain import anvil_path
from tristrata.protocol.attestation import Checkpoint, Epoch, ValidatorSet, make_set
from tristrata.protocol.authorization import Authorization
from tristrata.protocol.epoch import epoch_root
from tristrata.protocol.hashing import address_word, keccak
from tristrata.protocol.ids import (
    Address,
    ChainRef,
    ModelId,
    SessionId,
    chain_ref,
    checksum,
    eip155,
    parse_address,
    session_id,
    show,
)
from tristrata.protocol.payouts import Payouts
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.signing import Domain, address_of, compact, digest, sign
from tristrata.protocol.terms import Terms
from tristrata.protocol.units import Amount, BasisPoints, PricePerMillion, Timestamp
from tristrata.protocol.voucher import SignedVoucher, Split, Voucher, splits_hash

CHAIN = eip155(31_399)
REF = chain_ref(CHAIN)
PAYOUT_DELAY, GRACE = 100, 60
CHARGES_A_TRANSACTION, CLAIMS_A_TRANSACTION = 16, 32
MAX_GAS = 2**24
_DEPOSIT = 10**15
_PATIENCE = 5_000
# Few, so that the measured epoch's record takes the place of an older one, as it does in steady state.
_KEPT_EPOCHS = 2
_FAR = Timestamp(2**40)
_ROUTER = Address(keccak(b"router")[12:])


class Step(msgspec.Struct, frozen=True):
    """One transaction of a measured epoch: what it does, its gas, and its calldata."""

    name: str
    gas: int
    data: bytes


class Epochs(msgspec.Struct, frozen=True):
    """What is settled: this many tasks in an epoch, of these sessions, by these miners.

    ``splits`` is how many payees a voucher names, the router among them; ``signers`` how many validators sign;
    ``limited`` whether sessions have a daily limit; ``at_once`` whether one transaction settles and claims.
    """

    tasks: int
    sessions: int
    miners: int
    splits: int = 2
    signers: int = 3
    limited: bool = False
    at_once: bool = False


def compressed(steps: Sequence[Step]) -> int:
    """How many bytes the calldata of ``steps`` has, compressed together (zlib, level 9), as rollups post it."""
    return len(zlib.compress(b"".join(step.data for step in steps), 9))


@asynccontextmanager
async def hub_on_anvil() -> AsyncIterator["HubOnAnvil"]:
    """A hub on a new chain."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [str(anvil_path()), "--port", "0", "--chain-id", "31399", "--accounts", "1", "--cache-path", folder]
        # Its log goes to a file: nobody reads a pipe, and anvil stops when one is full.
        log = Path(folder) / "log"
        with log.open("wb") as output:
            command += ["--prune-history", "--gas-limit", "1000000000"]
            process = await asyncio.create_subprocess_exec(*command, stdout=output)
        try:
            while not (found := re.search(r"Listening on (\S+)", log.read_text())):
                if process.returncode is not None:
                    raise BenchmarkFailed(f"anvil ended with {process.returncode}: {log.read_text()[-500:]}")
                await asyncio.sleep(0.02)
            async with EvmChain("hub", CHAIN, f"http://{found[1]}") as chain:
                hub = HubOnAnvil(chain)
                await hub.deploy()
                yield hub
        finally:
            process.terminate()
            await process.wait()


async def transfer_gas() -> int:
    """The gas of one payment by EIP-3009, between accounts that both have some of the token already."""
    async with hub_on_anvil() as hub:
        return await hub.authorized_transfer()


class HubOnAnvil:
    """The hub's contracts. One account, which anvil signs for, deploys, owns every session and sends everything."""

    def __init__(self, chain: EvmChain) -> None:
        self._chain = chain
        self._key = PrivateKey(keccak(b"session key"))
        self._validators: list[PrivateKey] = []
        self._charged: dict[SessionId, tuple[int, tuple[Split, ...]]] = {}

    async def deploy(self) -> None:
        """Deploy, register and fund the account."""
        self._account = parse_address((await self._chain.rpc("eth_accounts"))[0])
        names = ("TestDollar", "RouterRegistry", "Sessions", "Outbox", "Settlement")
        addresses = {name: create_address(self._account, nonce) for nonce, name in enumerate(names)}
        dollar, routers, sessions, outbox, settlement = addresses.values()
        nowhere = bytes(32)
        arguments: dict[str, tuple[Any, ...]] = {
            "TestDollar": (),
            "RouterRegistry": (dollar, sessions, 0, GRACE, 0),
            "Sessions": (REF, dollar, settlement, routers, self._account, nowhere, nowhere, GRACE, 0),
            "Outbox": (REF, self._account, settlement, 2**40, _KEPT_EPOCHS),
            "Settlement": (REF, dollar, sessions, outbox, PAYOUT_DELAY, 1, nowhere, nowhere),
        }
        for name in names:
            await self._send(None, constructor_data(name, *arguments[name]), name)
        self.dollar, _, self.sessions, self.outbox, self.settlement = (
            Contract(name, addresses[name], self._chain) for name in names
        )
        registration = (1).to_bytes(32, "big") + address_word(self._account) + (1).to_bytes(32, "big")
        await self.send(self.sessions, "on_message", nowhere, nowhere, registration)
        await self.send(self.dollar, "mint", self._account, 2**95)
        await self.send(self.dollar, "approve", sessions, 2**256 - 1)

    async def settle_steadily(self, epochs: Epochs) -> list[Step]:
        """Open the sessions, settle and claim some epochs, and one more like them: the steps of that one.

        All slots and balances that it writes are then non-zero.
        """
        await self._adopt(epochs.signers)
        sessions = await self._open(epochs)
        claims: list[bytes] = []
        # The first charges, the second pays it, the third writes nothing that was zero, the fourth is measured.
        for _ in range(4):
            steps, claims = await self._settle(epochs, sessions, claims)
        return steps

    async def authorized_transfer(self) -> int:
        """The gas of one `transferWithAuthorization` of the asset to an account that has some of it."""
        payer, payee = address_of(self._key.public_key), _miner(0)
        for account in (payer, payee):
            await self.send(self.dollar, "mint", account, 1_000)
        separator = await self.dollar.read("DOMAIN_SEPARATOR", at=await self._head())
        authorization = Authorization(payer, payee, Amount(1), Timestamp(0), _FAR, keccak(b"nonce"))
        signature = sign(self._key, digest(separator, authorization.transfer_hash))
        v, r, s = signature[64], signature[:32], signature[32:64]
        arguments = (payer, payee, 1, 0, _FAR, authorization.nonce, v, r, s)
        return (await self.send(self.dollar, "transferWithAuthorization", *arguments)).gas

    async def attest_steadily(self, signers: int) -> int:
        """The gas of attesting an epoch on L1: with L1's contracts on this chain, the second epoch of two.

        What it writes for the epoch itself is new, for L1's record is for ever; all else was written before.
        """
        first = int(await self._chain.rpc("eth_getTransactionCount", checksum(self._account), "latest"), 16)
        token_at, set_at, ledger_at = (create_address(self._account, first + place) for place in range(3))
        delays = (10**6, 0, 2 * 10**6)
        arguments: dict[str, tuple[Any, ...]] = {
            "StakeToken": (),
            "ValidatorSet": (token_at, ledger_at, self._account, 10**18, *delays, 10_000, 1_000, 0),
            "CheckpointLedger": (REF, set_at, 0),
        }
        for name, values in arguments.items():
            await self._send(None, constructor_data(name, *values), name)
        token, validators, ledger = (
            Contract(name, address, self._chain)
            for name, address in zip(arguments, (token_at, set_at, ledger_at), strict=True)
        )
        keys = sorted(
            (PrivateKey(keccak(b"validator %d" % number)) for number in range(signers)),
            key=lambda key: address_of(key.public_key),
        )
        accounts = [address_of(key.public_key) for key in keys]
        for account in accounts:
            await self._chain.rpc("anvil_impersonateAccount", checksum(account))
            await self._chain.rpc("anvil_setBalance", checksum(account), hex(10**20))
            await self.send(token, "mint", account, 10**18)
            await self.send(token, "approve", validators.address, 10**18, sender=account)
            await self.send(validators, "register", account, 10**18, sender=account)
        await self.send(validators, "publish", accounts)
        chain = ChainRef(keccak(b"a chain"))
        await self.send(ledger, "add_chain", chain, REF, bytes(32), bytes(32))
        separator = Domain(CHAIN, REF, ledger.address).separator
        gas = 0
        for epoch in (1, 2):
            checkpoint = Checkpoint(chain, epoch, keccak(b"root %d" % epoch))
            signatures = [compact(sign(key, digest(separator, checkpoint.struct_hash))) for key in keys]
            gas = (await self.send(ledger, "attest", chain, epoch, checkpoint.root, signatures)).gas
        return gas

    async def _adopt(self, signers: int) -> None:
        keys = [PrivateKey(keccak(b"validator %d" % number)) for number in range(signers)]
        self._validators = sorted(keys, key=lambda key: address_of(key.public_key))
        number = (await self.outbox.read("current", at=await self._head()))[0] + 1
        weights = {address_of(key.public_key): Amount(10**21) for key in keys}
        members: ValidatorSet = make_set(number, weights, _FAR)
        await self.send(self.outbox, "set_from_l1", number, members.valid_until, list(members.packed))

    async def _open(self, epochs: Epochs) -> list[SessionId]:
        first = len(self._charged)
        opened: list[SessionId] = []
        sent: list[str] = []
        for nonce in range(first, first + epochs.sessions):
            terms = Terms(
                session_key=address_of(self._key.public_key),
                router=_ROUTER,
                managed=False,
                model_id=ModelId(b"\x22" * 32),
                assurance=Assurance.SAMPLED,
                replicas=1,
                router_bps=BasisPoints(500),
                max_prompt_price=PricePerMillion(10**6),
                max_output_price=PricePerMillion(10**6),
                max_per_day=Amount(10**14 if epochs.limited else 0),
                exposure_cap=Amount(10**9),
                expiry=_FAR,
            )
            data = self.sessions.calldata("open", nonce, _DEPOSIT, msgspec.structs.astuple(terms))
            sent.append(await self._submit(self.sessions.address, data))
            opened.append(session_id(REF, self._account, nonce))
            self._charged[opened[-1]] = (0, ())
        for tx_hash in sent:
            await self._included(tx_hash, "open")
        return opened

    async def _settle(
        self, epochs: Epochs, sessions: list[SessionId], claims: list[bytes]
    ) -> tuple[list[Step], list[bytes]]:
        """One epoch: its charges in batches, the first of them with the seal, and the last epoch's claims, one a miner.

        Gives the steps, and the claims that this epoch allows once its payout delay is over.
        """
        payouts = Payouts({session: self._charged[session][1] for session in sessions})
        charges = [self._charge(session, place, epochs) for place, session in enumerate(sessions)]
        number = await self.outbox.read("last_epoch", at=await self._head()) + 1
        epoch = Epoch(number, await self._head() - 1, keccak(b"receipts"), payouts.root, keccak(b"content"))
        separator = Domain(CHAIN, REF, self.outbox.address).separator
        signatures = [compact(sign(key, digest(separator, epoch.struct_hash))) for key in self._validators]
        first, *others = _batches(charges, CHARGES_A_TRANSACTION)
        seal = self.settlement.calldata("settle", *charge_arguments(first), msgspec.structs.astuple(epoch), signatures)
        calls = []
        if epochs.at_once and claims:
            calls.append(("settle, and claim for miners", self.settlement.calldata("multicall", [seal, claims.pop(0)])))
        else:
            calls.append(("settle", seal))
        nothing = (0, 0, bytes(32), bytes(32), bytes(32))
        for batch in others:
            more = self.settlement.calldata("settle", *charge_arguments(batch), nothing, [])
            calls.append(("charge more sessions", more))
        calls += [("claim for miners", claim) for claim in claims]
        sent = [(name, data, await self._submit(self.settlement.address, data)) for name, data in calls]
        steps = [Step(name, await self._included(tx_hash, name), data) for name, data, tx_hash in sent]
        await self._chain.rpc("evm_increaseTime", PAYOUT_DELAY + 1)
        return steps, await self._claims(epoch, payouts)

    async def _claims(self, epoch: Epoch, payouts: Payouts) -> list[bytes]:
        """The calls that pay every miner what this epoch holds for it."""
        if not payouts.cumulative:
            return []
        head = await self._head()
        roots = [await self.outbox.read(name, at=head) for name in ("messages_root", "children_root")]
        root = epoch_root(REF, epoch.epoch, roots[0], epoch.receipts_root, payouts.root, roots[1])
        # Neighbours in the tree share most of their proof: claims are batched in the tree's order.
        everyone, _ = payouts.prove_many(payouts.cumulative)
        calls = []
        for batch in _batches([leaf.payee for leaf in everyone if leaf.payee != _ROUTER], CLAIMS_A_TRANSACTION):
            leaves, proof = payouts.prove_many(batch)
            calls.append(
                self.settlement.calldata(
                    "claim_many",
                    (epoch.epoch, root, epoch.struct_hash),
                    [(Split(leaf.payee, Amount(leaf.cumulative)).packed, leaf.sums) for leaf in leaves],
                    list(proof.siblings),
                    sum(1 << place for place, flag in enumerate(proof.flags) if flag),
                )
            )
        return calls

    def _charge(self, session: SessionId, place: int, epochs: Epochs) -> tuple[SignedVoucher, LastCharge]:
        """A charge of one more epoch's tasks: the router's twentieth, and the rest in equal parts to its miners."""
        count, splits = self._charged[session]
        earned = {split.payee: split.amount for split in splits}
        tasks = epochs.tasks // epochs.sessions
        payees = [_miner((place + other) % epochs.miners) for other in range(epochs.splits - 1)]
        for payee, part in ((_ROUTER, tasks * 60), *((payee, tasks * 1_140 // len(payees)) for payee in payees)):
            earned[payee] = Amount(earned.get(payee, 0) + part)
        after = tuple(Split(payee, earned[payee]) for payee in sorted(earned))
        total = Amount(sum(split.amount for split in after))
        voucher = Voucher(session, count + tasks, total, keccak(session + bytes([count % 251])), splits_hash(after))
        separator = Domain(CHAIN, REF, self.settlement.address).separator
        signed = SignedVoucher(voucher, after, sign(self._key, digest(separator, voucher.struct_hash)))
        self._charged[session] = (voucher.count, after)
        return signed, (count, splits)

    async def send(self, contract: Contract, function: str, *arguments: Any, sender: Address | None = None) -> Step:
        """Call a function in a transaction, which must succeed."""
        return await self._send(contract.address, contract.calldata(function, *arguments), function, sender)

    async def _send(self, to: Address | None, data: bytes, name: str, sender: Address | None = None) -> Step:
        return Step(name, await self._included(await self._submit(to, data, sender), name), data)

    async def _submit(self, to: Address | None, data: bytes, sender: Address | None = None) -> str:
        request = {"from": checksum(sender or self._account), "data": show(data), "gas": hex(MAX_GAS)}
        if to is not None:
            request["to"] = checksum(to)
        tx_hash: str = await self._chain.rpc("eth_sendTransaction", request)
        return tx_hash

    async def _included(self, tx_hash: str, name: str) -> int:
        """The gas of a transaction that must have succeeded."""
        receipt = None
        for _ in range(_PATIENCE):
            receipt = await self._chain.rpc("eth_getTransactionReceipt", tx_hash)
            if receipt is not None:
                break
            await asyncio.sleep(0.002)
        if receipt is None:
            raise BenchmarkFailed(f"{name} is not in a block")
        if receipt["status"] != "0x1":
            raise BenchmarkFailed(f"{name} failed")
        return int(receipt["gasUsed"], 16)

    async def _head(self) -> int:
        return int(await self._chain.rpc("eth_blockNumber"), 16)


def _miner(number: int) -> Address:
    return Address(keccak(b"miner %d" % number)[12:])


def _batches(values: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]
