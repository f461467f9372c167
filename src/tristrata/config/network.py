"""A network in one file: the tree of chains, the roles they play, and where its services are.

``networks/local.toml`` ships with the package and has no addresses, for the embedded network finds free ports. Once
started it writes the same file with every address filled in, and every process reads that one.
"""

import tomllib
from collections.abc import Iterable
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tristrata.protocol.errors import InvalidValue, TristrataError
from tristrata.protocol.ids import Caip2, ChainRef, chain_ref, eip155, parse_address
from tristrata.protocol.parameters import Windows, check_windows

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
Price = Annotated[int, Field(ge=0, lt=2**96)]


class NetworkFileInvalid(TristrataError):
    """A network file that cannot be used; the message names the field and the rule."""


class Stack(StrEnum):
    """The software a chain runs."""

    ETHEREUM = "ethereum"
    OP = "op"
    ARBITRUM = "arbitrum"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class ChainSettings(_Section):
    """One chain. ``rpc`` are its endpoints; ``rollup`` is the address that makes a custom chain's reference unique."""

    stack: Stack
    chain_id: Annotated[int, Field(gt=0)]
    parent: str | None = None
    block_seconds: Annotated[float, Field(gt=0)] = 2.0
    rpc: tuple[str, ...] = ()
    rollup: str | None = None

    @property
    def caip2(self) -> Caip2:
        """The chain's CAIP-2 name."""
        return eip155(self.chain_id)


class Roles(_Section):
    """Which chain does what; see the table of layers in the README."""

    security: str
    onboarding: tuple[str, ...]
    orchestration: tuple[str, ...]
    private: tuple[str, ...] = ()

    @property
    def hubs(self) -> tuple[str, ...]:
        """Chains with sessions and settlement: the orchestration chains and the private ones."""
        return self.orchestration + self.private


class Parameters(_Section):
    """The protocol's numbers for this network. Amounts are base units of the asset, stake those of the stake token.

    Shares in ``bps`` are hundredths of a percent. ``kept_epochs`` is how many sealed epochs a hub can be claimed from;
    ``change_delay_seconds`` how long ahead an owner announces a change; ``task_lead`` how many super roots after a
    contract's request decide who answers it. ``unvouchered_limit`` is what the router answers of a session whose owner
    keeps its key, before the owner's vouchers. ``outage_seconds`` is the longest stop of a hub's sequencer that owners
    and payees are protected from, and ``finality_seconds`` the longest that a block of a hub takes to be final.
    """

    grace_seconds: Annotated[int, Field(gt=0)]
    miner_exit_seconds: Annotated[int, Field(gt=0)]
    min_bond: Price
    router_bps: Annotated[int, Field(ge=0, le=2_000)]
    charge_after_seconds: Annotated[float, Field(gt=0)]
    unsecured_limit: Price
    unvouchered_limit: Price
    sponsored_per_day: Annotated[int, Field(ge=0)]
    epoch_seconds: Annotated[float, Field(gt=0)]
    payout_delay_seconds: Annotated[int, Field(gt=0)]
    veto_fee: Price
    min_stake: Annotated[int, Field(gt=0, lt=2**96)]
    set_validity_seconds: Annotated[int, Field(gt=0)]
    unbonding_seconds: Annotated[int, Field(gt=0)]
    activation_seconds: Annotated[int, Field(ge=0)]
    equivocation_bps: Annotated[int, Field(gt=0, le=10_000)]
    reporter_bps: Annotated[int, Field(ge=0, le=5_000)]
    router_exit_seconds: Annotated[int, Field(gt=0)]
    kept_epochs: Annotated[int, Field(ge=2)]
    change_delay_seconds: Annotated[int, Field(ge=0)]
    task_assign_seconds: Annotated[int, Field(gt=0)]
    task_min_seconds: Annotated[int, Field(gt=0)]
    task_max_seconds: Annotated[int, Field(gt=0)]
    task_bond_bps: Annotated[int, Field(ge=0, le=100_000)]
    task_penalty_bps: Annotated[int, Field(ge=0, le=10_000)]
    task_jail_seconds: Annotated[int, Field(ge=0)]
    task_lead: Annotated[int, Field(gt=0, lt=2**32)]
    finality_seconds: Annotated[int, Field(ge=0)]
    outage_seconds: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _windows_fit(self) -> "Parameters":
        windows = Windows(
            grace=self.grace_seconds,
            epoch=self.epoch_seconds,
            payout_delay=self.payout_delay_seconds,
            set_validity=self.set_validity_seconds,
            unbonding=self.unbonding_seconds,
            finality=self.finality_seconds,
            outage=self.outage_seconds,
            change_delay=self.change_delay_seconds,
            miner_exit=self.miner_exit_seconds,
            router_exit=self.router_exit_seconds,
        )
        try:
            check_windows(windows)
        except InvalidValue as error:
            raise ValueError(error.message) from error
        return self

    @model_validator(mode="after")
    def _tasks_are_fair(self) -> "Parameters":
        if self.task_lead < 2:
            raise ValueError(
                f"task_lead is {self.task_lead}; it must be 2 at least, or who asks knows the randomness that draws "
                "the miners"
            )
        if self.task_penalty_bps > self.task_bond_bps:
            raise ValueError(
                f"task_penalty_bps is {self.task_penalty_bps}; it must be at most task_bond_bps, {self.task_bond_bps}, "
                "for the bond that a task reserves is what pays the penalty"
            )
        return self


