"""Page objects of Airflow's user interface."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.system.versions import Airflow2, Site, airflow_of_this_python


class ConnectionForm:
    """The form for a new connection in Airflow 3.

    :param page: A page that shows the list of connections.
    """

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root = page.get_by_role("dialog")

    def choose(self, conn_id: str, conn_type: str) -> None:
        """Open the form, name the connection, and choose its type."""
        self.page.get_by_role("button", name="Add Connection").click()
        self.root.get_by_label("Connection ID").fill(conn_id)
        self.root.get_by_label("Connection Type").fill(conn_type)
        self.page.get_by_role("option", name=conn_type, exact=True).click()

    def field(self, label: str) -> Locator:
        """Return the group of a field's label, input and help text."""
        return self.root.get_by_role("group").filter(has=self.page.get_by_text(label, exact=True))

    def input(self, label: str) -> Locator:
        """Return a field's input element."""
        return self.field(label).locator("input").first

    def show_extra_fields(self) -> None:
        """Expand the fields that only this connection type has."""
        self.root.get_by_role("button", name="Extra Fields", exact=True).click()

    def save(self) -> None:
        """Save the connection, and wait until the form is closed."""
        self.root.get_by_role("button", name="Save").click()
        expect(self.root).to_be_hidden()

    def save_and_test(self, conn_id: str) -> str:
        """Save the connection, test it, and return the message of the test."""
        self.save()
        row = self.page.get_by_role("row").filter(has_text=conn_id)
        with self.page.expect_response("**/connections/test") as answered:
            row.get_by_role("button", name="Test Connection").click()
        return answered.value.json()["message"]


class ConnectionForm2(ConnectionForm):
    """The form for a new connection in Airflow 2."""

    def __init__(self, page: Page) -> None:
        super().__init__(page)
        self.root = page.locator("#model_form")

    def choose(self, conn_id: str, conn_type: str) -> None:
        self.page.locator('a[href^="/connection/add"]').click()
        self.page.locator("#conn_id").fill(conn_id)
        self.page.locator("#conn_type").select_option(label=conn_type, force=True)

    def field(self, label: str) -> Locator:
        return self.root.get_by_role("row").filter(has=self.page.get_by_text(label, exact=True))

    def show_extra_fields(self) -> None:
        """Do nothing: they are always shown."""

    def save(self) -> None:
        self.root.get_by_role("button", name="Save").click()
        expect(self.page.get_by_text("Added Row")).to_be_visible()

    def save_and_test(self, conn_id: str) -> str:  # noqa: ARG002 - Airflow 2 tests it in the form
        self.root.get_by_role("button", name="Test").click()
        message = self.page.locator(".alert").filter(has_text="Stably")
        expect(message).to_be_visible()
        text = message.inner_text()
        self.save()
        return text


class AirflowUi:
    """Airflow 3 in a browser.

    :param site: The Airflow's addresses and keys.
    """

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site

    def log_in(self) -> None:
        """Log in as the administrator."""
        self.page.goto(self.site.url)
        self.page.get_by_label("Username").fill("admin")
        self.page.get_by_label("Password").fill(self.site.key)
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_text("Welcome")).to_be_visible()

    def new_connection(self, conn_id: str, conn_type: str) -> ConnectionForm:
        """Open the form for a new connection, and choose its id and type."""
        self.page.goto(f"{self.site.url}/connections")
        form = ConnectionForm(self.page)
        form.choose(conn_id, conn_type)
        return form

    def trigger(self, dag_id: str, **params: str) -> None:
        """Start a DAG run with params, and stay on its page."""
        self.page.goto(f"{self.site.url}/dags/{dag_id}")
        self.page.get_by_role("button", name="Trigger").click()
        dialog = self.page.get_by_role("dialog")
        for name, value in params.items():
            dialog.locator(f"[name=element_{name}]").fill(value)
        dialog.get_by_role("button", name="Trigger").click()
        self.page.wait_for_url("**/runs/*")

    def open_task(self, task_id: str) -> None:
        """Open a task of the DAG run on the current page."""
        self.page.get_by_role("table").get_by_role("link", name=task_id, exact=True).click()
        expect(self.page.get_by_role("link", name="Logs", exact=True)).to_be_visible()

    def open_tab(self, *titles: str) -> None:
        """Open a tab of the task's page, then a tab within it, if given."""
        for title in titles:
            self.page.get_by_role("link", name=title, exact=True).click()

    def wait_for_state(self, state: str) -> None:
        """Wait until the task on the current page is in a state."""
        expect(self.page.get_by_test_id("state-badge").filter(has_text=state)).to_be_visible()

    def xcom(self, key: str) -> Locator:
        """Open and expand the XComs of the task on the current page, and return the value of one."""
        self.open_tab("Storage", "XCom")
        self.page.get_by_role("button", name="Expand all extra JSON").click()
        row = self.page.get_by_role("row").filter(has=self.page.get_by_role("cell", name=key, exact=True))
        return row.locator(".view-lines")


class AirflowUi2(AirflowUi):
    """Airflow 2 in a browser: only its form for a connection."""

    def log_in(self) -> None:
        """Do nothing: everybody is an administrator."""

    def new_connection(self, conn_id: str, conn_type: str) -> ConnectionForm:
        self.page.goto(f"{self.site.url}/connection/list/")
        form = ConnectionForm2(self.page)
        form.choose(conn_id, conn_type)
        return form


def ui_of_this_python(page: Page, site: Site) -> AirflowUi:
    """Return the user interface of the installed Airflow."""
    is_2 = isinstance(airflow_of_this_python(), Airflow2)
    return AirflowUi2(page, site) if is_2 else AirflowUi(page, site)
