"""Which contracts stand where, at which address, made with which arguments. Pure: the same network, the same plan.

The operator's first transactions on a chain are its deployments, in the plan's order: so every address is known before
anything is sent, and contracts can name each other.
"""

from typing import Any

import msgspec
import rlp

from tristrata.config.network import Network
from tristrata.protocol.hashing import address_word, keccak
from tristrata.protocol.ids import Address


class PlannedContract(msgspec.Struct, frozen=True):
    """One contract: the operator's transaction number ``nonce`` on ``chain``."""

    chain: str
    name: str
    nonce: int
    address: Address
    arguments: tuple[Any, ...]


def create_address(sender: Address, nonce: int) -> Address:
    """Where the contract lands that ``sender`` creates with transaction number ``nonce`` (``CREATE``)."""
    return Address(keccak(rlp.encode([sender, nonce]))[12:])


def plan(network: Network, operator: Address, relayer: Address) -> list[PlannedContract]:
    """Every contract of the network, in the order in which each chain gets them.

    ``operator`` deploys; ``relayer`` is the account whose messages the hubs believe until bridges exist.
    """
    planned = _number(network.roles.security, operator, _security(network, operator))
    for chain in network.roles.onboarding:
        planned += _number(chain, operator, _welcome_center(network, chain))
    for chain in network.roles.hubs:
        planned += _number(chain, operator, _hub(network, chain, operator, relayer))
    return planned


def _welcome_center(network: Network, chain: str) -> list[tuple[str, tuple[Any, ...]]]:
    return [("TestDollar", ()), ("Welcome", (network.ref(chain),))]


def _security(network: Network, operator: Address) -> list[tuple[str, tuple[Any, ...]]]:
    parameters = network.parameters
    token, validators = create_address(operator, 0), create_address(operator, 1)
    delays = (parameters.set_validity_seconds, parameters.unbonding_seconds)
    return [
        ("StakeToken", ()),
        ("ValidatorSet", (token, parameters.min_stake, *delays)),
        ("CheckpointLedger", (network.ref(network.roles.security), validators)),
    ]


def _hub(network: Network, chain: str, operator: Address, relayer: Address) -> list[tuple[str, tuple[Any, ...]]]:
    parameters = network.parameters
    dollar, sessions, settlement, outbox = (create_address(operator, nonce) for nonce in (0, 3, 4, 5))
    welcome_chain = network.roles.onboarding[0]
    welcome = create_address(operator, 1)
    return [
        ("TestDollar", ()),
        ("ModelRegistry", ()),
        ("MinerRegistry", (dollar, parameters.min_bond, parameters.miner_exit_seconds)),
        (
            "Sessions",
            (
                network.ref(chain),
                dollar,
                settlement,
                relayer,
                network.ref(welcome_chain),
                address_word(welcome),
                parameters.grace_seconds,
            ),
        ),
        (
            "Settlement",
            (network.ref(chain), sessions, outbox, parameters.payout_delay_seconds, parameters.veto_fee),
        ),
        ("Outbox", (network.ref(chain), relayer, settlement)),
    ]


def _number(chain: str, operator: Address, contracts: list[tuple[str, tuple[Any, ...]]]) -> list[PlannedContract]:
    return [
        PlannedContract(chain, name, nonce, create_address(operator, nonce), arguments)
        for nonce, (name, arguments) in enumerate(contracts)
    ]