class ModelSettings(_Section):
    """A model that the network registers; ``weights`` names a pinned set in `tristrata.inference.weights`.

    ``context_length`` is in tokens, prompt and answer together.
    """

    weights: str
    context_length: Annotated[int, Field(ge=256)]


class MinerSettings(_Section):
    """A miner. Prices are base units per 1,000,000 tokens.

    Backend ``embedded`` runs the model itself, with ``threads`` of the processor; backend ``openai`` asks the server at
    ``url``, where the model is called ``backend_model`` (its own name unless given).
    """

    backend: Annotated[str, Field(pattern=r"^(embedded|openai)$")]
    model: str
    hubs: tuple[str, ...]
    slots: Annotated[int, Field(ge=1, le=1024)]
    prompt_price: Price
    output_price: Price
    region: Annotated[str, Field(max_length=32)] = ""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    url: str | None = None
    backend_model: str | None = None

    @model_validator(mode="after")
    def _url_matches_backend(self) -> "MinerSettings":
        if (self.backend == "openai") != (self.url is not None):
            raise ValueError("url must be given for backend 'openai', and only for it")
        return self


class Serving(_Section):
    """How a router serves HTTP: what it bounds, who may call from a browser, TLS, and where operators look.

    Rates are per API key. A request for a model whose miners are all busy waits ``queue_seconds``, as one of
    ``queue_length`` at most. ``cors_origins`` are origins such as ``https://app.example``, or ``*``. ``operations`` is
    the host and port of metrics and health, which only operators should reach.
    """

    max_connections: Annotated[int, Field(gt=0)] = 10_000
    max_head_bytes: Annotated[int, Field(ge=1_024)] = 32_768
    max_headers: Annotated[int, Field(ge=16)] = 100
    max_body_bytes: Annotated[int, Field(ge=1_024)] = 1_048_576
    head_seconds: Annotated[float, Field(gt=0)] = 10
    body_seconds: Annotated[float, Field(gt=0)] = 30
    requests_at_once: Annotated[int, Field(gt=0)] = 256
    requests_per_minute: Annotated[int, Field(gt=0)] = 60_000
    tokens_per_minute: Annotated[int, Field(gt=0)] = 10_000_000
    queue_length: Annotated[int, Field(ge=0)] = 256
    queue_seconds: Annotated[float, Field(ge=0)] = 5
    hedge_seconds: Annotated[float, Field(ge=0)] = 0
    cors_origins: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    operations: str | None = None

    @model_validator(mode="after")
    def _tls_is_whole(self) -> "Serving":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key must be given together: one is no use without the other")
        return self


class PayPerCall(_Section):
    """Calls that are paid one by one, without an account (x402). Amounts are base units, prices per 1,000,000 tokens.

    A call costs ``fee`` and, at these prices, the most tokens that it may take; miners that ask more are not asked.
    ``session_deposit`` is what the router puts, each time, into sessions of its own, out of which miners are paid.
    """

    prompt_price: Price
    output_price: Price
    fee: Price
    session_deposit: Annotated[int, Field(gt=0, lt=2**96)]


class Agents(_Section):
    """What a router tells agents of itself and its miners.

    ``registry`` is an ERC-8004 identity registry (CAIP-10) and ``ids`` the agent ids there, by checksummed address.
    ``mcp`` is where `tristrata mcp --listen` is reached.
    """

    name: str = "Tristrata router"
    description: str = "Answers with open models; each answer has a receipt that anybody can prove against Ethereum."
    image: str = ""
    mcp: str | None = None
    registry: Annotated[str, Field(pattern=r"^eip155:[0-9]{1,20}:0x[0-9a-fA-F]{40}$")] | None = None
    ids: dict[str, Annotated[int, Field(ge=0)]] = {}


