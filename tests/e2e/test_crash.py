"""``kill -9`` of the server at random points, seen by a client that writes everything down.

Two servers live beside each other (one core each); each is killed fifteen times while messages
are being posted, turns run tools with a visible side effect, and choices are asked and answered.
After each death the same home is started again and everything that was acknowledged is looked
for. The seed is printed; ``LOOPAT_CRASH_SEED`` sets it.

Every third round talks to the scripted model, in turns of several steps; the others to the demo
agent, which a new server has at hand at once: that is what makes thirty deaths affordable.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import pytest

from tests.support import invariants
from tests.support.caller import Caller, Recorder
from tests.support.mock_model import MockModel, Text, ask, asked, bash
from tests.support.server import JupyterServer, mock_provider
from tests.support.sse import WAIT, Event, StreamEnded

pytestmark = pytest.mark.slow(60)
LIVES = 2
DEATHS = 15
LOOPS = 2
MESSAGES = 3
SCRIPTED_EVERY = 3
LATEST_DEATH = 40
"""Acknowledgements and events of a round after which the server is killed at the latest."""


@dataclass
class Job:
    """One message of a round: what it does, and what its client was told.

    ``lines`` is what the turn appends to the file ``ran`` when it gets to its end.
    """

    name: str
    kind: str
    loop_id: str
    content: str
    lines: list[str]
    answers_at_once: bool
    acknowledged: bool = False
    answer_accepted: bool = False
    waits: bool = False
    over: bool = False
    turn_id: str | None = None
    seen: list[Event] = field(default_factory=list)

    @property
    def mode(self) -> str:
        return "default" if self.kind == "permission" else "auto"


class Life:
    """One server, its loops, and everything its client was ever told."""

    def __init__(self, server: JupyterServer, model: MockModel, seed: int) -> None:
        self.server = server
        self.model = model
        self.random = random.Random(seed)
        self.recorder = Recorder()
        self.jobs: list[Job] = []
        self.loops: list[str] = []
        self.known: dict[str, list[Event]] = {}
        self.written_down = 0
        self.death_at = 0
        self.news = asyncio.Condition()

    def caller(self) -> Caller:
        return Caller(self.server, self.recorder, headers=self.server.session)

    async def live(self) -> None:
        async with self.caller() as api:
            self.loops = [await api.loop() for _ in range(LOOPS)]
        for number in range(DEATHS):
            await self.one_round(number)

    # ------------------------------------------------------------------ a round

    async def one_round(self, number: int) -> None:
        if number % SCRIPTED_EVERY == 0:
            self.server.configure_model(mock_provider(self.model.url))
        else:
            (self.server.home / "config.json").unlink(missing_ok=True)
        jobs = [self.new_job(number, n) for n in range(LOOPS * MESSAGES)]
        self.jobs += jobs
        self.written_down, self.death_at = 0, self.random.randint(0, LATEST_DEATH)
        async with self.caller() as api:
            deliveries = [asyncio.ensure_future(self.deliver(api, job)) for job in jobs]
            await self.die(jobs, deliveries)
            await asyncio.gather(*deliveries)
        await asyncio.to_thread(self.server.start)
        await self.look_for_everything(jobs)

    def new_job(self, number: int, n: int) -> Job:
        name = f"r{number}m{n}-{secrets.token_hex(3)}"
        kind = self.random.choice(["work", "work", "permission", "question"])
        write = self.for_the_model if number % SCRIPTED_EVERY == 0 else self.for_the_demo
        content, lines = write(name, kind)
        return Job(name, kind, self.loops[n % LOOPS], content, lines, self.random.random() < 0.6)

    def for_the_model(self, name: str, kind: str) -> tuple[str, list[str]]:
        """A message for the scripted model, and the lines that its turn writes."""
        first = [Text("one "), Text("two "), bash(f"echo {name} a >> ran")]
        second = [Text("three "), bash(f"echo {name} b >> ran")]
        between = [[ask(asked("Go on?", "Yes", "No"))]] if kind == "question" else []
        script = self.model.script(first, *between, second, [Text("four "), Text("five")])
        return script.message(name), [f"{name} a", f"{name} b"]

    @staticmethod
    def for_the_demo(name: str, kind: str) -> tuple[str, list[str]]:
        """The same for the demo agent."""
        if kind == "question":
            return f"ask Go on with {name}? | Yes | No", []
        command = f"!echo {name} a >> ran; echo {name} b >> ran"
        return command, [f"{name} a", f"{name} b"]

    async def die(self, jobs: list[Job], deliveries: list[asyncio.Future[None]]) -> None:
        """Kill the server once enough was written down, or everything there was."""

        async def enough() -> None:
            async with self.news:
                await self.news.wait_for(
                    lambda: self.written_down >= self.death_at or self.is_quiet(jobs)
                )

        waiting = asyncio.ensure_future(enough())
        everything = asyncio.gather(*deliveries)
        quiet = self.random.uniform(0, 0.03)
        await asyncio.wait([waiting, everything], return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(quiet)  # the point itself is random, not only its place in the events
        await asyncio.to_thread(self.server.kill)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await everything

    @staticmethod
    def is_quiet(jobs: list[Job]) -> bool:
        """Whether nothing will happen any more: each loop waits for an answer, or has ended."""
        by_loop: dict[str, list[Job]] = {}
        for job in jobs:
            by_loop.setdefault(job.loop_id, []).append(job)
        return all(
            any(job.waits for job in own) or all(job.over for job in own)
            for own in by_loop.values()
        )

    async def write_down(self, job: Job, event: Event | None = None) -> None:
        async with self.news:
            if event is None:
                job.acknowledged = True
            elif event.seq is not None:
                job.seen.append(event)
                job.turn_id = event.data["turn_id"]
                job.over = event.terminal
                job.waits |= event.name == "requires_choice" and not job.answers_at_once
            self.written_down += 1
            self.news.notify_all()

    async def deliver(self, api: Caller, job: Job) -> None:
        """Post the message, read its stream, answer its choice or not; until the server dies."""
        try:
            async with api.send(job.loop_id, job.content, mode=job.mode, key=job.name) as stream:
                stream.may_be_cut = True
                await self.write_down(job)
                while True:
                    event = await stream.next()
                    await self.write_down(job, event)
                    if event.name == "requires_choice" and job.answers_at_once:
                        answer = await self.answer(api, job.loop_id, event)
                        job.answer_accepted |= answer.status_code == 202
        except (StreamEnded, httpx.TransportError):
            return

    @staticmethod
    async def answer(api: Caller, loop_id: str, choice: Event) -> httpx.Response:
        given: dict[str, object] = {"allow": True}
        if choice.data["kind"] == "question":
            questions = choice.data["payload"]["questions"]
            given = {"answers": {question["id"]: "Yes" for question in questions}}
        return await api.choose(loop_id, choice.data["choice_id"], **given)

    # ------------------------------------------------------------------ the morning after

    async def look_for_everything(self, jobs: list[Job]) -> None:
        async with self.caller() as api, asyncio.timeout(2 * WAIT):
            for loop_id in self.loops:
                await self.finish(api, loop_id)
            for job in jobs:
                await self.post_again(api, job)
            for loop_id in self.loops:
                await self.check_loop(api, loop_id)
        for stream in self.recorder.streams:
            invariants.check_stream(stream)
        self.recorder.streams.clear()

    async def finish(self, api: Caller, loop_id: str) -> None:
        """Answer what is still asked, until every accepted turn has ended. Not stuck: it ends."""
        known = self.known.setdefault(loop_id, [])
        turns = (await api.state(loop_id))["turn_count"]
        ended = sum(event.terminal for event in known)
        async with api.watch(loop_id, after_seq=len(known)) as watching:
            while ended < turns:
                event = await watching.event()
                ended += event.terminal
                if event.name != "requires_choice":
                    continue
                current = (await api.state(loop_id))["current_turn"]
                if current and current["pending_choice_id"] == event.data["choice_id"]:
                    answer = await self.answer(api, loop_id, event)
                    assert answer.status_code == 202, answer.text
        state = await api.state(loop_id)
        assert (state["busy"], state["queue_depth"], state["current_turn"]) == (False, 0, None)

    async def post_again(self, api: Caller, job: Job) -> None:
        """The same key again: the acknowledged turn itself, or the one that was never accepted."""
        async with api.send(job.loop_id, job.content, mode=job.mode, key=job.name) as stream:
            while not (stream.content and stream.content[-1].terminal):
                event = await stream.event()
                if event.name == "requires_choice" and not job.acknowledged:
                    await self.answer(api, job.loop_id, event)
            await stream.rest()
        turn_id = stream.stored[0].data["turn_id"]
        assert job.turn_id in {None, turn_id}, f"{job.name} became another turn"
        job.turn_id = turn_id
        assert stream.stored[: len(job.seen)] == job.seen, f"{job.name} tells another story"

    async def check_loop(self, api: Caller, loop_id: str) -> None:
        log = await api.log(loop_id)
        invariants.check_log(log)
        known = self.known[loop_id]
        assert log[: len(known)] == known, "what was stored before has changed"
        self.known[loop_id] = log
        rows = await api.history(loop_id)
        invariants.check_history(rows, log)
        jobs = [job for job in self.jobs if job.loop_id == loop_id]
        accepted = Counter(row["content"] for row in rows if row["role"] == "user")
        assert accepted == Counter(job.content for job in jobs), "lost, or accepted twice"
        turns = invariants.by_turn(log)
        ran = self.server.workdir(loop_id) / "ran"
        lines = Counter(ran.read_text().splitlines() if ran.exists() else [])
        for job in jobs:
            assert job.turn_id is not None
            self.check_job(job, turns[job.turn_id], lines)
        for stream in self.recorder.streams:
            if stream.loop_id == loop_id:
                invariants.check_against_log(stream, log)

    @staticmethod
    def check_job(job: Job, events: list[Event], lines: Counter[str]) -> None:
        times = [lines[line] for line in job.lines]
        assert max(times, default=0) <= 1, f"{job.name} ran twice: {times}"
        done = events[-1].name == "done"
        restarted = events[-1].data.get("code") == "server_restarted"
        assert done or restarted, f"{job.name} ended with {events[-1]}"
        if done:
            results = [e.data["ok"] for e in events if e.name == "tool_result"]
            assert results == [True] * len(results), (job.name, results)
            assert times == [1] * len(times), f"{job.name} is done, and ran {times}"
        if job.answer_accepted:
            outcomes = [e.data["outcome"] for e in events if e.name == "choice_resolved"]
            assert {"allowed", "answered"} & set(outcomes), f"{job.name}: an answer was lost"


async def test_nothing_is_lost_or_run_twice_when_the_server_dies_at_random_points(
    new_server: Callable[..., JupyterServer], model: MockModel
) -> None:
    seed = int(os.environ.get("LOOPAT_CRASH_SEED") or secrets.randbits(32))
    print(f"LOOPAT_CRASH_SEED={seed}")
    servers = [new_server(f"life{n}") for n in range(LIVES)]
    for server in servers:
        server.spawn()
    for server in servers:
        server.wait_ready()
    async with asyncio.TaskGroup() as group:
        for n, server in enumerate(servers):
            group.create_task(Life(server, model, seed + n).live())


async def test_a_choice_outlives_eviction_and_then_kill_9(
    new_server: Callable[..., JupyterServer], model: MockModel
) -> None:
    script = model.script(
        [bash("echo before > file")],
        [bash("cat file > after"), ask(asked("Which?", "A", "B"))],
        [bash("echo end >> after")],
        [Text("done")],
    )
    short = ["--LoopatExtension.sandbox_idle_timeout=0.1", "--LoopatExtension.ping_interval=0.2"]
    server = new_server(options=short).start()
    recorder = Recorder()
    async with Caller(server, recorder, headers=server.session) as api:
        loop_id = await api.loop()
        async with api.send(loop_id, script.message(), mode="default", key="one") as stream:
            stream.may_be_cut = True
            for _ in range(2):
                required = (await stream.until("requires_choice")).data
                if required["payload"]["input"]["command"].startswith("echo before"):
                    await api.choose(loop_id, required["choice_id"], allow=True)
            for _ in range(5):  # longer than the idle timeout: the sandbox is evicted
                await stream.until("ping")
            await asyncio.to_thread(server.restart)
    async with (
        Caller(server, recorder, headers=server.session) as api,
        api.send(loop_id, script.message(), mode="default", key="one") as stream,
    ):
        while True:
            event = await stream.until("requires_choice", "choice_resolved", "done")
            if event.name == "done":
                break
            state = (await api.state(loop_id))["current_turn"]
            if event.name != "requires_choice" or state is None:
                continue
            if state["pending_choice_id"] == event.data["choice_id"]:
                given = {"answers": {"Which?": "B"}} if event.data["kind"] == "question" else {
                    "allow": True
                }  # fmt: skip
                answer = await api.choose(loop_id, event.data["choice_id"], **given)
                assert answer.status_code == 202, answer.text
    assert (server.workdir(loop_id) / "after").read_text() == "before\nend\n"
    await recorder.settle()
