"""The table of spellings: how an argument may name runs, and what is not one."""

import itertools
import json
import time
from collections.abc import Sequence

import pytest

from airflow_provider_stably.exceptions import StablyInvalidIdError
from airflow_provider_stably.runs.named_runs import NamedRun, read_run, read_runs, shown

ADDRESS = "https://app.stably.ai/project/p1/playwright/history/{}?tab=specs"
SUMMARY = {
    "run_id": "a",
    "project_id": "p1",
    "run_url": ADDRESS.format("a"),
    "status": "FAILED",
    "total": 3,
    "duration_ms": None,
    "failed_tests": ['it\'s "quoted", [nested] (and) {more}'],
}
PUSHED = {"run_id": "b", "project_id": "p2", "try_number": 1, "cancel_on_kill": True}
EARLIER_SUMMARY = {"run_id": "a", "status": None}

BARE = [("a", None), ("b", None)]
OWN = [("a", "p1"), ("b", "p2")]


@pytest.mark.parametrize(
    ("value", "runs"),
    [
        pytest.param("a", BARE[:1], id="id"),
        pytest.param(" a\n", BARE[:1], id="id, blanks around"),
        pytest.param('"a"', BARE[:1], id="id, quoted"),
        pytest.param("a,b", BARE, id="commas"),
        pytest.param("a, b;", BARE, id="commas and blanks"),
        pytest.param("a b", BARE, id="blanks"),
        pytest.param("a\r\nb\n\n", BARE, id="lines"),
        pytest.param("'a', 'b'", BARE, id="quoted, with commas"),
        pytest.param(["a", "b", "a"], BARE, id="list, each once, in order"),
        pytest.param(("a", "b"), BARE, id="tuple"),
        pytest.param((x for x in "ab"), BARE, id="lazy"),
        pytest.param([["a"], ["b", "a"]], BARE, id="list of lists"),
        pytest.param(["a,b"], BARE, id="list of texts with commas"),
        pytest.param(["a", "", " "], BARE[:1], id="list with a blank line"),
        pytest.param("['a', 'b', '']", BARE, id="rendered list with a blank line"),
        pytest.param('["a", "b"]', BARE, id="JSON list"),
        pytest.param("('a', 'b')", BARE, id="rendered tuple"),
        pytest.param("{'a'}", BARE[:1], id="rendered set"),
        pytest.param(SUMMARY, OWN[:1], id="summary"),
        pytest.param(EARLIER_SUMMARY, BARE[:1], id="summary without project"),
        pytest.param(PUSHED, OWN[1:], id="stably_run"),
        pytest.param({"runId": "a"}, BARE[:1], id="the API's answer to a start"),
        pytest.param('{"runId": "a"}', BARE[:1], id="the text of that answer"),
        pytest.param([SUMMARY, PUSHED, SUMMARY], OWN, id="list of mappings"),
        pytest.param([SUMMARY, [PUSHED]], OWN, id="plain and mapped outputs"),
        pytest.param(str(SUMMARY), OWN[:1], id="rendered summary"),
        pytest.param(json.dumps(SUMMARY), OWN[:1], id="JSON summary"),
        pytest.param(str([SUMMARY, PUSHED]), OWN, id="rendered list of mappings"),
        pytest.param([str(SUMMARY), str(PUSHED)], OWN, id="list of rendered mappings"),
        pytest.param(f"{SUMMARY}, {PUSHED}", OWN, id="rendered mappings, with comma"),
        pytest.param(f"{SUMMARY}\n{PUSHED}", OWN, id="rendered mappings, lines"),
        pytest.param(ADDRESS.format("a"), OWN[:1], id="address"),
        pytest.param(ADDRESS.format("a").partition("?")[0], OWN[:1], id="address without query"),
        pytest.param(ADDRESS.format("a").partition("//")[2], OWN[:1], id="address without scheme"),
        pytest.param(ADDRESS.format("a").replace("?", "/spec-7?"), OWN[:1], id="address of one test"),
        pytest.param(ADDRESS.format("a").replace("https", "http"), OWN[:1], id="address with http"),
        pytest.param(ADDRESS.format("a").replace("app.", "APP."), OWN[:1], id="address in capitals"),
        pytest.param(ADDRESS.format("a").replace(".ai", ".ai:443"), OWN[:1], id="address with port"),
        pytest.param(f'"{ADDRESS.format("a")}"', OWN[:1], id="address, quoted"),
        pytest.param(f"{ADDRESS.format('a')}\nb", [OWN[0], BARE[1]], id="address and id"),
        pytest.param(f"{ADDRESS.format('a')},{ADDRESS.format('b')}", [OWN[0], ("b", "p1")], id="addresses"),
        pytest.param({"run_id": "a", "project_id": "None"}, BARE[:1], id="rendered None as project"),
        pytest.param(None, [], id="None"),
        pytest.param("", [], id="empty text"),
        pytest.param("  \n", [], id="blanks"),
        pytest.param([], [], id="empty list"),
        pytest.param("[]", [], id="rendered empty list"),
    ],
)
def test_runs_are_read_in_any_spelling(value, runs):
    """Ids, addresses and mappings are read, alone, in lists, and as a template renders them."""
    named = read_runs(value)

    assert [(run.run_id, run.project_id) for run in named.runs] == runs
    assert named.malformed == {}


