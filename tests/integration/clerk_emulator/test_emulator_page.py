"""The page of the emulator: its lists, what it keeps of a refused form, and the state that outlasts a process."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from devtools.clerk_emulator import Emulator, Settings

SMALL = Settings(users=40, organizations=25, memberships=60, seed=9)
SIZES = {"users": SMALL.users, "organizations": SMALL.organizations}


@pytest_asyncio.fixture
async def clerk() -> AsyncIterator[Emulator]:
    async with Emulator(SMALL) as emulator:
        yield emulator


async def get(clerk: Emulator, path: str) -> str:
    async with aiohttp.ClientSession(clerk.url) as session, session.get(path) as answer:
        assert answer.status == 200
        return await answer.text()


async def post(clerk: Emulator, form: str, **values: str) -> tuple[int, str]:
    async with aiohttp.ClientSession(clerk.url) as session, session.post(f"/forms/{form}", data=values) as answer:
        return answer.status, await answer.text()


def live(page: str, name: str) -> str:
    """The part of the page that refreshes itself under this name."""
    found = re.search(rf'data-live="{name}">(.*?)</section>', page, re.DOTALL)
    assert found
    return found[1]


async def test_an_event_names_its_object(clerk: Emulator) -> None:
    user = clerk.changes.users.create({"email_address": ["ada@example.com"]})
    clerk.emit("user.created", {"id": 7})
    events = live(await get(clerk, "/"), "events")
    assert f"user.created<br><code>{user.id}</code>" in events
    assert "user.created<br><code>no id</code>" in events


async def test_organizations_are_listed_searched_and_edited(clerk: Emulator) -> None:
    newest = clerk.state.organizations.page(offset=0, limit=1)[0]
    page = await get(clerk, "/")
    assert newest.id in live(page, "organizations")
    found = live(await get(clerk, f"/?qo={newest.slug}"), "organizations")
    assert re.findall(r"org_\w{27}(?=</code>)", found) == [newest.id]
    edited = await get(clerk, f"/?organization={newest.id}")
    assert re.search(rf'name="organization_id"[^>]*value="{newest.id}"', edited)
    assert re.search(r"<details open>\s*<summary>Update an organization", edited)


@pytest.mark.parametrize(("part", "prefix"), [("users", "user_"), ("organizations", "org_")])
async def test_every_object_is_reached_by_the_links_to_the_next_page(clerk: Emulator, part: str, prefix: str) -> None:
    seen: list[str] = []
    path = "/"
    while path:
        shown = live(await get(clerk, path), part)
        seen += re.findall(rf"<code class=\"soft\">({prefix}\w{{27}})</code>", shown)
        link = re.search(r'<a href="([^"]+)">older</a>', shown)
        path = link[1].replace("&amp;", "&") if link else ""
    assert len(seen) == len(set(seen)) == SIZES[part]


async def test_a_refused_form_keeps_what_was_typed_and_says_why(clerk: Emulator) -> None:
    taken = clerk.changes.users.create({"email_address": ["ada@example.com"]})
    status, page = await post(clerk, "create_user", email_address="ada@example.com", first_name="<Ada> B")
    assert status == 422
    assert 'role="alert"' in page
    assert re.search(r'name="email_address"[^>]*value="ada@example.com"', page)
    assert re.search(r'name="first_name"[^>]*value="&lt;Ada&gt; B"', page)
    assert re.search(r"<details open>\s*<summary>Create a user", page)
    status, page = await post(clerk, "create_membership", user_id=taken.id, organization_id="org_no", role="org:admin")
    assert status == 422
    assert "<option selected>org:admin</option>" in page


async def test_a_fault_for_a_type_that_does_not_exist_is_refused(clerk: Emulator) -> None:
    status, page = await post(clerk, "lose", types="users.*", rate="1", next="3")
    assert status == 422
    assert "no event has the type &#39;users.*&#39;" in page
    assert re.search(r'name="types"[^>]*value="users\.\*"', page)
    async with aiohttp.ClientSession(clerk.url) as session:
        for types, expected in (("users.*", 400), ("user.nope", 400), ("user.*", 201), ("*.deleted", 201)):
            async with session.post("/_emulator/faults", json={"kind": "lose", "types": types}) as answer:
                assert answer.status == expected, types
    assert len(list(clerk.faults)) == 2


async def test_a_script_of_the_page_alone_may_run_and_it_refreshes_the_lists(clerk: Emulator) -> None:
    async with aiohttp.ClientSession(clerk.url) as session, session.get("/") as answer:
        page, policy = await answer.text(), answer.headers["Content-Security-Policy"]
    (nonce,) = re.findall(r'<script nonce="([^"]+)">', page)
    assert f"script-src 'nonce-{nonce}'" in policy
    assert "unsafe-inline'; script" in policy
    assert {"users", "organizations", "events", "endpoints", "faults", "sizes"} == set(
        re.findall(r'data-live="(\w+)"', page)
    )


async def test_what_changed_is_there_again_in_the_next_emulator(tmp_path: Path) -> None:
    settings = replace(SMALL, state_file=tmp_path / "state.json")
    async with Emulator(settings) as first:
        changes = first.changes
        ada = changes.users.create({"email_address": ["ada@example.com"], "public_metadata": {"plan": "pro"}})
        acme = changes.organizations.create({"name": "Acme", "created_by": ada.id})
        renamed, deleted = first.state.users.page(offset=5, limit=2)
        changes.users.update(renamed.id, {"first_name": "Renamed"})
        changes.users.delete(deleted.id)
        before = shown(first)
    assert settings.state_file is not None
    assert settings.state_file.stat().st_mode & 0o777 == 0o600
    async with Emulator(settings) as second:
        assert shown(second) == before
        assert second.state.user_with("email_address", "ada@example.com") == ada
        assert [one.user_id for one in second.state.members_of(acme.id)] == [ada.id]
        with pytest.raises(Exception, match="taken"):
            second.changes.users.create({"email_address": ["ada@example.com"]})
        later = second.changes.users.create({"email_address": ["grace@example.com"]})
        second.changes.organizations.delete(acme.id)
        before = shown(second)
    async with Emulator(settings) as third:
        assert shown(third) == before
        assert later.id in third.state.users
        assert acme.id not in third.state.organizations


async def test_a_state_file_of_another_seed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    async with Emulator(replace(SMALL, state_file=file)):
        pass
    with pytest.raises(ValueError, match="another version or seed"):
        Emulator(replace(SMALL, seed=10, state_file=file))
    file.write_text("{}")
    with pytest.raises(ValueError, match="is no state of an emulator"):
        Emulator(replace(SMALL, state_file=file))


def shown(clerk: Emulator) -> dict[str, list[object]]:
    state = clerk.state
    return {
        "users": list(state.users),
        "organizations": list(state.organizations),
        "memberships": list(state.memberships),
    }
