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

_NOBODY = Address(bytes(20))


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
    planned = _number(network.roles.security, operator, _security(network, operator, relayer))
    for chain in network.roles.onboarding:
        planned += _number(chain, operator, _welcome_center(network, chain, operator, relayer))
    for chain in network.roles.hubs:
        planned += _number(chain, operator, _hub(network, chain, operator, relayer))
    return planned


def _security(network: Network, operator: Address, relayer: Address) -> list[tuple[str, tuple[Any, ...]]]:
    parameters = network.parameters
    token, validators, ledger = (create_address(operator, nonce) for nonce in (0, 1, 2))
    return [
        ("StakeToken", ()),
        (
            "ValidatorSet",
            (
                token,
                ledger,
                relayer,
                parameters.min_stake,
                parameters.set_validity_seconds,
                parameters.activation_seconds,
                parameters.unbonding_seconds,
                parameters.equivocation_bps,
                parameters.reporter_bps,
                parameters.change_delay_seconds,
            ),
        ),
        ("CheckpointLedger", (network.ref(network.roles.security), validators, parameters.change_delay_seconds)),
    ]


def _welcome_center(
    network: Network, chain: str, operator: Address, relayer: Address
) -> list[tuple[str, tuple[Any, ...]]]:
    parameters = network.parameters
    dollar, outbox = create_address(operator, 0), create_address(operator, 2)
    return [
        ("TestDollar", ()),
        ("Welcome", (network.ref(chain), dollar, outbox, relayer, parameters.change_delay_seconds)),
        ("Outbox", _outbox(network, chain, relayer, _NOBODY)),
    ]


def _hub(network: Network, chain: str, operator: Address, relayer: Address) -> list[tuple[str, tuple[Any, ...]]]:
    parameters, ref = network.parameters, network.ref(chain)
    names = ("dollar", "models", "miners", "sessions", "settlement", "outbox", "routers", "inbox", "tasks")
    at = {name: create_address(operator, nonce) for nonce, name in enumerate(names)}
    welcome = network.ref(network.roles.onboarding[0]), address_word(create_address(operator, 1))
    validators = network.ref(network.roles.security), address_word(create_address(operator, 1))
    change_delay = parameters.change_delay_seconds
    miners = (
        ref,
        at["dollar"],
        parameters.min_bond,
        parameters.miner_exit_seconds,
        at["outbox"],
        at["tasks"],
        change_delay,
    )
    sessions = (
        ref,
        at["dollar"],
        at["settlement"],
        at["routers"],
        relayer,
        *welcome,
        parameters.grace_seconds,
        change_delay,
    )
    settlement = (
        ref,
        at["dollar"],
        at["sessions"],
        at["outbox"],
        parameters.payout_delay_seconds,
        parameters.veto_fee,
        *validators,
    )
    routers = (
        at["dollar"],
        at["sessions"],
        parameters.unsecured_limit,
        parameters.router_exit_seconds,
        change_delay,
    )
    tasks = (
        ref,
        at["dollar"],
        at["miners"],
        at["models"],
        at["inbox"],
        (
            parameters.task_assign_seconds,
            parameters.task_min_seconds,
            parameters.task_max_seconds,
            parameters.task_bond_bps,
            parameters.task_penalty_bps,
            parameters.task_jail_seconds,
            parameters.task_lead,
        ),
        change_delay,
    )
    return [
        ("TestDollar", ()),
        ("ModelRegistry", ()),
        ("MinerRegistry", miners),
        ("Sessions", sessions),
        ("Settlement", settlement),
        ("Outbox", _outbox(network, chain, relayer, at["settlement"])),
        ("RouterRegistry", routers),
        ("Inbox", (ref, relayer, change_delay)),
        ("TaskQueue", tasks),
    ]


def _outbox(network: Network, chain: str, relayer: Address, settlement: Address) -> tuple[Any, ...]:
    parameters = network.parameters
    return network.ref(chain), relayer, settlement, parameters.set_validity_seconds, parameters.kept_epochs


def _number(chain: str, operator: Address, contracts: list[tuple[str, tuple[Any, ...]]]) -> list[PlannedContract]:
    return [
        PlannedContract(chain, name, nonce, create_address(operator, nonce), arguments)
        for nonce, (name, arguments) in enumerate(contracts)
    ]
