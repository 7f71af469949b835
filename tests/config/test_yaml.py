"""YAML as people mean it: plain numbers and words, no key twice, and a clear message for everything odd."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.config import load_recipe, load_values, parse_recipe, shipped
from retrieval_distill.config.plain_yaml import load
from retrieval_distill.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10), ("-7", -7), ("1_000", 1000), ("0x1F", 31), ("0o17", 15), ("1e-3", 0.001), ("5e4", 50_000.0),
        (".5", 0.5), ("1.", 1.0), ("true", True), ("False", False), ("off", "off"), ("no", "no"), ("1:30", "1:30"),
        ("2020-01-01", "2020-01-01"), ("2020-99-99", "2020-99-99"), ("'010'", "010"), ("null", None), ("~", None),
        ("", None), ("[a, 1]", ["a", 1]), ("{a: 1}", {"a": 1}), ("a: &x 1\nb: *x", {"a": 1, "b": 1}),
        ("a: &x {k: 1}\nb: {<<: *x, k: 2}", {"a": {"k": 1}, "b": {"k": 2}}),
    ],
)  # fmt: skip
def test_what_words_mean(text, value):
    found = load(text, "here")
    assert found == value and type(found) is type(value)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the key 'a' is there twice, first on line 1"),
        ("x:\n  b: 1\n  b: 1", "line 3, column 3: the key 'b' is there twice, first on line 2"),
        ("{a: 1, a: 1}", "the key 'a' is there twice"),
        ("x: !!int z", "line 1, column 4: 'z' is no int"),
        ("x: !!float z", "'z' is no float"),
        (r'x: "\ud800"', "is no str"),
        ("x: !!timestamp z", "could not determine a constructor"),
        ("x: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("x: " + "9" * 5000, "is no int"),
        ("[" * 2000, "more than 40 values within each other"),
        ("[" * 2000 + "]" * 2000, "more than 40 values within each other"),
        ("- " * 2000, "more than 40 values within each other"),
        ("{a: " * 2000, "more than 40 values within each other"),
        (LAUGHS, "more than 100,000 values"),
        ("a: &x [*x]", "or one that refers to itself"),
        ("a: *nobody", "undefined alias"),
        ("a: [x", r"line 1, column 6: expected ',' or ']'"),
        ("a: \0", "unacceptable character"),
        ("a" * (1 << 21), "more than 1,048,576 characters"),
        ("---\na: 1\n---\nb: 1", "another document"),
    ],
)  # fmt: skip
def test_what_is_refused(text, message):
    with pytest.raises(UserError, match=f"^here: not valid YAML.*{message}"):
        load(text, "here")


texts = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")) | st.just(" "))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_json_is_read_as_it_is(value):
    assert load(json.dumps(value, ensure_ascii=False), "here") == value


@given(st.text("[]{}:,-&*!|>'\"%@`#~?= \n\tab01.", max_size=40))
def test_nothing_else_than_a_message_comes_out(text):
    try:
        load(text, "here")
    except UserError as error:
        assert str(error).startswith("here: ")


@pytest.mark.parametrize("path", shipped().values(), ids=shipped())
def test_a_shipped_recipe_means_the_same_to_other_programs(path):
    assert load_values(path) == yaml.safe_load(path.read_text())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_files_in_any_unicode(tmp_path, encoding):
    path = tmp_path / "x.yaml"
    path.write_text("name: café\nseed: 010\n", encoding=encoding)
    recipe = load_recipe(path)
    assert (recipe.name, recipe.seed) == ("café", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: café".encode("cp1252"), "byte 0xe9 at position 9 .* not utf-8; save it as UTF-8"),
        (b"\xff\xfe\x00", "is not utf-8"),
        (b"[]", "expected a mapping"),
        (b"false", "expected a mapping"),
        (b"0", "expected a mapping"),
        (b"1: x", "expected a mapping of keys"),
        (b"name: x\ntraining: {1: x}", "training.1"),
        (b"name: x\ntraining: {learning_rate: .inf}", "training.learning_rate: .*finite number"),
        (b"name: 2020-99-99\nseed: 2020-99-99", "seed: .*valid integer"),
        (b"name: [x]", "name: .*valid string"),
        (b"name: x\nobjectives: [x]", "objectives: .*dictionary"),
        (b"name: x\nevaluate: {measures: x}", "evaluate.measures"),
    ],
)
def test_files_that_are_no_recipe(tmp_path, content, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"x\.yaml: .*{message}"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "prompt"),
    [
        ("student.query_prompt=query: ", "query: "),
        ("student.query_prompt=Represent this: ", "Represent this: "),
        ("student.query_prompt=[query] ", "[query] "),
        ("student.query_prompt='query: '", "query: "),
        ('student.query_prompt="010"', "010"),
        ("student.query_prompt=010", "010"),
        ("student.query_prompt=null", None),
        ("student.query_prompt=", None),
        ("student.query_prompt=''", ""),
    ],
)
def test_a_text_is_taken_as_it_is_written(override, prompt):
    assert load_recipe("demo", [override]).student.query_prompt == prompt


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.stepz=3", "^--set 'training.stepz=3': key 'training.stepz' does not exist; did you mean 'steps'"),
        ("trainig.steps=3", "^--set 'trainig.steps=3': key 'trainig' does not exist; did you mean 'training'"),
        ("training.steps=many", "^--set 'training.steps=many': training.steps: .*integer"),
        ("training.steps=0", "^--set 'training.steps=0': training.steps: .*greater than or equal to 1"),
        ("student=tiny", "^--set 'student=tiny': student: "),
        ("training.steps=[", r"^--set 'training.steps=\[': not valid YAML"),
        ("teacher.llm.endpont=x", "^--set 'teacher.llm.endpont=x': key 'teacher.llm.endpont' does not exist"),
        ("objectives={a: 1, a: 2}", "the key 'a' is there twice"),
        ("seed", "write it as key=value"),
        ("name.x=1", "'name' is not a section"),
    ],
)
def test_a_mistake_in_an_option_names_the_option(override, message):
    with pytest.raises(UserError, match=message):
        load_recipe("demo", [override])


def test_a_mistake_in_the_file_names_the_file(tmp_path):
    (tmp_path / "x.yaml").write_text("training: {stepz: 3}")
    with pytest.raises(UserError, match=r"x\.yaml: key 'training\.stepz' does not exist"):
        load_recipe(tmp_path / "x.yaml", ["training.steps=3", "seed=4"])


def test_a_callers_values_stay_as_they_are():
    values = {"name": "x", "training": {"steps": 3}}
    parse_recipe(values)
    assert values == {"name": "x", "training": {"steps": 3}}
