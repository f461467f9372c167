"""The Welcome Center: where accounts are registered, and from where their registrations travel to the hubs."""

from tristrata.bindings.contract import Contract, Event
from tristrata.chains.evm import EvmChain
from tristrata.chains.writer import Inclusion, TransactionWriter
from tristrata.config.manifest import Manifest
from tristrata.config.network import Network
from tristrata.protocol.hashing import address_word, word
from tristrata.protocol.ids import Address, Caip2, ChainRef
from tristrata.protocol.signing import Domain
from tristrata.protocol.terms import Registration, Role

REGISTER_MESSAGE = 1


class Welcome:
    """One Welcome Center."""

    def __init__(self, network: Network, manifest: Manifest, name: str, chain: EvmChain) -> None:
        self.name = name
        self.chain = chain
        self.caip2: Caip2 = network.chains[name].caip2
        self.ref: ChainRef = network.ref(name)
        deployed = manifest.address(self.caip2, "Welcome")
        self.first_block = manifest.chains[self.caip2]["Welcome"].block
        self.contract = Contract("Welcome", deployed, chain)
        self.domain = Domain(self.caip2, self.ref, deployed)

    @property
    def sender(self) -> bytes:
        """The contract as the 32-byte sender of a message."""
        return address_word(self.contract.address)

    async def roles(self, account: Address, *, at: int) -> int:
        """The account's roles at a block, a bit each: 1 for a user, 2 for a miner."""
        return int(await self.contract.read("roles", account, at=at))

    async def register(self, writer: TransactionWriter, registration: Registration, signature: bytes) -> Inclusion:
        """Carry a signed registration; the writer's account pays."""
        account, role = registration.account, registration.role
        purpose = f"register {account.hex()} as {role.name.lower()}"
        return await self.contract.write(writer, purpose, "register", account, role, registration.deadline, signature)

    async def events(self, first: int, last: int) -> list[Event]:
        """Registrations in blocks ``first`` to ``last``, in order."""
        logs = await self.chain.logs([self.contract.address], first, last)
        found = (self.contract.event(log) for log in logs)
        return [event for event in found if event is not None and event.name == "Registered"]


def registration_message(account: Address, role: Role) -> bytes:
    """What a hub's ``Sessions.on_message`` expects: ``abi.encode(uint8 kind, address account, uint8 role)``."""
    return word(REGISTER_MESSAGE) + address_word(account) + word(role)
