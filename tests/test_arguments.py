import pytest

from airflow_provider_stably.arguments import (
    RunIds,
    env_overrides_as_text,
    is_missing,
    read_run_ids,
    text_or_none,
)


@pytest.mark.parametrize(
    ("value", "read"),
    [
        pytest.param(None, RunIds(), id="None"),
        pytest.param("", RunIds(), id="empty text"),
        pytest.param([], RunIds(), id="empty list"),
        pytest.param("[]", RunIds(), id="rendered empty list"),
        pytest.param("a1", RunIds(("a1",)), id="one"),
        pytest.param(" a1\n", RunIds(("a1",)), id="blanks around"),
        pytest.param(["a", "b", "a"], RunIds(("a", "b")), id="each once, in order"),
        pytest.param(("a", "b"), RunIds(("a", "b")), id="tuple"),
        pytest.param((x for x in "ab"), RunIds(("a", "b")), id="lazy"),
        pytest.param("['a', 'b']", RunIds(("a", "b")), id="rendered list"),
        pytest.param('["a"]', RunIds(("a",)), id="JSON list"),
        pytest.param("('a', 'b')", RunIds(("a", "b")), id="rendered tuple"),
        pytest.param("['a', None]", RunIds(("a",), missing=1), id="rendered list with None"),
        pytest.param('["a", null]', RunIds(("a",), missing=1), id="JSON list with null"),
        pytest.param("None", RunIds(missing=1), id="rendered None"),
        pytest.param("null", RunIds(missing=1), id="null"),
        pytest.param("  ", RunIds(missing=1), id="blanks"),
        pytest.param(["a", "None", None, " "], RunIds(("a",), missing=3), id="some missing"),
        pytest.param("a,b", RunIds(malformed=("a,b",)), id="comma"),
        pytest.param("a b", RunIds(malformed=("a b",)), id="space"),
        pytest.param("../x", RunIds(malformed=("../x",)), id="path"),
        pytest.param("..", RunIds(malformed=("..",)), id="dots"),
        pytest.param("[a, b]", RunIds(malformed=("[a, b]",)), id="unquoted list"),
        pytest.param("[" * 10_000, RunIds(malformed=("[" * 80,)), id="deep"),
        pytest.param("(1)", RunIds(malformed=("(1)",)), id="not a list after all"),
        pytest.param(
            "LazySelectSequence([2 items])",
            RunIds(malformed=("LazySelectSequence([2 items])",)),
            id="lazy, rendered",
        ),
        pytest.param(7, RunIds(malformed=("7",)), id="number"),
        pytest.param({"a": 1}, RunIds(malformed=("{'a': 1}",)), id="mapping"),
        pytest.param(b"a", RunIds(malformed=("b'a'",)), id="bytes"),
        pytest.param(["a", 7, ["b"]], RunIds(("a",), malformed=("7", "['b']")), id="some malformed"),
        pytest.param("x" * 500 + "/", RunIds(malformed=("x" * 80,)), id="long"),
    ],
)
def test_ids_are_read_whatever_a_template_made_of_them(value, read):
    """Ids, nothings and malformed entries are told apart."""
    assert read_run_ids(value) == read


@pytest.mark.parametrize(
    ("value", "missing"),
    [(None, True), ("", True), (" ", True), ("None", True), ("NULL", True), ("nope", False), (0, False)],
)
def test_a_rendered_nothing_is_missing(value, missing):
    """None and what Jinja makes of it are missing."""
    assert is_missing(value) is missing


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, None), ("", None), ("None", None), (" ", None), ("main", "main"), (7, "7"), (1.5, "1.5")],
)
def test_a_rendered_nothing_is_no_argument(value, text):
    """A template that renders to nothing does not run a branch called 'None'."""
    assert text_or_none(value, "branch") == text


@pytest.mark.parametrize("value", [["main"], ("main",), {"a": 1}, True, b"main"], ids=repr)
def test_what_is_neither_text_nor_a_number_is_an_error(value):
    """A list that a template rendered natively does not run a branch called "['main']"."""
    with pytest.raises(ValueError, match=f"branch is neither text nor a number but {type(value).__name__}$"):
        text_or_none(value, "branch")


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (None, {}),
        ({}, {}),
        ("None", {}),
        ({"A": "x", "B": 1, "C": 1.5, "D": True, "E": False, "F": ""}, None),
    ],
    ids=["None", "empty", "rendered None", "scalars"],
)
def test_scalars_are_sent_as_text(overrides, text):
    """Numbers and booleans become text, as JSON spells them."""
    expected = {"A": "x", "B": "1", "C": "1.5", "D": "true", "E": "false", "F": ""} if text is None else text

    assert env_overrides_as_text(overrides) == expected


@pytest.mark.parametrize("overrides", ["{'TOKEN': 'hush'}", ["hush"], {"TOKEN": ["hush"]}, {"TOKEN": None}])
def test_what_is_not_a_mapping_of_scalars_is_an_error_without_values(overrides):
    """The error names the argument and the variable, never a value."""
    with pytest.raises(ValueError, match="env_overrides") as caught:
        env_overrides_as_text(overrides)

    assert "hush" not in str(caught.value)


def _nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("odd", "shown"),
    [
        pytest.param("half \ud83d a pair\n\x1b[31m", r"half \ud83d a pair\n\x1b[31m", id="controls"),
        pytest.param("x" * 201, "x" * 80, id="too long"),
        pytest.param(10**10_000, "int", id="huge number"),
        pytest.param(_nested(10_000), "list [[[[[[[...]]]]]]]", id="deep"),
    ],
)
def test_whatever_cannot_be_an_id_loses_no_other(odd, shown):
    """It is told as short text that Airflow can keep, and the ids beside it are read."""
    assert read_run_ids(["a1", odd]) == RunIds(("a1",), malformed=(shown,))


@pytest.mark.parametrize(
    "text",
    [
        "[{[]: 1}]",
        "[{{}}]",
        "[" + "9" * 5000 + "]",
        "[1, -'a']",
        "[\ud83d]",
        "[0x]",
        "[\0]",
    ],
)
def test_text_that_only_looks_like_a_list_is_malformed(text):
    """Whatever Python's and JSON's readers raise on it."""
    read = read_run_ids(text)

    assert read.valid == ()
    assert len(read.malformed) == 1
