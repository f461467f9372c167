# pragma version 0.4.3
# pragma evm-version prague
"""
@title A validator set and its quorum
@license Apache-2.0
@notice At most 32 members, each one word `signer << 96 | weight`, strictly ascending by signer. A quorum is two thirds of
        the weight of the current set; a set whose time is over signs nothing.
@dev Weights are kept by adoption, so those of older sets are never read again and need no clearing.
     The Python side is `tristrata.protocol.attestation`.
"""

from shared import domain


# A signature in two words (EIP-2098): `vs` is s with v - 27 in its highest bit.
struct Signature:
    r: bytes32
    vs: bytes32


struct Set:
    number: uint64
    root: bytes32
    total: uint256
    valid_until: uint64


_MAX_MEMBERS: constant(uint256) = 32
_WEIGHT_MASK: constant(uint256) = 2**96 - 1
_ADOPTION_MASK: constant(uint256) = 2**24 - 1
_TOTAL_MASK: constant(uint256) = 2**104 - 1


# The current set in one word: number (64 bits), valid_until (64), which adoption it is (24), total (104: 32 weights of 96
# bits need 101).
_packed: uint256
_root: bytes32
_weights: HashMap[uint256, HashMap[address, uint96]]


@external
@view
def current() -> Set:
    """
    @notice The newest set, be it still valid or not; all empty before the first.
    """
    return self._current()


@external
@view
def member_weight(number: uint64, signer: address) -> uint96:
    """
    @notice The weight of `signer` in the current set, if that has this number; 0 for one that is not in it.
    """
    if convert(self._packed >> 192, uint64) != number:
        return 0
    return self._weights[self._adoption()][signer]


@internal
@view
def _require_quorum(digest: bytes32, signatures: DynArray[Signature, _MAX_MEMBERS]):
    """
    @dev Reverts unless members of the current set, which is still valid, signed `digest` with at least two thirds of
         its weight. The signatures stand in strictly ascending order of their signers, so none counts twice.
    """
    packed: uint256 = self._packed
    self._require_valid(convert(packed >> 128 & (2**64 - 1), uint64))
    adoption: uint256 = packed >> 104 & _ADOPTION_MASK
    total: uint256 = packed & _TOTAL_MASK
    signed: uint256 = 0
    last_signer: uint256 = 0
    index: uint256 = 0
    for signature: Signature in signatures:
        signer: address = domain._recover_compact(digest, signature.r, signature.vs)
        if signer == empty(address):
            raw_revert(abi_encode(index, method_id=method_id("SignatureInvalid(uint256)")))
        weight: uint96 = self._weights[adoption][signer]
        if weight == 0:
            raw_revert(abi_encode(signer, method_id=method_id("NotValidator(address)")))
        if convert(signer, uint256) <= last_signer:
            raw_revert(abi_encode(signer, method_id=method_id("SignersUnsorted(address)")))
        last_signer = convert(signer, uint256)
        signed += convert(weight, uint256)
        index += 1
    if 3 * signed < 2 * total:
        raw_revert(abi_encode(signed, total, method_id=method_id("NoQuorum(uint256,uint256)")))


@internal
@view
def _is_valid_member(signer: address) -> bool:
    """
    @dev Whether `signer` is in the current set, and the set is still valid.
    """
    packed: uint256 = self._packed
    if packed >> 128 & (2**64 - 1) < block.timestamp:
        return False
    return self._weights[packed >> 104 & _ADOPTION_MASK][signer] != 0


@internal
@view
def _describe(number: uint64, valid_until: uint64, members: DynArray[uint256, _MAX_MEMBERS]) -> Set:
    """
    @dev The set that `members` would make. Reverts if they may not: it must be still valid, and not empty (nothing would
         be two thirds of nothing). Whether its number is right is the caller's concern.
    """
    self._require_valid(valid_until)
    if len(members) == 0:
        raw_revert(abi_encode(number, method_id=method_id("SetEmpty(uint64)")))
    total: uint256 = 0
    last_signer: uint256 = 0
    for member: uint256 in members:
        signer: uint256 = member >> 96
        if signer <= last_signer:
            raw_revert(abi_encode(convert(signer, address), method_id=method_id("MembersUnsorted(address)")))
        if member & _WEIGHT_MASK == 0:
            raw_revert(abi_encode(convert(signer, address), method_id=method_id("ZeroWeight(address)")))
        last_signer = signer
        total += member & _WEIGHT_MASK
    return Set(number=number, root=keccak256(abi_encode(members)), total=total, valid_until=valid_until)


@internal
def _adopt(number: uint64, valid_until: uint64, members: DynArray[uint256, _MAX_MEMBERS]) -> Set:
    """
    @dev Makes `members` the current set, under the conditions of `_describe`. Who may do so is the caller's concern.
    """
    adopted: Set = self._describe(number, valid_until, members)
    # Each adoption is a transaction: nobody reaches 2**24.
    adoption: uint256 = self._adoption() + 1
    self._packed = (
        convert(number, uint256) << 192 | convert(valid_until, uint256) << 128 | adoption << 104 | adopted.total
    )
    self._root = adopted.root
    for member: uint256 in members:
        self._weights[adoption][convert(member >> 96, address)] = convert(member & _WEIGHT_MASK, uint96)
    return adopted


@internal
@view
def _adoption() -> uint256:
    """
    @dev How many sets were adopted so far: under which number the current one's weights are kept.
    """
    return self._packed >> 104 & _ADOPTION_MASK


@internal
@view
def _current() -> Set:
    """
    @dev The newest set, unpacked.
    """
    packed: uint256 = self._packed
    return Set(
        number=convert(packed >> 192, uint64),
        root=self._root,
        total=packed & _TOTAL_MASK,
        valid_until=convert(packed >> 128 & (2**64 - 1), uint64),
    )


@internal
@view
def _require_valid(valid_until: uint64):
    """
    @dev Reverts when a set's time is over. Before the first set `valid_until` is 0, so nothing is signed either.
    """
    if convert(valid_until, uint256) < block.timestamp:
        raw_revert(
            abi_encode(valid_until, convert(block.timestamp, uint64), method_id=method_id("SetExpired(uint64,uint64)"))
        )
