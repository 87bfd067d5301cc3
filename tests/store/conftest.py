"""A started database in a temporary directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from loopat_jupyter.store.database import Database


@pytest.fixture(params=["wal", "rollback"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """In both journal modes: local disks, and network file systems."""
    one = Database(tmp_path / "loopat.db", journal=request.param)
    one.start()
    yield one
    one.close()
