import json
import logging
from dataclasses import replace

import airflow
import pytest

from airflow_provider_stably.api.endpoint import Endpoint
from airflow_provider_stably.exceptions import StablyConfigError
from airflow_provider_stably.hooks.connection import read_connection
from airflow_provider_stably.hooks.stably import StablyHook
from tests.constants import KEY
from tests.shown import held_by_frames


def _connection(**fields):
    from airflow.providers.common.compat.sdk import Connection

    extra = fields.pop("extra", None)
    text = extra if extra is None or isinstance(extra, str) else json.dumps(extra)
    return Connection(conn_id="my_conn", conn_type="stably", **{"password": KEY, **fields}, extra=text)


def _endpoint_from(connection, **options):
    return read_connection(connection, **options).endpoint


def test_a_connection_needs_only_a_key():
    """Everything but the key has a default."""
    endpoint = _endpoint_from(_connection())

    expected = Endpoint("https://api.stably.ai", KEY, label="connection 'my_conn'")
    assert replace(endpoint, user_agent=expected.user_agent) == expected
    assert endpoint.user_agent.startswith("airflow-provider-stably/0.")
    assert " apache-airflow/" in endpoint.user_agent


@pytest.mark.parametrize(
    ("host", "port", "base_url"),
    [
        (None, None, "https://api.stably.ai"),
        ("", None, "https://api.stably.ai"),
        ("  ", None, "https://api.stably.ai"),
        ("stably.example", None, "https://stably.example"),
        ("https://stably.example/", None, "https://stably.example"),
        ("HTTPS://stably.example", None, "https://stably.example"),
        ("https://stably.example/prefix/", None, "https://stably.example/prefix"),
        ("stably.example", 8443, "https://stably.example:8443"),
        ("stably.example:8443", None, "https://stably.example:8443"),
        ("stably.example:8443", 8443, "https://stably.example:8443"),
        ("stably.example:8443", "8443", "https://stably.example:8443"),
        ("https://stably.example", 8443, "https://stably.example:8443"),
        (None, 8443, "https://api.stably.ai:8443"),
        ("http://127.0.0.1:8484", None, "http://127.0.0.1:8484"),
        ("http://127.8.8.8", 1, "http://127.8.8.8:1"),
        ("http://localhost", 8484, "http://localhost:8484"),
        ("http://[::1]:8484", None, "http://[::1]:8484"),
        ("http://[::1]", 8484, "http://[::1]:8484"),
        ("stably.example:080", 80, "https://stably.example:80"),
        ("https://xn--bcher-kva.example", None, "https://xn--bcher-kva.example"),
    ],
)
def test_host_and_port_make_the_base_url(host, port, base_url):
    """No scheme means https, a port is used, a slash at the end does not matter."""
    assert _endpoint_from(_connection(host=host, port=port)).base_url == base_url


@pytest.mark.parametrize(
    ("host", "port", "field", "problem"),
    [
        ("http://stably.example", None, "host", "clear text"),
        ("http://10.0.0.1", None, "host", "clear text"),
        ("http://localhost.evil.example", None, "host", "clear text"),
        ("http://127.0.0.1.evil.example", None, "host", "clear text"),
        ("ftp://stably.example", None, "host", "ftp://"),
        ("https://user:pw@stably.example", None, "host", "only scheme"),
        ("https://stably.example?x=1", None, "host", "only scheme"),
        ("https://stably.example#x", None, "host", "only scheme"),
        ("https://", None, "host", "not an address"),
        ("https://[::1", None, "host", "not an address"),
        ("https://stably.example:port", None, "host", "not an address"),
        ("stably example", None, "host", "not an address"),
        ("http://evil.example[::1]", None, "host", "not an address"),
        ("https:/api.stably.ai", None, "host", "not an address"),
        ("https://evil\\.example", None, "host", "not an address"),
        ("https://b\u00fccher.example", None, "host", "xn--"),
        ("http://127.1", None, "host", "not an address"),
        ("stably.example:0", None, "host", "not an address"),
        ("stably.example:99999", None, "host", "not an address"),
        *(
            (f"stably.example{path}", None, "host", "leave /v1 out")
            for path in ("/v1", "/V1//", "/v1/projects/p/runs", "/x/v1/.", "/v1%2F", "/%76%31")
        ),
        ("stably.example:1", 2, "port", "contradicts"),
        (None, "https", "port", "'https' is not between 1 and 65535"),
        (None, -1, "port", "-1 is not between 1 and 65535"),
        ("http://localhost", 99999, "port", "99999 is not between 1 and 65535"),
    ],
)
def test_an_unusable_address_is_an_error_on_its_field(host, port, field, problem):
    """The error names the connection and the field."""
    with pytest.raises(StablyConfigError, match=problem) as caught:
        _endpoint_from(_connection(host=host, port=port))

    assert (caught.value.conn_id, caught.value.field) == ("my_conn", field)
    assert "'my_conn'" in str(caught.value)
    assert f"'{field}'" in str(caught.value)


