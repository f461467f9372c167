"""Whether a validator could run: its key, its stake, its chains. Nothing is signed and nothing is sent."""

import msgspec

from tristrata.bindings.hub import open_hubs
from tristrata.bindings.security import Security
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.config.actor import ActorSettings
from tristrata.custody.keystore import load_key, read_password
from tristrata.protocol.errors import TristrataError
from tristrata.protocol.ids import checksum
from tristrata.protocol.signing import address_of


class Finding(msgspec.Struct, frozen=True):
    """One thing that must hold, and whether it does."""

    holds: bool
    what: str


async def readiness(settings: ActorSettings) -> list[Finding]:
    """Everything that must hold before the validator runs."""
    try:
        key = load_key(settings.home.keystore(settings.name), read_password(settings.home.password_file))
    except TristrataError as error:
        return [Finding(False, f"key: {error.message}")]
    signer = address_of(key.public_key)
    findings = [Finding(True, f"key: {checksum(signer)}")]
    async with Chains(settings.network) as chains:
        for name in settings.network.chains:
            try:
                await chains[name].check()
                block = await chains[name].block(Level.FINALIZED)
                findings.append(Finding(True, f"{name}: answers, block {block.number} is finalized"))
            except TristrataError as error:
                findings.append(Finding(False, f"{name}: {error.message}"))
        if not all(finding.holds for finding in findings):
            return findings
        security = Security(settings.network, settings.manifest, chains)
        block = await chains[security.name].block(Level.SOFT)
        current = await security.current_set(at=block.number)
        weight = await security.validators.read("member_weight", current.number, signer, at=block.number)
        share = f"{100 * weight / current.total:.1f} %" if current.total else "no set yet"
        findings.append(Finding(weight > 0, f"stake: {share} of validator set {current.number}"))
        left = current.valid_until - block.timestamp
        findings.append(Finding(left > 0, f"set: valid for {left} s more"))
        for hub in open_hubs(settings.network, settings.manifest, chains).values():
            head = await hub.chain.block(Level.SOFT)
            number, *_ = await hub.outbox.read("current", at=head.number)
            findings.append(Finding(number == current.number, f"{hub.name}: knows validator set {number}"))
    return findings
