"""The tour itself: a user is onboarded on L2, opens sessions on L2 and L3, asks, checks every receipt, is charged."""

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from pathlib import Path as FilePath

from tristrata.bindings.hub import Hub, open_hubs
from tristrata.bindings.welcome import Welcome
from tristrata.chains.evm import Level
from tristrata.chains.pool import Chains
from tristrata.cli.tour.ascent import Ascent
from tristrata.cli.tour.records import Answer, Milestone, Record, Screen, Step, TourBroken
from tristrata.client.account import Account, NewSession
from tristrata.client.api import ReceiptArrived, RouterApi, TextDelta
from tristrata.client.checks import check_answer
from tristrata.config.actor import ActorSettings
from tristrata.custody.api_keys import keep_api_key
from tristrata.custody.keystore import create_secret, read_password
from tristrata.devnet.treasury import give_dollars
from tristrata.devnet.user import BUDGET
from tristrata.protocol.ids import SessionId, checksum
from tristrata.protocol.signing import parse_key
from tristrata.protocol.units import Gas

PROMPTS = (
    "What is the capital of Japan?",
    "List five fruits.",
    "Write a Python function that reverses a string.",
)
PRIVATE_PROMPT = "What is the water cycle?"
"""Chosen by trying 24: the model answers these four rightly and stops by itself (temperature 0, seed 7)."""

SEED = 7
MAX_TOKENS = 400
_CHARGED_SECONDS = 60.0
_POLL_SECONDS = 0.05


class Guide:
    """One tour of a running network, on the screen and in a record."""

    def __init__(self, settings: ActorSettings, chains: Chains, screen: Screen) -> None:
        self.record = Record()
        self._chains = chains
        self._settings = settings
        self._screen = screen

    async def run(self, prompts: tuple[str, ...], receipts: FilePath) -> None:
        """Ask ``prompts`` on the orchestration hub and one more question on the private one; then prove every answer.

        Receipt files are left in ``receipts``. Raises an error of ours at the first step that does not hold.
        """
        settings, network = self._settings, self._settings.network
        task_hub, private_hub = network.roles.orchestration[0], network.roles.private[0]
        async with AsyncExitStack() as stack:
            router = await stack.enter_async_context(RouterApi(settings.router))
            hubs = open_hubs(network, settings.manifest, self._chains)
            by_name = {hub.name: hub for hub in hubs.values()}
            name = network.roles.onboarding[0]
            welcome = Welcome(network, settings.manifest, name, self._chains[name])
            password = read_password(settings.home.password_file)
            keystore = settings.home.keystore(f"visitor-{secrets.token_hex(4)}")
            account = Account(parse_key(create_secret(keystore, password)), router, welcome, hubs)
            await self._onboard(account, welcome, by_name[task_hub])
            await account.wait_until_known(by_name[private_hub])
            ascent = Ascent(settings, self._chains, hubs, self._screen)
            watching = asyncio.create_task(ascent.watch())
            stack.callback(watching.cancel)
            sessions = []
            for hub, asked in ((by_name[task_hub], prompts), (by_name[private_hub], (PRIVATE_PROMPT,))):
                session = await self._open_session(account, hub)
                sessions.append((hub, session))
                async with RouterApi(settings.router, session.api_key) as api:
                    for prompt in asked:
                        ascent.add(await self._ask(api, hub, session.session, prompt))
            self.record.tasks = await ascent.finish(watching)
            self.record.steps += ascent.steps
            ascent.verify(self.record.tasks, receipts)
            await self._complete_keys(account, sessions)
            for step in await ascent.claim():
                self.record.steps.append(step)
                self._screen.step(step)

    def took(self, name: str, chain: str, gas: int, started: float, detail: str = "") -> None:
        """Write down a step that began at ``started`` (``time.monotonic``) and is done now."""
        step = Step(name, chain, gas, round(time.monotonic() - started, 3), detail)
        self.record.steps.append(step)
        self._screen.step(step)

    async def _onboard(self, account: Account, welcome: Welcome, hub: Hub) -> None:
        started = time.monotonic()
        first_block = (await hub.chain.block(Level.SOFT)).number
        sponsored = await account.register()
        detail = f"{_short(account)}; a sponsor paid"
        self.took("register by signature", welcome.name, sponsored.gas, started, detail)
        started = time.monotonic()
        await account.wait_until_known(hub)
        gas = await _gas_of(hub, "Registered", "account", account.address, first_block)
        self.took("carry the registration", hub.name, gas, started, "no bridge yet: the operator's own key carried it")

    async def _open_session(self, account: Account, hub: Hub) -> NewSession:
        settings = self._settings
        started = time.monotonic()
        [minted] = await give_dollars(settings, self._chains, [(hub.name, account.address, BUDGET.deposit)])
        self.took("get test dollars", hub.name, minted.gas_used, started, f"{BUDGET.deposit / 10**6:.2f} tUSD")
        started = time.monotonic()
        session = await account.open_session(hub, next(iter(settings.network.models)), BUDGET)
        keep_api_key(settings.home.api_keys_file, hub.name, session.api_key, session.session)
        share = settings.network.parameters.router_bps / 100
        detail = f"0x{session.session.hex()[:8]}…, {share:g} % to router"
        self.took("open a session", hub.name, session.opened.gas, started, detail)
        return session

    async def _complete_keys(self, account: Account, sessions: list[tuple[Hub, NewSession]]) -> None:
        """Let the keys that stay with the user use the network's other models, too."""
        _, *others = self._settings.network.models
        for hub, session in sessions:
            for model in others:
                await give_dollars(self._settings, self._chains, [(hub.name, account.address, BUDGET.deposit)])
                await account.open_session(hub, model, BUDGET, api_key=session.api_key)

    async def _ask(self, api: RouterApi, hub: Hub, session: SessionId, prompt: str) -> Answer:
        settings = self._settings
        self._screen.question(hub.name, prompt)
        request = {
            "model": next(iter(settings.network.models)),
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "seed": SEED,
            "max_tokens": MAX_TOKENS,
        }
        first_block = (await hub.chain.block(Level.SOFT)).number
        sent, started = time.time(), time.monotonic()
        first_token: float | None = None
        pieces: list[str] = []
        request_id = ""
        async for event in api.stream_chat(request):
            if isinstance(event, TextDelta):
                first_token = first_token or time.monotonic() - started
                pieces.append(event.text)
                self._screen.piece(event.text)
            elif isinstance(event, ReceiptArrived):
                request_id = event.document["receipt"]["request_id"]
        seconds = time.monotonic() - started
        if not request_id or first_token is None:
            raise TourBroken(f"the answer to {prompt!r} came without a receipt")
        document = await api.receipt(request_id)
        receipt, voucher = await check_answer(document, "".join(pieces), hub)
        milestones = [
            Milestone("signed", int(receipt.finished_at - sent * 1_000)),
            Milestone("vouchered", int(document["vouchered_at"] - sent * 1_000)),
        ]
        for milestone in milestones:
            self._screen.milestone(milestone)
        gas = await _charged(hub, session, voucher.voucher.count, first_block)
        charged = Milestone("charged", int((time.monotonic() - started) * 1_000), gas)
        milestones.append(charged)
        self._screen.milestone(charged)
        answer = Answer(
            hub=hub.name,
            prompt=prompt,
            answer="".join(pieces),
            receipt=document,
            asked_at=sent,
            first_token_milliseconds=round(first_token * 1_000, 1),
            seconds=round(seconds, 3),
            output_tokens=receipt.output_tokens,
            milestones=tuple(milestones),
        )
        self.record.tasks.append(answer)
        self._screen.answered(answer)
        number = len(self.record.tasks)
        step = Step(f"charge answer {number}", hub.name, gas, round(charged.milliseconds / 1_000 - seconds, 3))
        self.record.steps.append(step)
        return answer