@pytest.mark.parametrize(
    ("value", "missing"),
    [
        ("", 0),
        ("\n", 0),
        (["a", ""], 0),
        (None, 1),
        ("None", 1),
        ("null", 1),
        (["a", "None", None], 2),
        ("['a', None]", 1),
        ('["a", null]', 1),
        ("a,None", 1),
    ],
    ids=repr,
)
def test_a_none_is_counted_and_a_blank_line_is_not(value, missing):
    """A None comes from a task without a result; a blank line is just how people type."""
    named = read_runs(value)

    assert (named.missing, named.malformed) == (missing, {})


@pytest.mark.parametrize(
    ("value", "entry", "problem"),
    [
        pytest.param("../x", "../x", "not an id", id="path"),
        pytest.param("..", "..", "not an id", id="dots"),
        pytest.param("[a, b]", "[a, b]", "not a list", id="unquoted list"),
        pytest.param("[1, 2", "[1, 2", "not a list", id="half a list"),
        pytest.param("(1)", "(1)", "not a list", id="no list after all"),
        pytest.param(
            "LazySelectSequence([2 items])",
            "LazySelectSequence([2 items])",
            r"use task_ids, or \.output\['run_id'\]",
            id="mapped XComs in a template",
        ),
        pytest.param(7, "7", "not an id", id="number"),
        pytest.param(True, "True", "not an id", id="boolean"),
        pytest.param(b"a", "b'a'", "not an id", id="bytes"),
        pytest.param({"a": 1}, "{'a': 1}", "a mapping without 'run_id'", id="mapping without run_id"),
        pytest.param({"run_id": "a/b"}, "{'run_id': 'a/b'}", "not an id", id="mapping with no id"),
        pytest.param(
            {"run_id": "a", "project_id": 7}, "{'run_id': 'a', 'project_id': 7}", "not an id", id="project"
        ),
        pytest.param("https://a.b/c", "https://a.b/c", "not a run's address", id="other address"),
        pytest.param("https://[", "https://[", "not a list", id="broken address"),
        pytest.param("http://[/x", "http://[/x", "not a list", id="address that cannot be split"),
        pytest.param("a\ud800", "a\\ud800", "not an id", id="half a surrogate pair"),
        pytest.param("a\x1b]\u202e", "a\\x1b]\\u202e", "not a list", id="control characters"),
        pytest.param("a\u200b", "a\\u200b", "not an id", id="blank without width"),
        pytest.param("9" * 5000 + "/", "9" * 200 + "...", "not an id", id="long"),
        pytest.param(int("9" * 4000) ** 2, "<int>", "not an id", id="a number too long for text"),
        pytest.param([[[[["a"]]]]], "['a']", "not a list", id="too deep a list"),
        pytest.param("[" * 10_000, "[" * 200 + "...", "not a list", id="brackets without end"),
        pytest.param("[" * 90 + "]" * 90, "[" * 87 + "]" * 87, "not a list", id="nested brackets"),
        pytest.param("[{[]: 1}]", "[{[]: 1}]", "not a list", id="what Python cannot build"),
        pytest.param("[" + "9" * 5000 + "]", "[" + "9" * 199 + "...", "not a list", id="huge number"),
    ],
)
def test_what_is_not_a_run_is_shown_with_its_problem(value, entry, problem):
    """An entry that cannot be read is shown so that it is recognized, on one line, with the next step."""
    named = read_runs(value)

    assert (named.runs, list(named.malformed)) == ({}, [entry])
    with pytest.raises(StablyInvalidIdError, match=f"^run_id: .*{problem}"):
        read_run(value, argument="run_id")


def test_malformed_entries_leave_the_others():
    """The runs that can be read are there beside those that cannot."""
    named = read_runs(["a", 7, "b/c", SUMMARY])

    assert list(named.runs) == [NamedRun("a"), NamedRun("a", "p1")]
    assert list(named.malformed) == ["7", "b/c"]


def test_a_task_of_the_dag_is_not_a_run():
    """The API would call it "not found", which ``ignore_missing`` takes for over."""
    named = read_runs("a, start", task_ids={"start"})

    assert list(named.runs) == [NamedRun("a")]
    assert named.problems("run_ids") == [
        "run_ids: a task of this DAG, not a run (pass its .output, or task_ids): start"
    ]


