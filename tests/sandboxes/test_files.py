"""File operations inside: what they answer, and that a confined write stays in the workdir."""

from __future__ import annotations

import asyncio
import itertools
import os
import secrets

import pytest

from loopat_jupyter.loops.ports.sandbox import FileError
from tests.sandboxes.conftest import LoopatHome, Started, inside

pytestmark = pytest.mark.slow(15)


async def test_write_read_and_edit(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        place = f"{sandbox.workdir}/a/b.txt"
        made = await sandbox.file("write", path="a/b.txt", text="one\ntwo\nthree\n")
        assert made == {"created": True, "bytes": 14, "path": place}
        assert not (await sandbox.file("write", path=place, text="one\ntwo\n"))["created"]
        assert await sandbox.file("read", path="a/b.txt", offset=2) == {
            "lines": ["two"],
            "start": 2,
            "total_lines": 2,
            "truncated": False,
        }
        edited = await sandbox.file("edit", path="a/b.txt", old="two", new="2", confined=True)
        assert edited == {"replacements": 1, "path": place}
        assert await inside(sandbox, "cat a/b.txt") == "one\n2\n"


async def test_a_file_keeps_its_mode(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, "echo old > run.sh; chmod 750 run.sh")
        await sandbox.file("edit", path="run.sh", old="old", new="new")
        assert await inside(sandbox, "stat -c %a run.sh; cat run.sh; ls -A") == (
            "750\nnew\nrun.sh\n"
        )


FAILURES: list[tuple[str, dict[str, object], str]] = [
    ("read", {"path": "missing"}, "missing: No such file or directory"),
    ("read", {"path": "."}, "is a directory"),
    ("read", {"path": "binary"}, "binary file"),
    ("read", {"path": "fifo"}, "not a regular file"),
    ("read", {"path": "a\0b"}, "NUL"),
    ("read", {"path": ""}, "path is needed"),
    ("read", {"path": 7}, "path is needed"),
    ("read", {"nothing": 1}, "argument"),
    ("edit", {"path": "text", "old": "x", "new": "x"}, "the same"),
    ("edit", {"path": "text", "old": "zzz", "new": "x"}, "not found"),
    ("edit", {"path": "text", "old": "a", "new": "x"}, "occurs 2 times"),
    ("edit", {"path": "none/x", "old": "a", "new": "x"}, "No such file"),
    ("write", {"path": "text/below", "text": ""}, "ot a directory|File exists"),
    ("write", {"path": "/proc/x", "text": ""}, "/proc/x"),
    ("grep", {"pattern": "("}, "not a regular expression"),
    ("grep", {"pattern": "x", "path": "missing"}, "missing"),
    ("glob", {"pattern": ""}, "pattern is needed"),
    ("vanish", {}, "no file operation"),
]


async def test_every_failure_is_one_line(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, "echo aa > text; printf 'a\\0b' > binary; mkfifo fifo")
        for operation, args, message in FAILURES:
            with pytest.raises(FileError, match=message) as caught:
                await sandbox.file(operation, **args)
            assert "\n" not in str(caught.value)


async def test_reading_is_bounded(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, "head -c 5000 /dev/zero | tr '\\0' x > long; seq 300000 > many")
        [line] = (await sandbox.file("read", path="long"))["lines"]
        assert line.endswith("[... 3000 more characters]")
        page = await sandbox.file("read", path="many")
        assert (len(page["lines"]), page["total_lines"], page["truncated"]) == (2000, 300000, True)
        whole = await sandbox.file("read", path="many", limit=10**6)
        assert whole["truncated"]
        assert sum(map(len, whole["lines"])) < 256 * 1024


async def test_replace_all(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await sandbox.file("write", path="t", text="a b a")
        done = await sandbox.file("edit", path="t", old="a", new="c", replace_all=True)
        assert done["replacements"] == 2
        assert await inside(sandbox, "cat t") == "c b c"


async def test_glob_finds_the_newest_first(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(
            sandbox,
            "mkdir -p src/deep .git; touch -d 2001-01-01 src/a.py; touch -d 2002-01-01 "
            "src/deep/b.py; touch src/c.txt .git/d.py e.py; ln -s / root",
        )

        async def glob(pattern: str, **args: object) -> list[str]:
            found = await sandbox.file("glob", pattern=pattern, **args)
            return [path.removeprefix(f"{sandbox.workdir}/") for path in found["paths"]]

        assert await glob("**/*.py") == ["e.py", "src/deep/b.py", "src/a.py"]
        assert await glob("*.py") == ["e.py"]
        assert await glob("src/*.{py,txt}") == ["src/c.txt", "src/a.py"]
        assert await glob("[!s]*.py", path="src") == ["src/a.py"]
        assert await glob(f"{sandbox.workdir}/src/*.py") == ["src/a.py"]
        limited = await sandbox.file("glob", pattern="**/*", limit=1)
        assert (len(limited["paths"]), limited["truncated"]) == (1, True)


async def test_grep_in_its_three_modes(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(
            sandbox,
            "mkdir d; printf 'ax\\nb\\nax\\n' > d/one; echo ax > two.py; printf 'ax\\0' > bin",
        )
        place = sandbox.workdir
        found = await sandbox.file("grep", pattern="^a.$")
        assert found == {
            "lines": [f"{place}/two.py", f"{place}/d/one"],
            "truncated": False,
            "unseen": ["1 binary files were passed over."],
        }
        content = await sandbox.file("grep", pattern="ax", path="d", mode="content")
        assert content["lines"] == [f"{place}/d/one:1:ax", f"{place}/d/one:3:ax"]
        count = await sandbox.file("grep", pattern="ax", mode="count", glob="one")
        assert count["lines"] == [f"{place}/d/one:2"]
        assert (await sandbox.file("grep", pattern="ax", glob="*.py"))["lines"] == [
            f"{place}/two.py"
        ]


async def test_an_endless_pattern_is_killed(any_tier: Started, loopat_home: LoopatHome) -> None:
    loopat_home.limit(file_timeout=1)
    async with any_tier() as sandbox:
        await sandbox.file("write", path="t", text="a" * 60 + "b\n")
        with pytest.raises(FileError, match="took too long"):
            await sandbox.file("grep", pattern="(a+)+$")


async def test_resolve_knows_inside_from_outside(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, "ln -s /usr/lib out; ln -s . here")

        async def resolved(path: str) -> tuple[str, bool]:
            answer = await sandbox.file("resolve", path=path)
            return answer["path"], answer["inside_workdir"]

        real = os.path.realpath(sandbox.workdir) if sandbox.workdir != "/workdir" else "/workdir"
        assert await resolved("new/file") == (f"{real}/new/file", True)
        assert await resolved("here/here/x") == (f"{real}/x", True)
        assert (await resolved("out/x"))[1] is False
        assert (await resolved("../x"))[1] is False
        assert (await resolved("~/x"))[0] == f"{sandbox.home}/x"
        assert (await resolved(sandbox.workdir + "x"))[1] is False


async def test_a_confined_write_outside_is_refused(any_tier: Started) -> None:
    tries = [
        (path, *change)
        for path in (f"/tmp/{secrets.token_hex(8)}", "../x", "out/x", "~/x", "file-out")
        for change in (("write", {"text": "b"}), ("edit", {"old": "a", "new": "b"}))
    ]
    async with any_tier() as sandbox:
        await inside(sandbox, "ln -s ~ out; ln -s ~/target file-out; echo a > ~/target")
        for path, operation, args in tries:
            with pytest.raises(FileError, match="outside"):
                await sandbox.file(operation, path=path, confined=True, **args)
        assert await inside(sandbox, "ls ~; cat ~/target") == "target\na\n"


async def test_no_race_leads_a_confined_write_out(any_tier: Started) -> None:
    """A directory swaps between a real one and a link to outside while writes go on."""
    swap = (
        "mkdir -p real ~/victim; ln -sfn ~/victim evil; mv -T real d; touch go; "
        "while [ -e go ]; do mv -T d real; mv -T evil d; mv -T d evil; mv -T real d; done"
    )
    async with any_tier() as sandbox:
        swapping = asyncio.create_task(sandbox.run(swap, timeout=30))
        await inside(sandbox, "until [ -e go ]; do sleep 0.01; done")
        outcomes = set()
        for number in itertools.count():
            try:
                await sandbox.file("write", path=f"d/f{number}", text="x", confined=True)
                outcomes.add("written")
            except FileError:
                outcomes.add("refused")
            if number >= 150 or (number >= 40 and len(outcomes) == 2):
                break
        await inside(sandbox, "rm go")
        await swapping
        assert await inside(sandbox, "ls ~/victim") == ""


async def test_a_file_keeps_its_line_endings_and_its_mark(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, r"printf '\xef\xbb\xbfone\r\ntwo\r\nthree' > dos.txt")
        shown = await sandbox.file("read", path="dos.txt")
        assert shown["lines"] == ["one", "two", "three"]
        await sandbox.file("edit", path="dos.txt", old="one\ntwo", new="1\n2\nand more")
        show = "python3 -c \"print(ascii(open('dos.txt', newline='', encoding='utf-8').read()))\""
        assert await inside(sandbox, show) == "'\\ufeff1\\r\\n2\\r\\nand more\\r\\nthree'\n"
        await sandbox.file("write", path="dos.txt", text="new\nfile\n")
        assert await inside(sandbox, show) == "'\\ufeffnew\\r\\nfile\\r\\n'\n"


async def test_lines_are_counted_as_editors_count_them(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await sandbox.file("write", path="t", text="a\x0cb\u2028c\x85d\nneedle\n")
        shown = await sandbox.file("read", path="t")
        assert shown["lines"] == ["a\x0cb\u2028c\x85d", "needle"]
        found = await sandbox.file("grep", pattern="needle", mode="content")
        assert found["lines"] == [f"{sandbox.workdir}/t:2:needle"]


async def test_utf_16_is_said(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, r"printf '\xff\xfea\0' > wide.txt")
        with pytest.raises(FileError, match="UTF-16"):
            await sandbox.file("read", path="wide.txt")


async def test_a_name_that_differs_in_a_space_alone_is_found(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        name = "Screenshot 9.41\u202fAM.txt"
        await sandbox.file("write", path=name, text="seen\n")
        got = await sandbox.file("read", path="Screenshot 9.41 AM.txt")
        assert got["lines"] == ["seen"]
        assert got["found_as"] == f"{sandbox.workdir}/{name}"
        assert "found_as" not in await sandbox.file("read", path=name)
        await sandbox.file("write", path="Screenshot 9.41\u00a0AM.txt", text="other\n")
        with pytest.raises(FileError, match="No such file"):
            await sandbox.file("read", path="Screenshot 9.41 AM.txt")


async def test_grep_has_the_options_that_models_expect(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        top = sandbox.workdir
        await sandbox.file("write", path="a.py", text="one\nTwo\nthree\nfour\nfive\ntwo\n")
        await sandbox.file("write", path="b.md", text="two\n")

        async def grep(pattern: str, **options: object) -> list[str]:
            return list((await sandbox.file("grep", pattern=pattern, **options))["lines"])

        assert await grep("TWO", ignore_case=True, mode="count") == [
            f"{top}/a.py:2",
            f"{top}/b.md:1",
        ]
        assert await grep("two", type="py") == [f"{top}/a.py"]
        assert await grep("Two", mode="content", before=1, after=1) == [
            f"{top}/a.py-1-one",
            f"{top}/a.py:2:Two",
            f"{top}/a.py-3-three",
        ]
        assert await grep("T?two$|^one", mode="content", after=0, before=1, type="py") == [
            f"{top}/a.py:1:one",
            "--",
            f"{top}/a.py-5-five",
            f"{top}/a.py:6:two",
        ]
        assert await grep("Two.three", mode="content", multiline=True) == [
            f"{top}/a.py:2:Two",
            f"{top}/a.py:3:three",
        ]
        assert await grep("Two.three", mode="content") == []
        with pytest.raises(FileError, match="no file type cobol"):
            await grep("x", type="cobol")


async def test_a_search_says_what_it_did_not_see(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(
            sandbox,
            r"""printf 'a\0needle' > bin
            python3 -c 'open("wide", "w", encoding="utf-16").write("needle")'
            python3 -c 'print("needle" + "x" * 1000)' > long
            head -c 17000000 /dev/zero | tr '\0' ' ' > big""",
        )
        got = await sandbox.file("grep", pattern="needle", mode="content")
        top = sandbox.workdir
        assert [line.split(":")[0] for line in got["lines"]] == [f"{top}/long", f"{top}/wide"]
        said = " ".join(got["unseen"])
        assert "1 binary files" in said
        assert f"{top}/big only the first 16 MiB" in said
        assert "1 lines are cut" in said
        few = await sandbox.file("grep", pattern="needle", mode="content", limit=1)
        assert few["truncated"]


async def test_a_count_counts_all(any_tier: Started) -> None:
    async with any_tier() as sandbox:
        await inside(sandbox, "yes needle | head -5000 > many")
        got = await sandbox.file("grep", pattern="needle", mode="count")
        assert got["lines"] == [f"{sandbox.workdir}/many:5000"]
