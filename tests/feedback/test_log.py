"""The feedback log: nothing half, nothing lost, nothing altered unnoticed, whoever writes at once."""

from __future__ import annotations

import multiprocessing
import random
import signal
import sqlite3
import subprocess
import threading
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.errors import UserError
from retrieval_distill.feedback.log import FeedbackLog
from tests.programs import Program

SHOWN = ["a", "b", "c"]


@pytest.fixture
def log(tmp_path):
    with FeedbackLog.open(tmp_path / "new folder" / "feedback.db") as opened:
        yield opened


def search(log, query="sort a list", **options) -> str:
    return log.record_search(**{"query": query, "system": "student", "shown": SHOWN, **options})


def tamper(path, *statements: str) -> None:
    """Change rows as somebody would who does not want it to be noticed."""
    with closing(sqlite3.connect(path)) as database, database:
        for trigger in ("events_stay_as_they_are", "events_are_not_removed"):
            database.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        for statement in statements:
            database.execute(statement)


def test_what_is_recorded_is_read(log):
    first = search(log, session="s1", swapped=2)
    second = search(log, "  SORT a\nlist ", system="bm25", against="student", teams=["first", "second", "neither"])
    page_two = search(log, "größer 🐍", offset=10)
    log.record_click(search_id=first, doc_id="b")
    log.record_click(search_id=first, doc_id="b")
    log.record_click(search_id=page_two, doc_id="c")
    log.record_judgement(search_id=first, doc_id="a", grade=3)
    log.record_judgement(search_id=first, doc_id="a", grade=-1)
    log.record_preference(left=first, right=second, preferred="tie")
    found = log.read()
    one, two, three = (found.searches[id_] for id_ in (first, second, page_two))
    assert (one.clicks, one.judgements, one.session, one.swapped) == ({"b"}, {"a": -1}, "s1", 2)
    assert (two.system, two.against, two.teams, two.clicks) == (
        "bm25",
        "student",
        ("first", "second", "neither"),
        set(),
    )
    assert (three.query, three.rank("c")) == ("größer 🐍", 13)
    assert [(p.left.id, p.right.id, p.preferred) for p in found.preferences] == [(first, second, "tie")]
    told = log.summary()
    assert (told.rows, told.searches, told.queries, told.sessions, told.clicks) == (9, 3, 2, 1, 2)
    assert (told.clicks_by_rank, told.judgements, told.preferences) == ({2: 1, 13: 1}, {-1: 1}, 1)
    assert (told.interleaved, told.swapped, told.systems) == (1, 1, {"student": 2, "bm25": 1})
    assert log.read(rows=3).searches.keys() == found.searches.keys() and not log.read(rows=3).searches[first].clicks


@pytest.fixture(scope="module")
def long_log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "feedback.db"


@settings(max_examples=40)
@given(data=st.data())
def test_any_sequence_is_read_as_it_was_written(data, long_log):
    texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    told: dict[str, tuple] = {}
    with FeedbackLog.open(long_log) as log:
        for _ in range(data.draw(st.integers(1, 4))):
            query, shown = data.draw(texts.filter(str.strip)), data.draw(st.lists(texts, unique=True))
            id_ = log.record_search(query=query, system="s", shown=shown)
            clicks = {doc for doc in shown if data.draw(st.booleans())}
            for doc in clicks:
                log.record_click(search_id=id_, doc_id=doc)
            told[id_] = (query, tuple(shown), clicks)
    with FeedbackLog.open(long_log, create=False) as log:
        found = log.read().searches
        assert {id_: (found[id_].query, found[id_].shown, found[id_].clicks) for id_ in told} == told


WRITER = """
import sys
from retrieval_distill.feedback.log import FeedbackLog
with FeedbackLog.open(sys.argv[1]) as log:
    for number in range(int(sys.argv[2])):
        search = log.record_search(query=f"{sys.argv[3]} {number}", system="s", shown=["a", "b"])
        log.record_click(search_id=search, doc_id="b")
        print(search, flush=True)
"""


def writer(path, count, name) -> Program:
    return Program("-c", WRITER, path, count, name)


