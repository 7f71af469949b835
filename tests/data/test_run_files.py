"""What a Run file holds is what is read from it; a file that is cut, damaged or unclear is refused by its place."""

from __future__ import annotations

import signal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from tests import programs

WHITE_SPACE = " \t\n\r\v\f"

any_id = st.text(st.characters(codec="utf-8"), max_size=5)
plain_id = st.text(st.characters(codec="utf-8", exclude_characters=WHITE_SPACE + "\0"), min_size=1, max_size=5)
number = st.floats(allow_nan=False, allow_infinity=False)


def runs(ids: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, dict[str, float]]]:
    return st.dictionaries(ids, st.dictionaries(ids, number, min_size=1, max_size=6), max_size=4)


def round_trip(scores: dict[str, dict[str, float]], path) -> None:
    run = Run.from_dict(scores)
    run.save(path)
    again = Run.load(path)
    assert again.pairs == run.pairs
    np.testing.assert_array_equal(again.frame["score"], run.frame["score"])


@given(runs(any_id))
def test_parquet_holds_any_id_and_score(tmp_path_factory, scores):
    round_trip(scores, tmp_path_factory.mktemp("run") / "x.parquet")


@given(runs(plain_id))
def test_a_trec_run_holds_any_id_without_white_space(tmp_path_factory, scores):
    assume(not any(query.startswith("\ufeff") for query in scores))
    round_trip(scores, tmp_path_factory.mktemp("run") / "x.trec")


@pytest.mark.parametrize("space", ["\u00a0", "\u3000", "\u2028", "\u0085", "\u001c", "\u200b"])
def test_spaces_that_part_no_fields_survive_in_ids(tmp_path, space):
    round_trip({f"q{space}1": {f"d{space}1": 2.0, f"d{space}2": 1.0}}, tmp_path / "x.trec")


@pytest.mark.parametrize("unfit", [f"my{space}id" for space in WHITE_SPACE] + ["", "a\0"])
@pytest.mark.parametrize("where", ["query", "document"])
def test_ids_that_a_trec_run_cannot_hold_are_refused_before_anything_is_written(tmp_path, where, unfit):
    path = tmp_path / "x.trec"
    Run.from_dict({"old": {"d": 1.0}}).save(path)
    before = path.read_bytes()
    scores = {"q": {unfit: 1.0, "d": 2.0}} if where == "document" else {unfit: {"d": 1.0}}
    with pytest.raises(
        UserError, match=rf"x\.trec: a TREC run cannot hold 1 {where} ids like .* write the run as \.parquet"
    ):
        Run.from_dict(scores).save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    round_trip(scores, tmp_path / "x.parquet")


def test_a_tag_with_a_space_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot hold 1 tags like 'my system'"):
        Run.from_dict({"q": {"d": 1.0}}).save(tmp_path / "x.trec", tag="my system")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path, encoding):
    (tmp_path / "x.trec").write_text("q1 Q0 d1 1 2.0 x\nq1 Q0 d2 2 1.0 x\n", encoding=encoding)
    assert Run.load(tmp_path / "x.trec").as_dict() == {"q1": {"d1": 2.0, "d2": 1.0}}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "ranks", [(1, 2, 3), (0, 1, 2), (3, 1, 2), (1, 1, 3), (1, 1, 2), (0, 0, 0), (1, 1, 1), (9, 9, 9)]
)
def test_runs_of_other_programs(tmp_path, end, ranks):
    """Tabs and runs of spaces, no tag, lines in any order; ranks from 0 or 1, with ties, or all the same."""
    lines = [f"q\tQ0  d{place} {rank}\t{place}.5" for place, rank in enumerate(ranks)]
    (tmp_path / "x.trec").write_text("".join(line + end for line in lines), newline="")
    assert Run.load(tmp_path / "x.trec").pairs == [("q", "d2"), ("q", "d1"), ("q", "d0")]


WHOLE = b"".join(b"q%d Q0 d%d %d %.3f me\n" % (query, doc, doc, 1 - doc / 9) for query in (1, 2) for doc in (1, 2, 3))


@pytest.mark.parametrize("size", [size for size in range(1, len(WHOLE)) if WHOLE[size - 1 : size] != b"\n"])
def test_a_run_that_was_cut_within_a_line_is_refused(tmp_path, size):
    (tmp_path / "x.trec").write_bytes(WHOLE[:size])
    with pytest.raises(UserError, match=rf"x\.trec:{WHOLE[:size].count(10) + 1}: the file ends within this line"):
        Run.load(tmp_path / "x.trec")


@pytest.mark.parametrize("lost", [0, 1, 3, 4])
def test_a_run_that_lost_a_line_is_refused(tmp_path, lost):
    lines = WHOLE.splitlines(keepends=True)
    (tmp_path / "x.trec").write_bytes(b"".join(lines[:lost] + lines[lost + 1 :]))
    with pytest.raises(UserError, match=r"x\.trec:\d: query 'q.' has a document of rank .*, but none of rank"):
        Run.load(tmp_path / "x.trec")


LINE = "q1 Q0 d1 1 0.5 me\n"

