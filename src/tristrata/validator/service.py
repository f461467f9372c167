"""The validator as a process: its own key, its own endpoints, the content store, and nothing of router or settler."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TypeVar

import structlog
from coincurve import PrivateKey

from tristrata.bindings.history import HubHistory
from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.config.actor import ActorSettings
from tristrata.config.network import Network
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.attestation import Checkpoint, Epoch
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import Address, Caip2
from tristrata.protocol.signing import Domain, address_of, digest, sign
from tristrata.storage.attestations import Attestations
from tristrata.storage.bulletin import Bulletin
from tristrata.storage.content_store import ContentMissing, ContentStore
from tristrata.storage.database import Database
from tristrata.storage.signed import Equivocation, SignedCheckpoints
from tristrata.validator.audit import HubAudit

_POLL_SECONDS = 0.2
Found = TypeVar("Found")
_log = structlog.get_logger()


async def run(settings: ActorSettings, *, dry_run: bool = False) -> None:
    """Recompute and sign until cancelled. ``dry_run`` says what it would sign, and signs nothing."""
    network, home = settings.network, settings.home
    key = load_key(home.keystore(settings.name), read_password(home.password_file))
    async with AsyncExitStack() as stack:
        chains = await stack.enter_async_context(Chains(network))
        hubs = open_hubs(network, settings.manifest, chains)
        security = Security(network, settings.manifest, chains)
        store, attestations = ContentStore(home.content), Attestations(Bulletin(home.bulletin))
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        signer = Signer(key, attestations, SignedCheckpoints(database), dry_run=dry_run)
        domains = checkpoint_domains(network, hubs, security)
        validators = [HubValidator(hub, store, attestations, signer, domains[caip2]) for caip2, hub in hubs.items()]
        while True:
            await asyncio.gather(*(_try(validator) for validator in validators))
            await asyncio.sleep(_POLL_SECONDS)


def checkpoint_domains(network: Network, hubs: dict[Caip2, Hub], security: Security) -> dict[Caip2, Domain]:
    """Where each hub's checkpoints go, and so for what they are signed: its parent's outbox, or the ledger on L1."""
    domains = {}
    for caip2, hub in hubs.items():
        parent = network.chains[hub.name].parent
        above = next((other for other in hubs.values() if other.name == parent), None)
        domains[caip2] = above.outbox_domain if above else security.ledger_domain
    return domains


class Signer:
    """The validator's key: signs, and puts the signature where it is looked for."""

    def __init__(
        self, key: PrivateKey, attestations: Attestations, signed: SignedCheckpoints, *, dry_run: bool
    ) -> None:
        self.address: Address = address_of(key.public_key)
        self._key = key
        self._attestations = attestations
        self._signed = signed
        self._dry_run = dry_run

    async def sign(self, hub: Hub, number: int, domain: Domain, message: Epoch | Checkpoint) -> None:
        """Sign one message about epoch ``number`` of the hub. Raises `Equivocation`, and signs nothing then."""
        what = type(message).__name__.lower()
        if self._dry_run:
            _log.info("would sign", what=what, hub=hub.name, epoch=number)
            return
        if isinstance(message, Checkpoint):
            await self._signed.add(message)
        found = digest(domain.separator, message.struct_hash)
        self._attestations.sign(hub.ref, number, self.address, found, sign(self._key, found))
        _log.info("signed", what=what, hub=hub.name, epoch=number)


class HubValidator:
    """One hub: every proposal judged once, every sealed epoch recomputed once."""

    def __init__(
        self, hub: Hub, store: ContentStore, attestations: Attestations, signer: Signer, checkpoints: Domain
    ) -> None:
        self._hub = hub
        self._attestations = attestations
        self._signer = signer
        self._checkpoints = checkpoints
        self._history = HubHistory(hub)
        self._audit = HubAudit(self._history, store)
        self._judged: set[bytes] = set()
        self._alarms: set[str] = set()
        self._is_halted = False

    @property
    def name(self) -> str:
        """The hub's name."""
        return self._hub.name

    async def step(self) -> None:
        """Take in what is finalized, and sign what is right. After an `Equivocation` nothing is signed any more."""
        if self._is_halted:
            return
        try:
            await self._sign_what_is_right()
        except Equivocation as error:
            self._is_halted = True
            _log.critical("alarm: this hub is not signed any more", hub=self.name, reason=error.message)

    async def _sign_what_is_right(self) -> None:
        await self._history.catch_up(Level.FINALIZED)
        while (checkpoint := self._guarded(self._audit.check_sealed)) is not None:
            await self._signer.sign(self._hub, checkpoint.epoch, self._checkpoints, checkpoint)
        number = self._audit.checked + 1
        for proposal in self._attestations.proposals(self._hub.ref, number):
            found = digest(self._hub.outbox_domain.separator, proposal.struct_hash)
            if found in self._judged or proposal.block_number > self._history.head:
                continue
            if self._holds(proposal, found):
                await self._signer.sign(self._hub, number, self._hub.outbox_domain, proposal)

    def _holds(self, proposal: Epoch, found: bytes) -> bool:
        """Whether a proposal is right. It is judged once, unless its content may still come."""
        try:
            is_right = self._audit.is_right(proposal)
        except TristrataError as error:
            is_right = False
            self._alarm(error)
            if isinstance(error, ContentMissing):
                return False
        self._judged.add(found)
        return is_right

    def _guarded(self, check: Callable[[], Found]) -> Found | None:
        """What ``check`` gives; `None`, and an alarm, where it finds something wrong or missing."""
        try:
            return check()
        except TristrataError as error:
            self._alarm(error)
            return None

    def _alarm(self, error: TristrataError) -> None:
        """Say why nothing is signed, once."""
        if error.message not in self._alarms:
            self._alarms.add(error.message)
            _log.error("alarm: nothing is signed", hub=self._hub.name, reason=error.message, remedy=error.remedy)


async def _try(validator: HubValidator) -> None:
    try:
        await validator.step()
    except TristrataError as error:
        _log.warning("chain not followed", hub=validator.name, reason=error.message)
