"""The queue of contracts' requests in titanoboa, with real registries and a real inbox."""

import hashlib
from typing import Any

import boa
from eth_abi.abi import encode
from msgspec.structs import astuple

from tests.contracts.conftest import REF, account, contract, raw
from tristrata.protocol.hashing import keccak
from tristrata.protocol.ids import Address
from tristrata.protocol.indexed_tree import IndexedTree
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.task import (
    Parameters,
    commitment,
)
from tristrata.protocol.units import BasisPoints, Seconds

QUEUE = "TaskQueue"
CHANGE_DELAY, EXIT_DELAY = 1_000, 5_000
BOND, BUDGET = 100, 10
PARAMETERS = Parameters(
    assign_seconds=Seconds(600),
    min_seconds=Seconds(60),
    max_seconds=Seconds(3_600),
    bond_bps=BasisPoints(30_000),
    penalty_bps=BasisPoints(10_000),
    jail_seconds=Seconds(1_000),
    lead=2,
)
BURNT = "0x000000000000000000000000000000000000dEaD"
PROMPT = b"Is the sky blue? One word."
MINERS = ("miner one", "miner two", "miner three", "miner four", "miner five")
YES, NO, SALT = b"yes", b"no", b"\x5a" * 32


class Tasks:
    """The queue between a real registry of miners, a real registry of models and a real inbox."""

    def __init__(
        self, dollar: Any = None, miners: tuple[str, ...] = MINERS, parameters: Parameters = PARAMETERS
    ) -> None:
        self.operator = boa.env.generate_address("operator")
        address = boa.env.generate_address()  # the registry of miners names the queue, and the queue it
        with boa.env.prank(self.operator):
            self.dollar = dollar or contract("testing/TestDollar.vy")
            self.models = contract("orchestration/ModelRegistry.vy")
            self.inbox = contract("messaging/Inbox.vy", REF, self.operator, CHANGE_DELAY)
            self.miners = contract(
                "orchestration/MinerRegistry.vy",
                REF,
                self.dollar.address,
                1,
                EXIT_DELAY,
                self.operator,
                address,
                CHANGE_DELAY,
            )
            self.queue = self.deploy(parameters, at=address)
        self.models.register("a model", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
        self.model_id = keccak(
            encode(["string", "bytes32", "bytes32", "bytes32"], ["a model", b"\x01" * 32, b"\x02" * 32, b"\x03" * 32])
        )
        self.names: dict[str, str] = {}
        for name in miners:
            self.add_miner(name)
        self.fund("asker")

    def deploy(self, parameters: Parameters = PARAMETERS, at: str | None = None) -> Any:
        return contract(
            "orchestration/TaskQueue.vy",
            REF,
            self.dollar.address,
            self.miners.address,
            self.models.address,
            self.inbox.address,
            astuple(parameters),
            CHANGE_DELAY,
            at=at,
        )

    @property
    def raw_queue(self) -> Address:
        return Address(bytes.fromhex(self.queue.address[2:]))

    def fund(self, holder: str, amount: int = 10**12) -> None:
        address = holder if holder.startswith("0x") else account(holder)
        self.dollar.mint(address, amount, sender=self.operator)
        for spender in (self.queue, self.miners):
            self.dollar.approve(spender.address, 2**256 - 1, sender=address)

    def add_miner(self, name: str, bond: int = BOND) -> None:
        self.fund(name)
        self.names[account(name)] = name
        self.miners.register(account(f"key of {name}"), keccak(name.encode()), bytes(32), 4, bond, sender=account(name))
        self.miners.offer(self.model_id, 1, 1, sender=account(name))

    def request(self, asker: str = "asker", **changes: Any) -> bytes:
        arguments = {
            "model_id": self.model_id,
            "prompt": hashlib.sha256(PROMPT).digest(),
            "payload": PROMPT,
            "assurance": Assurance.QUORUM,
            "replicas": 3,
            "budget": BUDGET,
            "commit_seconds": 100,
            "reveal_seconds": 200,
            "callback_gas": 0,
            **changes,
        }
        return bytes(self.queue.request(*arguments.values(), sender=account(asker)))

    def bring_randomness(self, number: int, seed: bytes = b"") -> bytes:
        """Push a super root and prove its random word."""
        word = keccak(seed + number.to_bytes(8, "big"))
        tree = IndexedTree().update(1, word)
        self.inbox.push(number, tree.root, sender=self.operator)
        self.inbox.prove_randomness(number, word, list(tree.prove(1)))
        return word

    def assign(self, task: bytes) -> list[str]:
        """Bring the randomness and draw the miners, in the order in which they were drawn."""
        self.bring_randomness(self.queue.task(task).super_number)
        self.queue.assign(task, sender=account("anyone"))
        return self.drawn(task)

    def drawn(self, task: bytes) -> list[str]:
        return [self.names[miner] for miner in self.queue.assigned(task)]

    def commitment(self, task: bytes, miner: str, answer: bytes, salt: bytes = SALT) -> bytes:
        return commitment(REF, self.raw_queue, task, raw(miner), keccak(answer), salt)

    def commit(self, task: bytes, answers: dict[str, bytes]) -> None:
        for miner, answer in answers.items():
            self.queue.commit(task, self.commitment(task, miner, answer), sender=account(miner))

    def reveal(self, task: bytes, answers: dict[str, bytes]) -> None:
        for miner, answer in answers.items():
            self.queue.reveal(task, answer, SALT, sender=account(miner))

    def answer(self, task: bytes, *answers: bytes) -> dict[str, bytes]:
        """All miners of a fresh request commit to these answers, in the order in which they were drawn, and reveal."""
        given = dict(zip(self.assign(task), answers, strict=True))
        self.commit(task, given)
        self.reveal(task, given)
        return given

    def credit(self, name: str) -> int:
        return int(self.queue.credits(account(name)))

    def reserved(self, name: str) -> int:
        return int(self.miners.miner(account(name)).reserved)

    def events(self, name: str) -> list[Any]:
        return [log for log in self.queue.get_logs() if type(log).__name__ == name]


def lower(name: str) -> str:
    """An address as `decode_error` returns it."""
    return account(name).lower()
