"""What an account agrees to: its registration, the terms of its sessions, and what becomes of its balance."""

from enum import IntEnum

import msgspec

from tristrata.protocol.hashing import address_word, keccak, word
from tristrata.protocol.ids import Address, ChainRef, ModelId, SessionId
from tristrata.protocol.receipt import Assurance
from tristrata.protocol.units import Amount, BasisPoints, PricePerMillion, Timestamp

TERMS_TYPE = (
    "Terms(address session_key,address router,bool managed,bytes32 model_id,uint8 assurance,uint8 replicas,"
    "uint16 router_bps,uint96 max_prompt_price,uint96 max_output_price,uint96 max_per_day,uint96 exposure_cap,"
    "uint64 expiry)"
)
OPEN_SESSION_TYPE = "OpenSession(address owner,uint256 nonce,uint96 deposit,uint256 deadline,Terms terms)" + TERMS_TYPE
API_KEY_GRANT_TYPE = "ApiKeyGrant(bytes32 session,bytes32 key_hash,uint256 deadline)"
REGISTRATION_TYPE = "Registration(address account,uint8 role,uint256 deadline)"
DEPOSIT_TYPE = "Deposit(address owner,uint96 amount,bytes32 salt)"
WITHDRAW_TYPE = "Withdraw(address account,uint96 amount,address recipient,uint256 nonce,uint256 deadline)"
CREDIT_TYPE = "Credit(address account,bytes32 destination,uint96 amount,uint256 nonce,uint256 deadline)"
_TERMS_TYPE_HASH = keccak(TERMS_TYPE.encode())
_OPEN_SESSION_TYPE_HASH = keccak(OPEN_SESSION_TYPE.encode())
_API_KEY_GRANT_TYPE_HASH = keccak(API_KEY_GRANT_TYPE.encode())
_REGISTRATION_TYPE_HASH = keccak(REGISTRATION_TYPE.encode())
_DEPOSIT_TYPE_HASH = keccak(DEPOSIT_TYPE.encode())
_WITHDRAW_TYPE_HASH = keccak(WITHDRAW_TYPE.encode())
_CREDIT_TYPE_HASH = keccak(CREDIT_TYPE.encode())

MAX_ROUTER_BPS = BasisPoints(2_000)
MAX_REPLICAS = 8


class Role(IntEnum):
    """What an account registers as."""

    USER = 1
    MINER = 2


class Terms(msgspec.Struct, frozen=True):
    """The terms of one session; the owner signs them once.

    ``session_key`` signs vouchers; ``router`` earns ``router_bps`` of every answer. ``managed`` says that the router
    holds the session key, so that its bond stands for the deposit. Price ceilings are base units per 1,000,000 tokens.
    ``max_per_day`` (base units per UTC day, 0 for no limit) bounds what can be charged, ``exposure_cap`` (base units)
    what may be served beyond what is charged. ``expiry`` is a timestamp.
    """

    session_key: Address
    router: Address
    managed: bool
    model_id: ModelId
    assurance: Assurance
    replicas: int
    router_bps: BasisPoints
    max_prompt_price: PricePerMillion
    max_output_price: PricePerMillion
    max_per_day: Amount
    exposure_cap: Amount
    expiry: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the terms."""
        return keccak(
            b"".join(
                (
                    _TERMS_TYPE_HASH,
                    address_word(self.session_key),
                    address_word(self.router),
                    word(self.managed),
                    self.model_id,
                    word(self.assurance),
                    word(self.replicas),
                    word(self.router_bps),
                    word(self.max_prompt_price),
                    word(self.max_output_price),
                    word(self.max_per_day),
                    word(self.exposure_cap),
                    word(self.expiry),
                )
            )
        )


class OpenSession(msgspec.Struct, frozen=True):
    """An owner's order to open a session; anyone may carry it to the chain until ``deadline``."""

    owner: Address
    nonce: int
    deposit: Amount
    deadline: Timestamp
    terms: Terms

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(
            _OPEN_SESSION_TYPE_HASH
            + address_word(self.owner)
            + word(self.nonce)
            + word(self.deposit)
            + word(self.deadline)
            + self.terms.struct_hash
        )


class Registration(msgspec.Struct, frozen=True):
    """An account's wish to be registered in a role; a sponsor pays for carrying it to the chain."""

    account: Address
    role: Role
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the registration."""
        return keccak(_REGISTRATION_TYPE_HASH + address_word(self.account) + word(self.role) + word(self.deadline))


class Deposit(msgspec.Struct, frozen=True):
    """An owner's deposit at the Welcome Center, in base units.

    It is not signed: its digest there is the nonce of the EIP-3009 authorization that pays it. ``salt`` is any 32 bytes
    that tell it from others of the same amount.
    """

    owner: Address
    amount: Amount
    salt: bytes

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the deposit."""
        return keccak(_DEPOSIT_TYPE_HASH + address_word(self.owner) + word(self.amount) + self.salt)


class Withdraw(msgspec.Struct, frozen=True):
    """An account's order to pay out a part of its Welcome Center balance; anyone may carry it until ``deadline``.

    ``nonce`` is any number that the account did not use in an order before.
    """

    account: Address
    amount: Amount
    recipient: Address
    nonce: int
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(
            _WITHDRAW_TYPE_HASH
            + address_word(self.account)
            + word(self.amount)
            + address_word(self.recipient)
            + word(self.nonce)
            + word(self.deadline)
        )


class Credit(msgspec.Struct, frozen=True):
    """An account's order to move a part of its balance at the Welcome Center to the hub of chain ``destination``.

    ``nonce`` is any number that the account did not use in an order before.
    """

    account: Address
    destination: ChainRef
    amount: Amount
    nonce: int
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the order."""
        return keccak(
            _CREDIT_TYPE_HASH
            + address_word(self.account)
            + self.destination
            + word(self.amount)
            + word(self.nonce)
            + word(self.deadline)
        )


class ApiKeyGrant(msgspec.Struct, frozen=True):
    """An owner's word to the router that whoever knows the secret behind ``key_hash`` (SHA-256) may use the session."""

    session: SessionId
    key_hash: bytes
    deadline: Timestamp

    @property
    def struct_hash(self) -> bytes:
        """The EIP-712 ``hashStruct`` of the grant."""
        return keccak(_API_KEY_GRANT_TYPE_HASH + self.session + self.key_hash + word(self.deadline))