def test_its_own_project_wins():
    """A run goes into the project that names it itself, else into the one of the argument."""
    own, bare = read_runs([SUMMARY, "b"]).runs

    assert own.in_project("default").project_id == "p1"
    assert bare.in_project("default").project_id == "default"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "run_id is None: the task that should give it was skipped"),
        ("None", "run_id is 'None': the task that should give it was skipped"),
        ([], r"run_id is \[\]: the task"),
        ("a,b", "run_id names 2 runs, but takes one"),
        ({"a": 1}, "run_id: a mapping without 'run_id': {'a': 1}"),
    ],
)
def test_one_run_is_asked_for_by_its_arguments_name(value, message):
    """Where one run is wanted the error names the argument and says what to do."""
    with pytest.raises(StablyInvalidIdError, match=f"^{message}"):
        read_run(value, argument="run_id")


def test_what_cannot_be_text_is_shown_by_its_type():
    """A deep list does not end the reader with an error of Python's."""
    deep = []
    for _ in range(100_000):
        deep = [deep]

    assert shown(deep) == "<list>"
    assert list(read_runs(deep).malformed) == ["<list>"]


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
    named = read_runs(text)

    assert named.runs == {}
    assert len(named.malformed) == 1


def test_a_thousand_runs_are_read():
    """As a list, as a text, as what a template makes of the list, and as mappings."""
    ids = [f"cm4run{index:019}" for index in range(1000)]

    for value in (ids, ",".join(ids), str(ids), json.dumps(ids), [{"run_id": run_id} for run_id in ids]):
        named = read_runs(value)
        assert ([run.run_id for run in named.runs], named.malformed) == (ids, {})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(itertools.count(), id="numbers without end"),
        pytest.param(itertools.repeat(""), id="blanks without end"),
        pytest.param(itertools.repeat(None), id="None without end"),
        pytest.param(itertools.repeat([]), id="lists without end"),
        pytest.param(map(str, itertools.count()), id="ids without end"),
        pytest.param(",".join(map(str, range(10**6))), id="a million ids"),
        pytest.param("[" + "1," * 10**6 + "]", id="a list of a million"),
        pytest.param("[" + "{'run_id': 'a'}," * 10**5 + "]", id="a list of mappings"),
        pytest.param(["[" + "0x1," * 20_000 + "]"] * 1000, id="many lists"),
        pytest.param("a/b\n" * 10**6, id="a million lines"),
        pytest.param("[f'" + "{1}" * 10**5 + "']", id="an f-string"),
    ],
)
def test_what_is_too_much_is_told(value):
    """What was read stays, and the reader ends soon: in two seconds on a quiet machine."""
    began = time.thread_time()

    named = read_runs(value)

    assert time.thread_time() - began < 10
    assert "the rest" in named.malformed
    assert len(named.runs) <= 2000


@pytest.mark.parametrize(
    "text",
    ["https://x{}/", "app.stably.ai{}/project/p", "[a{}]", "['{}', {}]"],
    ids=["address", "host", "name", "list"],
)
def test_a_text_of_accents_is_read_soon(text):
    """Normalizing it takes time that grows with its square: minutes for the longest."""
    accents = "\u0301" * 40_000 + "\u0316" * 40_000
    began = time.thread_time()

    named = read_runs(text.format(*[accents] * text.count("{}")))

    assert time.thread_time() - began < 5
    assert not named.runs


def test_a_summary_that_is_not_ascii_is_read():
    """A template makes text of a branch's name, too."""
    outputs = [{"run_id": "run-1", "branch_name": "gr\u00f6\u00dfe-\U0001f600"}]

    assert [list(read_runs(write(outputs)).runs) for write in (str, json.dumps)] == [[NamedRun("run-1")]] * 2


@pytest.mark.parametrize(("length", "is_read"), [(399_000, True), (400_001, False)])
def test_a_text_of_400_000_characters_is_read(length, is_read):
    """More is told, and not looked at."""
    named = read_runs("a/" * (length // 2) + "b" * (length % 2))

    assert ("the rest" not in named.malformed) == is_read


@pytest.mark.parametrize(("entries", "is_read"), [(1999, True), (2000, False)])
def test_two_thousand_entries_are_read(entries, is_read):
    """The list itself is one of them."""
    named = read_runs([{"run_id": f"run-{index}"} for index in range(entries)])

    assert (len(named.runs), "the rest" not in named.malformed) == (1999, is_read)


def test_many_malformed_entries_are_counted():
    """A message lists the first, and says how many more there are."""
    named = read_runs([*range(100), "a"])

    assert list(named.malformed) == [*map(str, range(20)), "80 more"]
    assert list(named.runs) == [NamedRun("a")]


def test_what_cannot_be_sliced_is_read():
    """A sequence that only goes entry by entry, as Airflow's results of ``.map()`` and ``.concat()`` do."""

    class Mapped(Sequence):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            if isinstance(index, slice):
                raise TypeError("cannot be sliced")
            return ["run-1", "run-2"][index]

    assert [run.run_id for run in read_runs(Mapped()).runs] == ["run-1", "run-2"]


def test_a_thousand_outputs_are_read_from_one_text():
    """A template over a mapped task makes one text of all their outputs."""
    outputs = [
        {"run_id": f"run-{n}", "project_id": "p", "run_url": "x" * 250, "status": None} for n in range(1000)
    ]

    assert len(read_runs(str(outputs)).runs) == 1000
