"""The router's HTTP edge over real sockets: what is too long, too slow or too much, browsers, TLS, metrics."""

import asyncio
import datetime
import json
import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tristrata.config.network import Serving
from tristrata.process import LOOPBACK, remembered_port
from tristrata.router.app import create_app
from tristrata.router.http import json_response, read_body
from tristrata.router.metrics import Metrics
from tristrata.router.operations import Check, operations_app
from tristrata.router.server import serve


async def echo(request: Request) -> Response:
    return json_response({"length": len(await read_body(request))})


async def fail(_: Request) -> Response:
    raise RuntimeError("nobody foresaw this")


@asynccontextmanager
async def served(folder: Path, metrics: Metrics | None = None, **settings: object) -> AsyncIterator[int]:
    serving = Serving.model_validate(settings)
    routes = [Route("/echo", echo, methods=["POST"]), Route("/fail", fail)]
    app = create_app(routes, lambda: {"status": "ok"}, metrics=metrics, serving=serving)
    port = remembered_port(folder / "port")
    running = asyncio.create_task(serve(app, LOOPBACK, port, serving))
    while True:
        try:
            _, writer = await asyncio.open_connection(LOOPBACK, port)
        except OSError:
            await asyncio.sleep(0.01)
            continue
        writer.close()
        break
    yield port
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def send(port: int, *parts: bytes, pause: float = 0.02) -> bytes:
    """Everything that comes back until the server closes, or a second of silence after the last part was sent."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    answer = bytearray()

    async def receive() -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                answer.extend(chunk)

    receiving = asyncio.create_task(receive())
    for part in parts:
        if receiving.done() or answer:  # whoever is refused sends no more
            break
        writer.write(part)
        await asyncio.sleep(pause)
    await asyncio.wait((receiving,), timeout=1)
    receiving.cancel()
    writer.close()
    return bytes(answer)


async def test_head__too_long_too_many_or_too_slow__is_refused_and_others_are_served(tmp_path: Path) -> None:
    async with served(tmp_path, max_head_bytes=2_048, max_headers=16, head_seconds=0.3) as port:
        long = await send(port, b"GET /health HTTP/1.1\r\nhost: x\r\ncookie: " + b"c" * 4_000 + b"\r\n\r\n")
        endless = await send(port, b"GET /health HTTP/1.1\r\n", *[b"a: " + b"b" * 500 + b"\r\n"] * 8)
        many = await send(port, b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 30 + b"\r\n")
        target = await send(port, b"GET /" + b"x" * 4_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        slow = await send(port, *[bytes([byte]) for byte in b"GET /health HTTP/1.1\r\n"], pause=0.03)
        silent = await send(port, pause=0.5)
        fine = await send(port, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert [answer.split(b" ", 2)[1] for answer in (long, endless, many, target)] == [b"431"] * 4
    assert [answer.split(b" ", 2)[1] for answer in (slow, silent)] == [b"408"] * 2
    assert fine.startswith(b"HTTP/1.1 200")
    assert b'"error"' in long
    for refused in (long, endless, many, target, slow, silent):
        head, _, body = refused.partition(b"\r\n\r\n")
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        assert headers[b"x-request-id"].startswith(b"req_")
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert (b"retry-after" in headers) == refused.startswith(b"HTTP/1.1 408")
        assert json.loads(body)["error"]["code"] in ("headers_too_large", "request_timeout")


async def test_body__too_long_or_too_slow__is_refused(tmp_path: Path) -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    async with served(tmp_path, max_body_bytes=1_024, body_seconds=0.3) as port:
        declared = await send(port, head + b"content-length: 99999999\r\n\r\n")
        chunk = b"400\r\n" + b"x" * 1_024 + b"\r\n"
        chunked = await send(port, head + b"transfer-encoding: chunked\r\n\r\n", chunk, chunk)
        slow = await send(port, head + b"content-length: 10\r\n\r\n", b"x", pause=0.5)
        fine = await send(port, head + b"content-length: 1024\r\n\r\n" + b"x" * 1_024)

    assert [answer.split(b" ", 2)[1] for answer in (declared, chunked)] == [b"413"] * 2
    assert slow.split(b" ", 2)[1] == b"408"
    assert fine.endswith(b'{"length":1024}')


async def test_trailers__more_than_a_heads_worth__end_the_connection_and_few_are_dropped(tmp_path: Path) -> None:
    head = b"POST /echo HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served(tmp_path, max_head_bytes=2_048) as port:
        many = await send(port, head, b"1\r\nx\r\n", b"0\r\n", *[b"a: " + b"b" * 500 + b"\r\n"] * 8)
        endless = await send(port, head, b"1\r\nx\r\n", b"0\r\na: ", *[b"b" * 500] * 8)
        extension = await send(port, head, b"1;", *[b"b" * 500] * 8)
        fine = await send(port, head, b"1\r\nx\r\n", b"0\r\na: b\r\n\r\n")
        pieces = await send(port, head, b"1\r\nx\r\n" * 2_000, b"0\r\n\r\n")

    assert [answer.split(b" ", 2)[1] for answer in (many, endless, extension)] == [b"431"] * 3
    assert fine.endswith(b'{"length":1}')
    assert pieces.endswith(b'{"length":2000}')


async def test_connections__more_than_the_most__are_turned_away(tmp_path: Path) -> None:
    async with served(tmp_path, max_connections=3) as port:
        await asyncio.sleep(0.05)
        held = [await asyncio.open_connection(LOOPBACK, port) for _ in range(3)]
        await asyncio.sleep(0.05)
        turned_away = await send(port, b"")
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.05)
        fine = await send(port, b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert turned_away.startswith(b"HTTP/1.1 503")
    assert fine.startswith(b"HTTP/1.1 200")


async def test_answers__of_any_kind__have_a_request_id_and_security_headers(tmp_path: Path) -> None:
    async with served(tmp_path) as port, aiohttp.ClientSession() as http:
        ids = set()
        for path, status in (("/health", 200), ("/nowhere", 404), ("/fail", 500)):
            async with http.get(f"http://{LOOPBACK}:{port}{path}") as response:
                assert response.status == status
                assert response.headers["x-content-type-options"] == "nosniff"
                assert response.headers["cache-control"] == "no-store"
                assert "server" not in response.headers
                assert "access-control-allow-origin" not in response.headers
                ids.add(response.headers["x-request-id"])
        assert len(ids) == 3


async def test_browsers__of_allowed_origins_only__may_call(tmp_path: Path) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    async with served(tmp_path, cors_origins=("https://app.example",)) as port, aiohttp.ClientSession() as http:
        url = f"http://{LOOPBACK}:{port}/echo"
        async with http.options(url, headers={**asked, "origin": "https://app.example"}) as response:
            assert response.status == 204
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert response.headers["access-control-allow-headers"] == "authorization"
        async with http.options(url, headers={**asked, "origin": "https://evil.example"}) as response:
            assert response.status == 403
            assert "access-control-allow-origin" not in response.headers
        async with http.post(url, data=b"x", headers={"origin": "https://app.example"}) as response:
            assert response.headers["access-control-allow-origin"] == "https://app.example"
            assert "x-tristrata-receipt" in response.headers["access-control-expose-headers"]
            assert response.headers["vary"] == "origin"


async def test_tls__certificate_is_given__serves_tls_1_2_and_newer_only(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    async with served(tmp_path, tls_certificate=certificate, tls_key=key) as port:
        trusting = ssl.create_default_context(cafile=str(certificate))
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"https://localhost:{port}/health", ssl=trusting) as response,
        ):
            assert response.status == 200
            assert "strict-transport-security" in response.headers
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings(action="ignore"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(LOOPBACK, port, ssl=old)


async def test_operations__metrics_and_readiness__say_what_happened(tmp_path: Path) -> None:
    metrics, broken = Metrics(), False

    async def database() -> str:
        return "the database does not answer" if broken else ""

    metrics.watch("tristrata_sessions", "Sessions.", (), lambda: {(): 7.0})
    async with served(tmp_path, metrics) as port, aiohttp.ClientSession() as http:
        await http.get(f"http://{LOOPBACK}:{port}/health")
        await http.get(f"http://{LOOPBACK}:{port}/nowhere")
        operations = remembered_port(tmp_path / "operations")
        app = operations_app(metrics, [Check("database", database)])
        running = asyncio.create_task(serve(app, LOOPBACK, operations))
        await asyncio.sleep(0.3)
        async with http.get(f"http://{LOOPBACK}:{operations}/metrics") as response:
            text = await response.text()
        async with http.get(f"http://{LOOPBACK}:{operations}/ready") as response:
            assert (response.status, (await response.json())["ready"]) == (200, True)
        broken = True
        async with http.get(f"http://{LOOPBACK}:{operations}/ready") as response:
            assert response.status == 503
            assert (await response.json())["reasons"] == {"database": "the database does not answer"}
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert 'tristrata_requests_total{endpoint="/health",status="200"} 1.0' in text
    assert 'tristrata_requests_total{endpoint="other",status="404"} 1.0' in text
    assert 'tristrata_refusals_total{code="unknown_url"} 1.0' in text
    assert "tristrata_sessions 7.0" in text


def self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = (folder / "certificate.pem", folder / "key.pem")
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