def test_processes_and_threads_write_at_once(tmp_path):
    """The file does not exist when they start, so they also make it at once."""
    path = tmp_path / "feedback.db"
    processes = [writer(path, 60, f"process {number}") for number in range(2)]

    def write(number: int) -> None:
        with FeedbackLog.open(path) as log:
            for at in range(60):
                log.record_click(search_id=search(log, f"thread {number} {at}"), doc_id="a")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    acknowledged = {line.strip() for process in processes for line in process.communicate()[0].splitlines()}
    assert [process.returncode for process in processes] == [0, 0]
    with FeedbackLog.open(path, create=False) as log:
        found, events = log.read(), list(log.events())
    assert acknowledged <= found.searches.keys()
    assert len(found.searches) == 240 and all(search.clicks for search in found.searches.values())
    assert [event.id for event in events] == list(range(1, 481))


def test_threads_share_one_log(log):
    def write(number: int) -> None:
        for at in range(50):
            log.record_click(search_id=search(log, f"thread {number} {at}"), doc_id="a")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (log.summary().searches, log.summary().clicks) == (200, 200)


def test_a_kill_leaves_nothing_half_and_loses_nothing_acknowledged(tmp_path):
    path, rng, acknowledged = tmp_path / "feedback.db", random.Random(5), set()
    for attempt in range(4):
        process = writer(path, 100_000, f"attempt {attempt}")
        for _ in range(rng.randint(1, 60)):
            acknowledged.add(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
        acknowledged |= {line.strip() for line in process.communicate()[0].splitlines() if line.endswith("\n")}
        with FeedbackLog.open(path, create=False) as log:
            found = log.read()
        assert acknowledged <= found.searches.keys() and not found.damaged
        assert all(found.searches[id_].clicks == {"b"} for id_ in acknowledged)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("UPDATE events SET body = replace(body, 'sort', 'sore') WHERE id = 3", 3),
        ("UPDATE events SET body = '{' WHERE id = 3", 3),
        ("UPDATE events SET body = x'ff00' WHERE id = 3", 3),
        ("UPDATE events SET time = '2020-01-01T00:00:00.000+00:00' WHERE id = 2", 2),
        ("UPDATE events SET kind = 'judgement' WHERE id = 2", 2),
        ("UPDATE events SET search_id = (SELECT search_id FROM events WHERE id = 3) WHERE id = 2", 2),
        ("UPDATE events SET checksum = 'x' WHERE id = 4", 4),
        ("DELETE FROM events WHERE id = 1", 1),
        ("DELETE FROM events WHERE id = 2", 2),
        ("DELETE FROM events WHERE id = 4", 4),
    ],
)
def test_a_row_that_was_altered_or_removed_is_named(log, statement, row, caplog):
    """Rows: a search, its click, a search, its click."""
    for doc_id in ("a", "b"):
        log.record_click(search_id=search(log), doc_id=doc_id)
    whole = log.read()
    tamper(log.path, statement)
    with pytest.raises(UserError, match=rf"feedback.db: row {row} is (missing|damaged).*on_bad skip"):
        log.read()
    found = log.read("skip")
    assert found.damaged == [row] and found.rows == 4 and log.summary().damaged == (row,)
    assert f"damaged or missing rows {row}" in caplog.text
    assert found.fingerprint != whole.fingerprint
    if row in (1, 3):  # a search, so its click has nowhere to go
        assert (len(found.searches), found.orphans) == (1, 1)
    else:
        assert [bool(s.clicks) for s in found.searches.values()] == [row != 2, row != 4]


def test_two_rows_that_changed_places_are_named(log):
    for _ in range(2):
        search(log)
    tamper(log.path, *(f"UPDATE events SET id = {to} WHERE id = {of}" for of, to in [(1, 9), (2, 1), (9, 2)]))
    assert log.read("skip").damaged[:2] == [1, 2]


def test_pages_that_cannot_be_read_cost_their_rows_alone(tmp_path):
    path = tmp_path / "feedback.db"
    with FeedbackLog.open(path) as log:
        ids = [search(log, f"query {number} {'x' * 400}") for number in range(200)]
    data = bytearray(path.read_bytes())
    at = data.find(b"query 100 ") // 4096 * 4096
    data[at : at + 4096] = bytes(4096)
    path.write_bytes(data)
    with FeedbackLog.open(path, create=False) as log:
        with pytest.raises(UserError, match="row"):
            log.read()
        found = log.read("skip")
    assert 0 < len(found.damaged) < 20 and 101 in found.damaged
    assert set(found.searches) == {id_ for row, id_ in enumerate(ids, 1) if row not in found.damaged}