UNCLEAR = {
    "four fields": ("q1 Q0 d2 0.5\n", "not a TREC run line"),
    "an id with a space": ("q1 Q0 my d2 2 0.5 me\n", "not a TREC run line"),
    "a blank line": ("\n", "not a TREC run line"),
    "a rank in words": ("q1 Q0 d2 two 0.5 me\n", "not a TREC run line"),
    "a score in words": ("q1 Q0 d2 2 high me\n", "not a TREC run line"),
    "a NUL byte": ("q1 Q0 d\0 2 0.5 me\n", "not a TREC run line"),
    "NaN": ("q1 Q0 d2 2 nan me\n", "document 'd2' has the score nan"),
    "infinity": ("q1 Q0 d2 2 -inf me\n", "document 'd2' has the score -inf"),
    "a pair twice": ("q1 Q0 d1 2 0.25 me\n", r"query 'q1', document 'd1' has a second score, 0\.25"),
    "a pair twice alike": (LINE, "has a second score"),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_an_unclear_line_is_named(tmp_path, case):
    line, message = UNCLEAR[case]
    (tmp_path / "bad.trec").write_text(LINE + line)
    with pytest.raises(UserError, match=r"bad\.trec:2: .*" + message):
        Run.load(tmp_path / "bad.trec")


def test_bytes_of_another_encoding_are_named(tmp_path):
    (tmp_path / "bad.trec").write_bytes("q1 Q0 café 1 0.5 me\n".encode("cp1252"))
    with pytest.raises(UserError, match=r"bad\.trec: byte 0xe9 at position 9 .* not utf-8; save it as UTF-8"):
        Run.load(tmp_path / "bad.trec")


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="no such run file"):
        Run.load(tmp_path / "none.trec")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"query_id": ["q", None], "doc_id": ["a", "b"], "score": [1.0, 2.0]}, "1 query id is empty, first in row 2"),
        ({"query_id": ["q", "q"], "doc_id": ["a", None], "score": [1.0, 2.0]}, "1 document id is empty"),
        ({"query_id": [0.5], "doc_id": ["a"], "score": [1.0]}, "must be strings or whole numbers"),
        ({"query_id": ["q"], "doc_id": [["a"]], "score": [1.0]}, "must be strings or whole numbers"),
        ({"query_id": ["q"], "doc_id": ["a"], "score": ["x"]}, "scores must be numbers"),
        ({"query_id": ["q"], "doc_id": ["a"], "score": [["x"]]}, "scores must be numbers"),
        ({"query_id": ["q"], "doc_id": ["a"], "scores": [1.0]}, "a run needs the columns query_id, doc_id, score"),
        ({"query_id": ["q", "q"], "doc_id": ["a", "b"], "score": [1.0, None]}, r"x\.parquet:2: .* the score nan"),
        ({"query_id": ["q", "q"], "doc_id": ["a", "b"], "score": [1.0, np.inf]}, r"x\.parquet:2: .* the score inf"),
        ({"query_id": ["q", "q"], "doc_id": ["a", "a"], "score": [1.0, 2.0]}, r"x\.parquet:2: .* a second score, 2"),
    ],
)
def test_an_unclear_table_is_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=message):
        Run.load(tmp_path / "x.parquet")


def test_whole_numbers_of_a_table_are_ids(tmp_path):
    pq.write_table(pa.table({"query_id": [1, 2], "doc_id": [10, 11], "score": [3, 4]}), tmp_path / "x.parquet")
    assert Run.load(tmp_path / "x.parquet").as_dict() == {"1": {"10": 3.0}, "2": {"11": 4.0}}


def test_a_damaged_table_is_refused_or_unchanged(tmp_path):
    """Bytes altered one by one: the pages have checksums, and the rest of the file is either needed or not."""
    run = Run.from_dict({"q1": {"a": 1.0, "b": 0.5}, "q2": {"c": 2.0}})
    run.save(tmp_path / "x.parquet")
    whole = (tmp_path / "x.parquet").read_bytes()
    refused = 0
    for place in range(0, len(whole), 3):
        (tmp_path / "y.parquet").write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        try:
            assert Run.load(tmp_path / "y.parquet").as_dict() == run.as_dict()
        except UserError as error:
            assert str(error).startswith(str(tmp_path / "y.parquet"))
            refused += 1
    assert refused > 100
    for size in range(0, len(whole), 97):
        (tmp_path / "y.parquet").write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"y\.parquet: not a readable Parquet file"):
            Run.load(tmp_path / "y.parquet")


def test_missing_scores_are_read_where_they_are_allowed(tmp_path):
    run = Run.from_dict({"q": {"a": 1.0, "b": float("nan")}})
    for name in ("x.trec", "x.parquet"):
        run.save(tmp_path / name)
        found = Run.load(tmp_path / name, missing_scores=True)
        assert found.pairs == run.pairs
        np.testing.assert_array_equal(found.frame["score"], run.frame["score"])
        with pytest.raises(UserError, match="document 'b' has the score nan"):
            Run.load(tmp_path / name)
    (tmp_path / "x.trec").write_text("q Q0 a 1 inf me\n")
    with pytest.raises(UserError, match="the score inf"):
        Run.load(tmp_path / "x.trec", missing_scores=True)


KILLED = """
import os, signal, sys
from retrieval_distill.data.run import Run

real, sizes = os.fsync, []

def dying(handle):
    os.kill(os.getpid(), signal.SIGKILL)

os.fsync = dying
Run.from_dict({"q": {f"d{place}": 1.0 / place for place in range(1, 5000)}}).save(sys.argv[1])
"""


@pytest.mark.parametrize("name", ["x.trec", "x.parquet"])
def test_killed_while_it_is_written_the_old_run_stays(tmp_path, name):
    old = Run.from_dict({"q": {"d": 1.0}})
    old.save(tmp_path / name)
    killed = programs.run("-c", KILLED, tmp_path / name)
    assert killed.returncode == -signal.SIGKILL
    assert Run.load(tmp_path / name).as_dict() == old.as_dict()


def test_a_trec_run_without_a_line_is_warned_of(tmp_path, caplog):
    """One that was cut to nothing would otherwise be measured, without a word, as a system that finds nothing."""
    path = tmp_path / "run.trec"
    path.write_text("")
    assert len(Run.load(path)) == 0
    assert "run.trec: this run is empty: nothing was found, or the file is truncated" in caplog.text
