"""What ``dag.test()`` does anew each time, or in a roundabout way, and needs only once.

From Airflow 3 on each task talks to the execution API, in this process, some thirteen times: most of
what a test with DAGs costs. None of this changes what a task asks the API, nor what it is answered.
"""

from __future__ import annotations

import asyncio
import functools

import pytest


@pytest.fixture(scope="session", autouse=True)
def cheap():
    """Make it cheap in a session of pytest that has ``-p tests.cheap_dag_test``."""
    install()


def install() -> None:
    """Make ``dag.test()`` cheap, for the rest of the process."""
    _do_not_wait_for_the_disk()
    _check_schemas_once()
    try:
        import airflow.sdk.execution_time.supervisor  # noqa: F401 - whether there is one
    except ImportError:
        return  # Airflow 2.11
    _make_the_api_once()
    _make_only_its_newest_version()
    _look_into_dependencies_once()
    _serve_without_threads()
    _cross_threads_once()
    _read_the_dags_folder_once()


def _do_not_wait_for_the_disk() -> None:
    """Let SQLite leave it to the kernel when to write: no test's database outlives a power cut."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    @event.listens_for(Engine, "connect")
    def set_pragma(connection, _):
        connection.cursor().execute("PRAGMA synchronous=OFF")


def _check_schemas_once() -> None:
    """Check a parameter's JSON schema once, and not at each look at its value."""
    from jsonschema import Draft202012Validator as Validator

    check, known = Validator.check_schema, set()

    def check_schema(schema, *given, **options):
        key = (repr(schema), repr(given), repr(options))
        if key not in known:
            check(schema, *given, **options)
            known.add(key)

    Validator.check_schema = check_schema


def _make_the_api_once() -> None:
    """Delete with Airflow 3.2, which does so itself."""
    from airflow.api_fastapi.common.dagbag import dag_bag_from_app
    from airflow.sdk.execution_time import supervisor

    if hasattr(supervisor.in_process_api_server, "cache_clear"):
        return
    make = functools.cache(supervisor.in_process_api_server)

    def in_process_api_server():
        api = make()
        api.app.dependency_overrides.pop(dag_bag_from_app, None)
        return api

    supervisor.in_process_api_server = in_process_api_server


def _make_only_its_newest_version() -> None:
    """Leave out those for older Airflows' tasks: the tasks of a process speak the newest."""
    from airflow.api_fastapi.execution_api import versions
    from airflow.api_fastapi.execution_api.routes import execution_api_router
    from cadwyn import HeadVersion, Version, VersionBundle
    from cadwyn.route_generation import _DELETED_ROUTE_TAG

    versions.bundle = VersionBundle(HeadVersion(), Version(versions.bundle.versions[0].value))
    execution_api_router.routes[:] = [
        route for route in execution_api_router.routes if _DELETED_ROUTE_TAG not in getattr(route, "tags", ())
    ]


def _look_into_dependencies_once() -> None:
    """Keep what FastAPI finds out of a function's parameters at each request to an API with overrides."""
    from fastapi.dependencies import utils

    look_into, known = utils.get_dependant, {}

    def get_dependant(**given):
        if "name" not in given or "use_cache" in given:
            return look_into(**given)  # to make a route, which goes on to change it
        key = tuple(tuple(value) if isinstance(value, list) else value for value in given.values())
        if key not in known:
            known[key] = look_into(**given)
        return known[key]

    utils.get_dependant = get_dependant


def _serve_without_threads() -> None:
    """Call what blocks where it is: one request at a time is served, and each would start threads."""
    import anyio.to_thread

    async def run_sync(function, *args, **_):
        return function(*args)

    anyio.to_thread.run_sync = run_sync


def _cross_threads_once() -> None:
    """Hand a request to the API's thread as a whole: a2wsgi goes to and fro for each message of it."""
    import a2wsgi
    from a2wsgi.asgi import StatusStringMapping, build_scope

    class ASGIMiddleware(a2wsgi.ASGIMiddleware):
        def __call__(self, environ, start_response):
            head, *body = asyncio.run_coroutine_threadsafe(self.answer(environ), self.loop).result()
            headers = [(name.decode("latin1"), value.decode("latin1")) for name, value in head["headers"]]
            start_response(StatusStringMapping[head["status"]], headers)
            return [part["body"] for part in body]

        async def answer(self, environ):
            answer = []
            parts = [{"type": "http.request", "body": environ["wsgi.input"].read()}]

            async def receive():
                while not parts:  # nobody hangs up
                    await asyncio.Event().wait()
                return parts.pop()

            async def send(message):
                answer.append(message)

            await self.app(build_scope(environ), receive, send)
            return answer

    a2wsgi.ASGIMiddleware = ASGIMiddleware


def _read_the_dags_folder_once() -> None:
    """Read all DAG files once: Airflow 3.2 and later do each time, and no test changes them."""
    try:
        from airflow.dag_processing import dagbag
    except ImportError:
        return  # before 3.2 it is elsewhere, and called once
    dagbag.BundleDagBag = functools.cache(dagbag.BundleDagBag)
    dagbag.sync_bag_to_db = functools.cache(dagbag.sync_bag_to_db)