def test_rows_cannot_be_changed_by_accident(log):
    search(log)
    with closing(sqlite3.connect(log.path)) as database:
        for statement in ("UPDATE events SET time = ''", "DELETE FROM events"):
            with pytest.raises(sqlite3.IntegrityError, match="only grows"):
                database.execute(statement)


def test_the_fingerprint_is_that_of_the_rows(log):
    empty = log.read().fingerprint
    id_ = search(log)
    one = log.read().fingerprint
    log.record_click(search_id=id_, doc_id="a")
    assert len({empty, one, log.read().fingerprint}) == 3
    assert log.read(rows=1).fingerprint == one


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (lambda log, id_: search(log, " \n"), "without words"),
        (lambda log, id_: search(log, "\ud800"), "not valid Unicode"),
        (lambda log, id_: search(log, shown=["a", "a"]), "shown twice"),
        (lambda log, id_: search(log, teams=["first"] * 3), "against"),
        (lambda log, id_: search(log, against="bm25"), "team for each"),
        (lambda log, id_: search(log, against="bm25", teams=["first"]), "team for each"),
        (lambda log, id_: search(log, swapped=1), "rank 1 cannot"),
        (lambda log, id_: search(log, swapped=4), "rank 4 cannot"),
        (lambda log, id_: search(log, swapped=2, offset=10), "after 10"),
        (lambda log, id_: log.record_click(search_id="no", doc_id="a"), "no search 'no'"),
        (lambda log, id_: log.record_click(search_id=id_, doc_id="z"), "did not show document 'z'"),
        (lambda log, id_: log.record_judgement(search_id=id_, doc_id="z", grade=1), "did not show"),
        (lambda log, id_: log.record_judgement(search_id=id_, doc_id="a", grade=4), "grade 4 is not one of -1, 0, 1"),
        (lambda log, id_: log.record_judgement(search_id=id_, doc_id="a", grade=True), "grade True"),
        (lambda log, id_: log.record_preference(left=id_, right="no", preferred="left"), "no search 'no'"),
        (lambda log, id_: log.record_preference(left=id_, right=id_, preferred="left"), "to itself"),
        (lambda log, id_: log.record_preference(left=id_, right="no", preferred="both"), "left, right, tie"),
    ],
)
def test_what_makes_no_sense_is_refused_and_not_recorded(log, record, message):
    id_ = search(log)
    with pytest.raises(UserError, match=message):
        record(log, id_)
    assert len(list(log.events())) == 1


def test_a_file_that_is_no_log_is_refused_and_left_alone(tmp_path):
    text, foreign, folder = tmp_path / "text.db", tmp_path / "foreign.db", tmp_path / "folder.db"
    text.write_text("not a database " * 100)
    with closing(sqlite3.connect(foreign)) as database, database:
        database.execute("CREATE TABLE t (x)")
    folder.mkdir()
    for path, message in ((text, "not an SQLite"), (foreign, "not a feedback log"), (folder, "this is a folder")):
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(UserError, match=rf"{path.name}: .*{message}"):
            FeedbackLog.open(path)
        assert before is None or path.read_bytes() == before
    with pytest.raises(UserError, match="no such feedback log"):
        FeedbackLog.open(tmp_path / "absent.db", create=False)
    assert not (tmp_path / "absent.db").exists()


def test_a_newer_log_is_refused(log):
    tamper(log.path, "PRAGMA user_version = 2")
    with pytest.raises(UserError, match="format 2, this version reads up to 1"):
        FeedbackLog.open(log.path)


def test_a_full_disk_loses_nothing_that_was_recorded(small_disk):
    path, told = small_disk / "feedback.db", []
    filler = small_disk / "filler"
    filler.write_bytes(bytes(60_000))
    with pytest.raises(UserError, match="disk is full"):
        FeedbackLog.open(path)
    assert list(small_disk.iterdir()) == [filler]
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,size=400k", str(small_disk)], check=True)
    with FeedbackLog.open(path) as log:
        with pytest.raises(UserError, match="disk is full"):
            for number in range(10_000):
                told.append(search(log, f"query {number}"))
        assert list(log.read().searches) == told
    with FeedbackLog.open(path, create=False) as log:
        assert list(log.read().searches) == told


def test_a_log_opened_in_a_child_process_is_its_own(log):
    """A server's workers open the log by themselves."""
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_record, args=(log.path,))
    child.start()
    child.join()
    assert child.exitcode == 0 and log.summary().searches == 1


def _record(path) -> None:
    with FeedbackLog.open(path, create=False) as log:
        search(log)