async def _charged(hub: Hub, session: SessionId, count: int, first_block: int) -> Gas:
    """Wait until a voucher of at least ``count`` receipts is charged; gives the gas of that transaction."""
    deadline = time.monotonic() + _CHARGED_SECONDS
    while time.monotonic() < deadline:
        head = (await hub.chain.block(Level.SOFT)).number
        charges = [
            event
            for event in await hub.events(first_block, head)
            if event.name == "Charged" and event.values["session_id"] == session and event.values["count"] >= count
        ]
        if charges:
            return await _gas_of(hub, "Charged", "session_id", session, first_block)
        await asyncio.sleep(_POLL_SECONDS)
    raise TourBroken(
        f"receipt {count} of session 0x{session.hex()} is not charged after {_CHARGED_SECONDS:.0f} s",
        remedy="see the settler's log",
    )


async def _gas_of(hub: Hub, event: str, field: str, value: bytes, first_block: int) -> Gas:
    """The gas of the last transaction since ``first_block`` that left this event."""
    head = (await hub.chain.block(Level.SOFT)).number
    found = [each for each in await hub.events(first_block, head) if each.name == event and each.values[field] == value]
    receipt = await hub.chain.receipt(found[-1].log.tx_hash) if found else None
    if receipt is None:
        raise TourBroken(f"no {event} event for 0x{value.hex()} on {hub.name} since block {first_block}")
    return receipt.gas_used


def _short(account: Account) -> str:
    return f"{checksum(account.address)[:10]}…"
