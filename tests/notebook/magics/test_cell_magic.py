"""``%%loop`` in a kernel of a real server: sent, shown, stored, refused."""

from __future__ import annotations

import json

from loopat_jupyter.client import Client
from tests.support.frontend import FrontEnd

TRANSCRIPT = "application/vnd.loopat.transcript+json"


def test_a_cell_is_a_turn_whose_transcript_stays_in_the_output(notebook: FrontEnd, client: Client):
    notebook.run("%loop new shown")
    ran = notebook.run("%%loop --var answer\n!echo one; echo two")
    assert ran.status == "ok"
    (data,) = ran.data
    assert "Bash" in data["text/markdown"]
    assert "one\ntwo" in data["text/markdown"]
    loop = client.loops.get(data[TRANSCRIPT]["loop_id"])
    assert loop.title == "shown"
    assert loop.refresh().info.turn_count == 1
    kept = notebook.run("print(answer.status, [c.tool for c in answer.tool_calls])")
    assert kept.stdout == "done ['Bash']\n"


def test_output_streams_at_most_twenty_times_a_second_and_ends_complete(notebook: FrontEnd):
    notebook.run("%loop new streamed")
    ran = notebook.run("%%loop\ncount 60")
    took = ran.published[-1] - ran.published[0]
    assert len(ran.published) > 5
    # One more for the first, one for the last.
    assert len(ran.published) <= 20 * took + 2
    assert "\n".join(map(str, range(1, 61))) in ran.markdown


def test_without_streaming_there_is_one_output_at_the_end(notebook: FrontEnd):
    notebook.run("%loop new whole")
    ran = notebook.run("%%loop --no-stream\ncount 20")
    assert len(ran.published) == 1
    assert "19\n20" in ran.markdown


def test_a_loop_is_named_by_its_title_or_its_title_as_one_word(notebook: FrontEnd, client: Client):
    wanted = client.loops.create("Deep Analysis, 2nd")
    for name in ('"Deep Analysis, 2nd"', "deep-analysis-2nd", wanted.id):
        ran = notebook.run(f"%%loop --loop {name} --no-stream\nhello")
        assert ran.data[0][TRANSCRIPT]["loop_id"] == wanted.id, ran.stderr


def test_a_name_that_means_nothing_brings_the_nearest(notebook: FrontEnd, client: Client):
    client.loops.create("quicksilver")  # like no other title of these tests, which share a server
    ran = notebook.run("%%loop --loop quiksilver\nhello")
    assert ran.status == "error"
    assert ran.stderr == "UsageError: no loop is called 'quiksilver'. Did you mean 'quicksilver'?\n"


def test_two_loops_of_one_name_are_not_guessed_between(notebook: FrontEnd, client: Client):
    ids = {client.loops.create("twin").id for _ in range(2)}
    ran = notebook.run("%%loop --loop twin\nhello")
    assert "2 loops are called 'twin'" in ran.stderr
    assert all(ident in ran.stderr for ident in ids)


def test_an_archived_loop_is_refused_in_one_sentence(notebook: FrontEnd, client: Client):
    client.loops.create("gone").archive()
    ran = notebook.run("%%loop --loop gone\nhello")
    assert ran.status == "error"
    assert "archived" in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert not ran.data


def test_a_person_s_mistakes_are_one_sentence_and_no_traceback(notebook: FrontEnd):
    for source in (
        "%%loop --bad\nhello",
        "%%loop --mode sudo\nhello",
        "%%loop\n   ",
        '%%loop --loop "unclosed\nhello',
        "%%loop --var 1x\nhello",
        "%%loop --attach nothing_here\nhello",
        "%%loop --interpolate\n{nothing_here}",
        "%loop use",
        "%loop fly",
    ):
        ran = notebook.run(source)
        assert ran.status == "error", source
        assert ran.stderr.startswith("UsageError: "), source
        assert ran.stderr.count("\n") == 1, ran.stderr
        assert not any(output["output_type"] == "error" for output in ran.outputs), source


def test_a_failed_turn_fails_the_cell_and_its_result_is_kept(notebook: FrontEnd, client: Client):
    notebook.run("%loop new failing")
    ran = notebook.run("%%loop --var bad --mode default\n!true")
    assert ran.status == "error"
    assert "waits for a person" in ran.stderr
    kept = notebook.run("print(bad.status, len(bad.choices))")
    assert kept.stdout == "running 1\n"


def test_variables_go_in_only_on_request(notebook: FrontEnd, client: Client):
    loop = client.loops.create("braces")
    notebook.run("city = 'Bern'")
    notebook.run('%%loop -l braces --no-stream\nsay {city} {"a": {}} {{city}}')
    notebook.run(
        '%%loop -l braces --no-stream --interpolate\nsay {city} {"a": {}} {{city}} {city.upper()}'
    )
    said = [message.content for message in loop.history() if message.role == "user"]
    assert said == [
        'say {city} {"a": {}} {{city}}',
        'say Bern {"a": {}} {city} {city.upper()}',
    ]


def test_loops_are_listed_used_looked_at_and_counted(notebook: FrontEnd, client: Client):
    notebook.run("%loop new counted")
    notebook.run("%%loop\n!echo hi")
    other, gone = client.loops.create("Not used yet"), client.loops.create("put away")
    gone.archive()
    listed = notebook.run("%loop list").markdown
    (present,) = [line for line in listed.splitlines() if "→" in line]
    assert "counted" in present
    assert "Not used yet" in listed
    assert "put away" not in listed
    assert "put away" in notebook.run("%loop list --all").markdown
    status = notebook.run("%loop status").markdown
    for row in ("| state | idle |", "| turns | 1 |"):
        assert row in status
    assert "| turns | 0 |" in notebook.run("%loop status not-used-yet").markdown

    counted = next(loop for loop in client.loops.list() if loop.title == "counted")
    usage = list(counted.history())[-1].usage
    assert usage is not None
    cost = notebook.run("%loop cost").markdown
    assert f"| input tokens | {usage.input_tokens:,} |" in cost
    assert f"| output tokens | {usage.output_tokens:,} |" in cost

    notebook.run("%loop use not-used-yet")
    ran = notebook.run("%%loop --no-stream\nhello")
    assert ran.data[0][TRANSCRIPT]["loop_id"] == other.id


def test_no_secret_and_no_address_is_left_in_the_notebook(notebook: FrontEnd):
    notebook.run("%loop new silent")
    notebook.run("%%loop\n!env; pwd")
    notebook.run("%loop status")
    saved = json.dumps(notebook.document())
    server = notebook.server
    for secret in (server.token, f":{server.port}", str(server.directory), str(server.home)):
        assert secret not in saved, secret