def test_plain_http_to_another_host_can_be_allowed():
    """With allow_http the key may travel in clear text."""
    endpoint = _endpoint_from(_connection(host="http://stably.example", extra={"allow_http": True}))

    assert endpoint.base_url == "http://stably.example"


@pytest.mark.parametrize(
    "password",
    [None, "", "   ", "two words", "tab\tkey", "new\nline", "schlüssel", "nul\x00key"],
    ids=repr,
)
def test_an_unsendable_key_is_an_error_without_the_key(password):
    """A missing or unsendable key is an error on the field password."""
    with pytest.raises(StablyConfigError, match="API key") as caught:
        _endpoint_from(_connection(password=password))

    assert caught.value.field == "password"
    assert not password or not password.strip() or password.strip() not in str(caught.value)


@pytest.mark.parametrize("conn_type", ["postgres", "aws", "http", "generic", "STABLY", "", None])
def test_a_connection_of_another_type_is_refused(conn_type):
    """Its password is not for Stably, wherever its id came from."""
    connection = _connection(host="db.example", password="hush")
    connection.conn_type = conn_type

    with pytest.raises(StablyConfigError, match="and has to be 'stably'") as caught:
        read_connection(connection)

    assert caught.value.field == "conn_type"
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["stably://:k@stably.example", '{"conn_type": "stably", "password": "k"}'])
def test_a_connection_from_the_environment_is_typed(monkeypatch, text):
    """As address and as JSON, the two forms that Airflow takes."""
    monkeypatch.setenv("AIRFLOW_CONN_MINE", text)

    assert StablyHook("mine").client.session.endpoint.api_key == "k"


@pytest.mark.parametrize("field", ["login", "host"])
def test_a_key_that_stands_elsewhere_too_is_refused(field):
    """As project id or host it would be in addresses, log lines and errors; this one does not show it."""
    with pytest.raises(StablyConfigError, match="belongs into the password") as caught:
        read_connection(_connection(password=KEY, **{field: f"{KEY}\n"}))

    assert caught.value.field == field
    assert KEY not in str(caught.value)


def test_blanks_around_a_key_do_not_matter():
    """A key read from a file with a newline at its end works."""
    assert _endpoint_from(_connection(password=f" {KEY}\n")).api_key == KEY


@pytest.mark.parametrize("nothing", [None, "", " ", "{}", {"timeout": None, "proxy": "", "trust_env": None}])
def test_an_empty_or_null_extra_counts_as_unset(nothing):
    """Forms send unset fields as empty text or null."""
    endpoint = _endpoint_from(_connection(extra=nothing))

    assert (endpoint.read_timeout, endpoint.proxy, endpoint.verify, endpoint.trust_env) == (
        30,
        None,
        None,
        True,
    )


