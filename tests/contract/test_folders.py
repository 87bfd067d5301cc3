"""Folders of the Jupyter server's root inside a loop's workdir."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import Caller, expect
from tests.support.mock_model import MockModel, Text, bash
from tests.support.server import JupyterServer


@pytest.fixture
def data(server: JupyterServer) -> Path:
    """``project/data`` under the server's root, with a file in it."""
    folder = server.root / "project" / "data"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.txt").write_text("from the notebook's folder\n")
    (folder / "in.txt").chmod(0o644)
    return folder


async def run(caller: Caller, model: MockModel, loop_id: str, command: str) -> str:
    """What a Bash call in the loop put out."""
    script = model.script([bash(command)], [Text("ok")])
    events = await caller.turn(loop_id, script.message(), mode="bypassPermissions")
    assert events[-1].name == "done", events[-1]
    return script.requests[1].tool_results()[-1]


async def test_a_folder_appears_read_only_under_its_last_name(
    session: Caller, model: MockModel, data: Path
) -> None:
    loop = await session.create(folders=[{"path": "project/data", "write": False}])
    assert loop["folders"] == [{"path": "project/data", "write": False}]
    assert (await session.state(loop["id"]))["folders"] == loop["folders"]
    assert "from the notebook's folder" in await run(session, model, loop["id"], "cat data/in.txt")
    refused = await run(session, model, loop["id"], "echo x > data/new.txt; ls data")
    assert "Read-only file system" in refused
    assert not (data / "new.txt").exists()


async def test_a_folder_with_write_is_written_through(
    session: Caller, model: MockModel, data: Path
) -> None:
    loop_id = await session.loop(folders=[{"path": "project/data", "write": True}])
    await run(session, model, loop_id, "echo made inside > data/out.txt")
    assert (data / "out.txt").read_text() == "made inside\n"


async def test_write_is_false_when_it_is_absent(session: Caller, data: Path) -> None:
    answer = await session.post("/loops", json={"folders": [{"path": "project/data"}]})
    assert answer.status_code in {201, 400}
    if answer.status_code == 201:
        assert answer.json()["folders"] == [{"path": "project/data", "write": False}]
        await session.delete(f"/loops/{answer.json()['id']}")


@pytest.mark.parametrize(
    "path",
    ["no/such", "..", "../", "project/../../..", "/etc", "project/data/in.txt", "", "a\x00b"],
)
async def test_a_path_that_is_missing_or_leaves_the_root_is_invalid_parameter(
    session: Caller, data: Path, path: str
) -> None:
    body = {"folders": [{"path": path, "write": False}]}
    expect(await session.post("/loops", json=body), 400, "invalid_parameter")


async def test_no_symlink_is_followed_out_of_the_root(
    session: Caller, data: Path, server: JupyterServer
) -> None:
    outside = server.directory / "outside" / "inner"
    outside.mkdir(parents=True, exist_ok=True)
    for name, target in (("exit", outside), ("home", server.home)):
        link = server.root / "project" / name
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    link = server.root / "through"
    link.unlink(missing_ok=True)
    link.symlink_to(outside.parent)
    for path in ("project/exit", "project/home", "through/inner"):
        body = {"folders": [{"path": path, "write": False}]}
        expect(await session.post("/loops", json=body), 400, "invalid_parameter")


async def test_two_folders_cannot_take_the_same_place(
    session: Caller, data: Path, server: JupyterServer
) -> None:
    (server.root / "other" / "data").mkdir(parents=True, exist_ok=True)
    folders = [{"path": p, "write": False} for p in ("project/data", "other/data")]
    expect(await session.post("/loops", json={"folders": folders}), 400, "invalid_parameter")


@pytest.mark.parametrize("path", ["project/data", "no/such"])
async def test_a_program_may_not_give_folders(api: Caller, data: Path, path: str) -> None:
    body: dict[str, Any] = {"folders": [{"path": path, "write": False}]}
    expect(await api.post("/loops", json=body), 403, "forbidden")


async def test_a_browser_may_give_folders(browser: Caller, data: Path) -> None:
    loop = await browser.create(folders=[{"path": "project/data", "write": False}])
    assert loop["folders"]
