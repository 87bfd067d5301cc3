"""The model gateway of one egress proxy, alone.

``python -m benchmarks.egress_proxy MODEL_PORT FOLDER`` has the real gateway, provider client, check
of the named model, and audit in a database. It listens on this machine's loopback interface instead
of a sandbox's, prints its port, writes its key to ``FOLDER/key``, and runs until its stdin ends.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from loopat_jupyter.context.config_file import SelectedModel
from loopat_jupyter.engines.gateway.upstream import ModelUpstreamFactory
from loopat_jupyter.loops.ports.network import Egress
from loopat_jupyter.sandboxes.proxy.server import EgressProxyServer
from loopat_jupyter.store import Store


async def serve(model_port: int, folder: Path) -> None:
    store = Store(folder / "loopat.db")
    store.start(lambda *_: None)
    choice = SelectedModel(
        provider="bench",
        model="mock-1",
        api="openai",
        base_url=f"http://127.0.0.1:{model_port}/v1",
        api_key="the-key-of-the-benchmark",
        models=("mock-1",),
    )
    upstreams = ModelUpstreamFactory()
    proxy = EgressProxyServer(
        "loop_bench", Egress(), store.audit.record, lambda: "2026-01-01T00:00:00Z"
    )
    proxy.start(socket.create_server(("127.0.0.1", 0)))
    access = await proxy.open_model_gateway(await upstreams.upstream(choice))
    (folder / "key").write_text(access.key)
    print(access.url.rpartition(":")[2].partition("/")[0], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await proxy.close()
    await upstreams.close()
    await asyncio.to_thread(store.close)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