@pytest.mark.parametrize(
    ("extra", "attribute", "value"),
    [
        ({"timeout": 5}, "read_timeout", 5),
        ({"timeout": "2.5"}, "connect_timeout", 2.5),
        ({"proxy": "http://p.example:3128"}, "proxy", "http://p.example:3128"),
        ({"verify": False}, "verify", False),
        ({"verify": "False"}, "verify", False),
        ({"verify": "true"}, "verify", True),
        ({"verify": __file__}, "verify", __file__),
        ({"trust_env": False}, "trust_env", False),
        ({"trust_env": "false"}, "trust_env", False),
        ({"trust_env": 0}, "trust_env", False),
        ({"trust_env": "1"}, "trust_env", True),
    ],
)
def test_extras_are_read_as_typed_or_as_text(extra, attribute, value):
    """Numbers and booleans may come as text."""
    assert getattr(_endpoint_from(_connection(extra=extra)), attribute) == value


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ("{not json", "extra"),
        ("[" * 100_000, "extra"),
        ('{"timeout": ' + "9" * 5000 + "}", "extra"),
        ('{"timeout": ' + "9" * 400 + "}", "extra.timeout"),
        ({"timeout": "9" * 400}, "extra.timeout"),
        ('{"verify": ' + "[" * 900 + "]" * 900 + "}", "extra.verify"),
        ({"proxy": "http://evil.example[::1]"}, "extra.proxy"),
        ({"proxy": "http://p.example\\@q.example"}, "extra.proxy"),
        ("[]", "extra"),
        ('"text"', "extra"),
        ({"timeout": 0}, "extra.timeout"),
        ({"timeout": -1}, "extra.timeout"),
        ({"timeout": "soon"}, "extra.timeout"),
        ({"timeout": True}, "extra.timeout"),
        ({"timeout": [1]}, "extra.timeout"),
        ({"timeout": "inf"}, "extra.timeout"),
        ({"timeout": "nan"}, "extra.timeout"),
        ({"proxy": "p.example:3128"}, "extra.proxy"),
        ({"proxy": "socks5://p.example"}, "extra.proxy"),
        ({"proxy": "http://"}, "extra.proxy"),
        ({"proxy": "http://p.example:port"}, "extra.proxy"),
        ({"proxy": 3}, "extra.proxy"),
        ({"verify": "no-such-file.pem"}, "extra.verify"),
        ({"verify": {}}, "extra.verify"),
        ({"verify": 7}, "extra.verify"),
        ({"trust_env": "perhaps"}, "extra.trust_env"),
        ({"allow_http": 7}, "extra.allow_http"),
    ],
)
def test_an_unreadable_extra_is_an_error_with_its_key(extra, field):
    """The error names the connection and the key."""
    try:
        connection = _connection(extra=extra)
    except (ValueError, RecursionError):
        if not airflow.__version__.startswith("2."):
            raise
        pytest.skip("Airflow 2.11 makes no connection of such an extra")

    with pytest.raises(StablyConfigError, match="'my_conn'") as caught:
        _endpoint_from(connection)

    assert caught.value.field == field
    assert field in str(caught.value)


def test_a_proxys_password_is_not_shown():
    """A proxy URL that cannot be used is not quoted, and one that can is not in the repr."""
    with pytest.raises(StablyConfigError) as caught:
        _endpoint_from(_connection(extra={"proxy": "socks5://user:hush@p.example"}))
    endpoint = _endpoint_from(_connection(extra={"proxy": "http://user:hush@p.example"}))

    assert "hush" not in str(caught.value) + repr(endpoint)


def test_a_refused_connections_frames_hold_no_key(monkeypatch):
    """Some logs render the locals of an error's traceback, and a connection's repr shows its password."""
    fields = {"conn_type": "stably", "password": KEY, "extra": {"timeout": "soon"}}
    monkeypatch.setenv("AIRFLOW_CONN_MY_CONN", json.dumps(fields))

    with pytest.raises(StablyConfigError) as caught:
        StablyHook("my_conn").get_conn()

    del fields
    held = held_by_frames(caught.value)
    assert caught.value.field == "extra.timeout"
    assert KEY not in held


def test_unknown_extras_are_ignored_with_one_warning(caplog):
    """A mistyped key is not an error; one warning names all of them."""
    with caplog.at_level(logging.WARNING, logger="airflow_provider_stably"):
        _endpoint_from(_connection(extra={"timeuot": 5, "other": 1, "timeout": 7}))

    assert len(caplog.messages) == 1
    assert "other, timeuot" in caplog.messages[0]


def test_extras_sent_twice_by_a_form_give_no_warning(caplog):
    """Testing a connection in Airflow 2's form, which repeats each key with a prefix, gives no warning."""
    with caplog.at_level(logging.WARNING, logger="airflow_provider_stably"):
        endpoint = _endpoint_from(_connection(extra={"extra__stably__timeout": "7", "timeout": "7"}))

    assert caplog.messages == []
    assert endpoint.read_timeout == 7


def test_an_argument_comes_before_the_extra():
    """A timeout given in code wins over the connection's."""
    assert _endpoint_from(_connection(extra={"timeout": 5}), timeout=1).read_timeout == 1


@pytest.mark.parametrize(("login", "project_id"), [(None, ""), ("  ", ""), (" p1 ", "p1")])
def test_the_login_is_the_default_project(login, project_id):
    """The field login holds the project that calls use which name none."""
    assert read_connection(_connection(login=login)).project_id == project_id