class Network(_Section):
    """A whole network, checked: every chain named by a role or a parent exists, and the tree has one root."""

    name: Name
    chains: dict[Name, ChainSettings]
    roles: Roles
    parameters: Parameters
    models: dict[str, ModelSettings] = {}
    miners: dict[Name, MinerSettings] = {}
    validators: tuple[Name, ...] = ()
    fabric: str | None = None
    router: str | None = None
    serving: Serving = Serving()
    pay_per_call: PayPerCall | None = None
    agents: Agents = Agents()

    @model_validator(mode="after")
    def _tree_is_whole(self) -> "Network":
        roles = self.roles
        for role, named in (
            ("security", (roles.security,)),
            ("onboarding", roles.onboarding),
            ("orchestration", roles.orchestration),
            ("private", roles.private),
            *((f"miner {name}", miner.hubs) for name, miner in self.miners.items()),
        ):
            if unknown := set(named) - set(self.chains):
                raise ValueError(f"{role} names {sorted(unknown)}, which [chains] does not have")
        ids = [chain.chain_id for chain in self.chains.values()]
        if len(ids) != len(set(ids)):
            raise ValueError("two chains have the same chain_id; each must have its own")
        for name in self.chains:
            self._check_ancestry(name)
        for name, miner in self.miners.items():
            if miner.model not in self.models:
                raise ValueError(f"miner {name} offers model {miner.model!r}, which [models] does not have")
        return self

    def _check_ancestry(self, name: str) -> None:
        seen = [name]
        while (parent := self.chains[seen[-1]].parent) is not None:
            if parent not in self.chains:
                raise ValueError(f"chain {seen[-1]} has parent {parent!r}, which [chains] does not have")
            if parent in seen:
                raise ValueError(f"chains {' > '.join(seen)} > {parent} form a circle")
            seen.append(parent)
        if seen[-1] != self.roles.security:
            raise ValueError(f"chain {name} hangs under {seen[-1]}, not under {self.roles.security} (roles.security)")

    def ref(self, name: str) -> ChainRef:
        """The 32-byte reference of a chain; a custom chain's depends on its parent and rollup address."""
        chain = self.chains[name]
        if chain.rollup is None or chain.parent is None:
            return chain_ref(chain.caip2)
        return chain_ref(chain.caip2, self.ref(chain.parent), parse_address(chain.rollup))

    def chain_named(self, caip2: str) -> str:
        """The name here of the chain ``caip2``. Raises `NetworkFileInvalid` when the network does not have it."""
        for name, chain in self.chains.items():
            if chain.caip2 == caip2:
                return name
        raise NetworkFileInvalid(f"network {self.name} has no chain {caip2}; it has {', '.join(self.chains)}")

    def layer(self, name: str) -> int:
        """1 for the root of the tree, 2 for its children, 3 for theirs."""
        parent = self.chains[name].parent
        return 1 if parent is None else self.layer(parent) + 1

    def with_rpc(self, endpoints: Iterable[str]) -> "Network":
        """The same network seen through other endpoints, ``chain=URL`` each. Raises `NetworkFileInvalid`."""
        chains = dict(self.chains)
        for endpoint in endpoints:
            name, _, url = endpoint.partition("=")
            if name not in chains or not url:
                raise NetworkFileInvalid(
                    f"endpoint {endpoint!r} must read CHAIN=URL, where CHAIN is one of {', '.join(chains)}"
                )
            chains[name] = chains[name].model_copy(update={"rpc": (url,)})
        return self.model_copy(update={"chains": chains})

    def with_addresses(self, *, rpc: dict[str, str], fabric: str, router: str, operations: str) -> "Network":
        """The same network with the endpoints of a running one."""
        chains = {
            name: chain.model_copy(update={"rpc": (rpc[name],)} if name in rpc else {})
            for name, chain in self.chains.items()
        }
        serving = self.serving.model_copy(update={"operations": operations})
        return self.model_copy(update={"chains": chains, "fabric": fabric, "router": router, "serving": serving})


def read_network(path: Path) -> Network:
    """The network in ``path`` (TOML, or the JSON that `write_network` makes).

    Raises `NetworkFileInvalid` that names the file, the field, the value and the rule.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise NetworkFileInvalid(
            f"network file {path} cannot be read: {error.strerror}", remedy="check the path, or run: tristrata up"
        ) from error
    try:
        if path.suffix == ".json":
            return Network.model_validate_json(text)
        return Network.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise NetworkFileInvalid(f"network file {path} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        raise NetworkFileInvalid(
            f"network file {path}: {field}: {first['msg']}", remedy="correct the file and try again"
        ) from error


def write_network(network: Network, path: Path) -> None:
    """Write the network as JSON, replacing the file at once or not at all."""
    temporary = path.with_suffix(".new")
    temporary.write_text(network.model_dump_json(indent=2, exclude_none=True))
    temporary.replace(path)


def miner_settings(network: Network, *, model: str | None, **choices: Any) -> MinerSettings:
    """The settings of a miner that is not in the network file: on every hub, with the first model unless named.

    Raises `NetworkFileInvalid` that names the choice and the rule.
    """
    model = model or next(iter(network.models))
    if model not in network.models:
        raise NetworkFileInvalid(f"model {model!r} is not in the network; it has {', '.join(network.models)}")
    try:
        return MinerSettings.model_validate({"model": model, "hubs": network.roles.hubs, **choices})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the miner"
        raise NetworkFileInvalid(f"{field}: {first['msg']}", remedy="correct the option and try again") from error


def shipped_network(name: str) -> Path:
    """The path of a network file that comes with the package, such as ``local``."""
    return Path(__file__).parent / "networks" / f"{name}.toml"
