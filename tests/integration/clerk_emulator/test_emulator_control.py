"""Commands by HTTP, the page, and the process."""

import asyncio
import html
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from devtools.clerk_emulator import Emulator
from devtools.clerk_emulator.delivery.endpoints import new_secret
from devtools.clerk_emulator.testing import Receiver

REPOSITORY = Path(__file__).resolve().parents[3]


class Control:
    """Commands an emulator by HTTP."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def __call__(self, method: str, path: str, body: Any = None, *, expect: int = 200) -> Any:
        async with self.session.request(method, f"/_emulator/{path}", json=body) as answer:
            assert answer.status == expect, await answer.text()
            return await answer.json()


@pytest.fixture
async def control(clerk: Emulator) -> AsyncIterator[Control]:
    async with aiohttp.ClientSession(clerk.url) as session:
        yield Control(session)


async def test_an_endpoint_lives_its_whole_life_by_http(control: Control, receiver: Receiver) -> None:
    secret = new_secret(seed=7, number=7)
    endpoint = await control("POST", "endpoints", {"url": receiver.url, "secret": secret}, expect=201)
    (sent,) = (await control("POST", "events", {"type": "a.b", "data": {"n": 1}}, expect=202))["data"]
    assert (await control("GET", "idle?timeout=10"))["idle"] is True
    receiver.arrivals[0].verify(secret)
    rotated = await control("POST", f"endpoints/{endpoint['id']}/rotate", {})
    assert rotated["secrets"][1] == secret != rotated["secret"]
    await control("POST", f"messages/{sent['id']}/resend", expect=202)
    await control("GET", "idle")
    receiver.arrivals[1].verify(rotated["secret"])
    await control("PATCH", f"endpoints/{endpoint['id']}", {"enabled": False})
    await control("POST", "events", {"type": "a.b", "data": {}}, expect=202)
    fates = [message["fate"] for message in (await control("GET", "messages"))["data"]]
    assert fates == ["disabled", "delivered"]
    await control("DELETE", f"endpoints/{endpoint['id']}")
    assert (await control("GET", "endpoints"))["data"] == []
    await control("GET", f"endpoints/{endpoint['id']}", expect=404)


async def test_events_of_any_kind_are_emitted(control: Control, receiver: Receiver) -> None:
    await control("POST", "endpoints", {"url": receiver.url}, expect=201)
    commands = [
        {"type": "email.created", "sample": True, "data": {"subject": "123456 is your code"}},
        {"type": "never.heard.of", "data": [1, 2], "envelope": {"timestamp": 5, "instance_id": None}},
        {"raw": "not json"},
        {"raw_base64": "/w=="},
        {"type": "x.y", "data": {}, "message_id": "msg_chosen"},
    ]
    await control("POST", "events", commands, expect=202)
    await control("GET", "idle")
    found = {message["type"]: message for message in (await control("GET", "messages?body=1"))["data"]}
    assert '"subject":"123456 is your code"' in found["email.created"]["body"]
    assert {arrival.body for arrival in receiver.arrivals} >= {b"not json", b"\xff"}
    assert "msg_chosen" in {arrival.id for arrival in receiver.arrivals}
    odd = next(arrival for arrival in receiver.arrivals if b"never.heard.of" in arrival.body)
    assert (odd.event["timestamp"], "instance_id" in odd.event) == (5, False)


async def test_faults_and_behaviour_are_set_and_shown(control: Control) -> None:
    fault = await control("POST", "faults", {"kind": "delay", "seconds": 3, "next": 2, "types": "user.*"}, expect=201)
    assert (await control("GET", "faults"))["data"] == [fault]
    await control("DELETE", f"faults/{fault['id']}")
    await control("DELETE", f"faults/{fault['id']}", expect=404)
    changed = await control("PATCH", "behaviour", {"header_families": ["svix", "webhook"], "retry_scale": 0.5})
    assert (changed["header_families"], changed["retry_scale"]) == (["svix", "webhook"], 0.5)


@pytest.mark.parametrize(
    ("method", "path", "body", "says"),
    [
        ("POST", "faults", {"kind": "explode"}, "kind is one of"),
        ("POST", "faults", {"kind": "lose", "speed": 1}, "unknown: speed"),
        ("POST", "faults", [], "a JSON object is expected"),
        ("POST", "endpoints", {}, "url begins with"),
        ("POST", "endpoints", {"url": "http://127.0.0.1:1", "secret": "whsec_"}, "secret"),
        ("PATCH", "behaviour", {"timestamp_unit": "fortnight"}, "timestamp_unit"),
        ("PATCH", "behaviour", {"speed": 1}, "unknown: speed"),
        ("POST", "events", {"data": {}}, "type is missing"),
        ("POST", "events", {"type": "a.b", "sample": True}, "no sample for a.b"),
        ("GET", "idle?timeout=soon", None, "timeout is a number"),
    ],
)
async def test_a_command_that_cannot_be_followed_says_why(
    control: Control, method: str, path: str, body: Any, says: str
) -> None:
    assert says in (await control(method, path, body, expect=400))["error"]


async def test_what_is_not_idle_in_time_is_told(control: Control, receiver: Receiver) -> None:
    await control("POST", "endpoints", {"url": receiver.url}, expect=201)
    await control("POST", "pause")
    await control("POST", "events", {"type": "a.b", "data": {}}, expect=202)
    assert await control("GET", "idle?timeout=0.05", expect=504) == {"idle": False, "outstanding": 1}
    await control("POST", "resume")
    assert await control("GET", "idle") == {"idle": True, "outstanding": 0}


async def test_only_this_machine_commands(clerk: Emulator, control: Control) -> None:
    for headers in ({"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/_emulator/", "/"):
            async with control.session.get(path, headers=headers) as answer:
                assert answer.status == 403
        async with control.session.post("/forms/pause", headers=headers) as answer:
            assert answer.status == 403
    assert clerk.dispatcher.paused is False


async def test_each_form_of_the_page_changes_what_it_says(
    clerk: Emulator, control: Control, receiver: Receiver
) -> None:
    clerk.add_endpoint(receiver.url)

    async def submit(form: str, **values: str) -> str:
        async with control.session.post(f"/forms/{form}", data=values) as answer:
            assert answer.status == 200
            text = await answer.text()
        assert 'role="alert"' not in text, text
        match = re.search(r'role="status">([^<]*)<', text)
        assert match
        return html.unescape(match.group(1))

    user = (await submit("create_user", email_address="ada@example.com", first_name="<Ada>")).split()[0]
    await submit("update_user", user_id=user, last_name="Lovelace")
    organization = (await submit("create_organization", name="Acme")).split()[0]
    await submit("update_organization", organization_id=organization, name="Acme 2")
    place = {"organization_id": organization, "user_id": user}
    await submit("create_membership", **place, role="org:member")
    await submit("update_membership", **place, role="org:admin")
    await submit("delete_membership", **place)
    await submit("delete_organization", organization_id=organization)
    await submit("emit", type="sms.created")
    async with control.session.get("/", params={"q": "ada@example.com"}) as answer:
        page = await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "&lt;Ada&gt; Lovelace" in page
    assert "<Ada>" not in page
    await submit("delete_user", user_id=user)
    await clerk.idle()
    kinds = [f"{kind}.{what}" for kind in ("user", "organization") for what in ("created", "updated", "deleted")]
    kinds += [f"organizationMembership.{what}" for what in ("created", "updated", "deleted")]
    assert sorted(arrival.event["type"] for arrival in receiver.arrivals) == sorted([*kinds, "sms.created"])
    for fault in ("lose", "delay", "duplicate", "reorder", "wrong_signature", "break_connection"):
        await submit(fault, types="user.*", rate="0.5")
    await submit("clock", signature_minutes="-10", event_minutes="0")
    assert len(list(clerk.faults)) == 7
    await submit("lift_fault", fault_id=next(iter(clerk.faults)).id)
    assert len(list(clerk.faults)) == 6


async def test_a_form_that_cannot_be_followed_says_why(control: Control, clerk: Emulator) -> None:
    for form, values in (("create_user", {"email_address": "nonsense"}), ("delete_user", {}), ("lose", {"rate": "x"})):
        async with control.session.post(f"/forms/{form}", data=values) as answer:
            assert 'role="alert"' in await answer.text()


async def test_the_process_says_where_it_listens_and_stops_while_a_delivery_hangs(
    receiver: Receiver, tmp_path: Path
) -> None:
    secret = new_secret(seed=3, number=3)
    (tmp_path / "secret").write_text(secret + "\n")
    (tmp_path / "key").write_text("sk_test_of_this_test\n")
    command = ["-m", "devtools.clerk_emulator", "--users", "30", "--organizations", "2", "--memberships", "20"]
    command += ["--endpoint", receiver.url, "--endpoint-secret-file", str(tmp_path / "secret")]
    command += ["--secret-key-file", str(tmp_path / "key"), "--instance-id", "ins_of_this_test"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        lines = [(await asyncio.wait_for(process.stdout.readline(), timeout=20)).decode() for _ in range(4)]
        assert [line.split()[0] for line in lines] == ["page", "api", "control", "events"]
        assert not any("sk_test" in line or "whsec" in line for line in lines)
        async with aiohttp.ClientSession(lines[0].split()[1]) as session:
            headers = {"Authorization": "Bearer sk_test_of_this_test"}
            async with session.get("/v1/instance", headers=headers) as answer:
                assert (await answer.json())["id"] == "ins_of_this_test"
            receiver.answer("hold")
            async with session.post("/forms/create_user", data={"email_address": "a@example.com"}) as answer:
                assert answer.status == 200
            (arrival,) = await receiver.arrived(1)
            arrival.verify(secret)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), timeout=10) == 0
        assert time.monotonic() - began < 2
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
