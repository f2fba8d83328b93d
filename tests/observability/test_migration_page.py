"""The page at `/migration`, in a real browser: what it shows, to whom, and what it does, by keyboard too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripts.docs.migration_example import ExampleMigration, report

from pycdc.config.runtime import HttpConfig
from pycdc.errors import ConfigError
from pycdc.observability.progress import Progress
from pycdc.observability.server import StatusServer
from pycdc.operations.migration.command_runner import GivenCommand
from pycdc.operations.verify.reports.json_report import document
from tests.contrast import COLORS, contrast
from tests.reading import wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TOKEN = "a-token-with-signs&=7/"
HOSTILE = 'x"><img src=http://[::1]:9/ onerror=alert(1)><script>alert(2)</script>\u202e\n' + "w" * 300
STAGES = ["following", "reading", "ready", "fenced", "drained", "verified", "switched", "watching", "closed"]


@contextmanager
def opened(
    browser: Browser, migration: ExampleMigration, *, token: str | None = TOKEN, **context: Any
) -> Iterator[Page]:
    """The page, with the token typed in where there is one.

    The block fails where the page loads anything from elsewhere or reports an error.
    """
    settings = HttpConfig.model_validate({"port": 0, "token": token})
    with StatusServer(settings, Progress(), "to-inventory", migration) as server:
        page = browser.new_page(**context)
        asked: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: errors.append(dialog.message))
        page.goto(f"{server.url}/migration")
        if token is not None:
            page.get_by_label("token").fill(token)
            page.keyboard.press("Enter")
        page.locator(".group").wait_for()
        yield page
        page.close()
    assert not errors
    assert not [one for one in asked if not one.startswith((server.url, f"blob:{server.url}"))]


def current(page: Page) -> str:
    return page.locator(".steps [aria-current=step]").inner_text()


def figures(page: Page, place: str) -> dict[str, list[str]]:
    return {
        one.locator("h3").inner_text(): [one.locator(".value").inner_text(), one.locator(".goal").inner_text()]
        for one in page.locator(f"{place} article").all()
    }


def test_it_shows_the_stage_the_figures_beside_their_goals_and_the_gates(browser: Browser) -> None:
    migration = ExampleMigration("reading")
    with opened(browser, migration) as page:
        assert page.locator(".steps li").all_inner_texts() == STAGES
        assert current(page) == "reading"
        assert page.locator(".steps .done").all_inner_texts() == ["following"]
        assert page.title() == "inventory: reading"
        shown = figures(page, ".group .charts")
        assert list(shown)[:4] == ["to-inventory lag", "to-monolith lag", "staleness", "differences"]
        assert shown["to-inventory lag"][0].endswith(" ms")
        assert shown["to-inventory lag"][1] == "goal ≤ 1.0 s, met"
        assert shown["staleness"][1] == "goal ≤ 10.0 s, met"
        assert shown["differences"] == ["0", "goal 0, met"]
        assert figures(page, "#facade-charts")["read-item"] == ["25 %", "goal 100 %"]
        page.get_by_role("status").get_by_text("all gates are open").wait_for()
        migration.closed["to-monolith lag"] = "to-monolith did not bring all that was committed within 1.0 s"
        page.get_by_role("status").get_by_text("gates are closed: inventory").wait_for()
        assert page.locator(".gates li").first.all_inner_texts() == [
            "closed\nto-monolith lag\nto-monolith did not bring all that was committed within 1.0 s"
        ]
        assert figures(page, ".group .charts")["to-monolith lag"][1] == "goal ≤ 1.0 s, missed"
        migration.to("fenced", held_at=time.time() - 2)
        page.get_by_text("Writes are held.").wait_for()
        assert current(page) == "fenced"
        migration.to("watching", pause=0.31)
        page.get_by_text("The new system writes.").wait_for()
        assert figures(page, ".group .charts")["pause of writes"] == ["310 ms", "goal ≤ 5.0 s, met"]


def test_without_a_token_it_shows_all_and_offers_nothing(browser: Browser) -> None:
    with opened(browser, ExampleMigration(), token=None) as page:
        page.get_by_text("This page only shows.").wait_for()
        assert [one for one in page.get_by_role("button").all() if one.is_visible()] == []


def test_both_pages_lead_to_each_other(browser: Browser) -> None:
    with opened(browser, ExampleMigration()) as page:
        page.get_by_role("link", name="this pipeline").click()
        page.get_by_role("link", name="migration").click()
        page.locator(".group").wait_for()  # with the token that was typed in before
        assert page.url.endswith("/migration")


def test_a_wrong_token_shows_nothing(browser: Browser) -> None:
    settings = HttpConfig.model_validate({"port": 0, "token": TOKEN})
    with StatusServer(settings, Progress(), "to-inventory", ExampleMigration()) as server:
        page = browser.new_page()
        page.goto(f"{server.url}/migration")
        page.get_by_label("token").fill("wrong")
        page.keyboard.press("Enter")
        with page.expect_response(lambda answer: answer.status == 401):
            pass
        assert page.locator(".group").count() == 0
        page.close()


def test_it_offers_what_leads_on(browser: Browser) -> None:
    migration = ExampleMigration(None)
    with opened(browser, migration) as page:
        buttons = page.locator(".commands button:visible")
        assert buttons.all_inner_texts() == ["Start"]
        page.get_by_text("not started", exact=True).wait_for()
        migration.to("watching")
        page.get_by_text("The new system writes.").wait_for()
        assert buttons.all_inner_texts() == ["Roll back", "Close"]
        migration.to("drained", direction="back")
        page.get_by_text("Writes are held, on the way back.").wait_for()
        assert buttons.all_inner_texts() == ["Roll back"]


def test_a_command_is_given_by_keyboard_and_followed_to_its_end(browser: Browser) -> None:
    migration = ExampleMigration("following")
    with opened(browser, migration) as page:
        button = page.get_by_role("button", name="Advance")
        button.focus()
        page.keyboard.press("Enter")
        wait_for(lambda: bool(migration.acted))
        assert migration.acted == [(("groups", "inventory", "advance"), {})]
        migration.given = GivenCommand("advance", said=["verifies"])
        page.get_by_text("Advance is under way.").wait_for()
        assert page.locator(".said li").all_inner_texts() == ["verifies"]
        page.keyboard.press("Enter")  # it keeps the focus, and does nothing while one is under way
        assert button.get_attribute("aria-disabled") == "true"
        assert page.evaluate("document.activeElement.textContent") == "Advance"
        migration.to("reading")
        migration.given.seconds, migration.given.stage = 1.5, "reading"
        page.get_by_text("Advance: reading.").wait_for()
        assert len(migration.acted) == 1
        migration.given = GivenCommand("advance", seconds=2.0, fact="the gate clocks is closed", hint="see check")
        page.get_by_text("Advance: the gate clocks is closed. see check").wait_for()


def test_what_holds_writes_is_asked_about_first(browser: Browser) -> None:
    migration = ExampleMigration("ready")
    with opened(browser, migration) as page:
        page.get_by_role("button", name="Advance").focus()
        page.keyboard.press("Enter")
        question = page.get_by_role("dialog", name="Advance inventory?")
        question.get_by_text("Writes go to the new system. Writes are held for 5.0 s at most.").wait_for()
        assert page.evaluate("document.activeElement.textContent") == "Leave it"
        page.keyboard.press("Enter")
        question.wait_for(state="hidden")
        assert page.evaluate("document.activeElement.textContent") == "Advance"
        page.keyboard.press("Enter")
        page.keyboard.press("Escape")
        question.wait_for(state="hidden")
        assert not migration.acted
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        wait_for(lambda: bool(migration.acted))
        migration.to("watching")
        migration.acted.clear()
        page.get_by_role("button", name="Close").click()
        page.get_by_text("There is no way back any more. The rollback window lasts").wait_for()
        page.locator("#question-yes").click()
        wait_for(lambda: migration.acted == [(("groups", "inventory", "close"), {"now": True})])


def test_a_refused_command_says_why(browser: Browser) -> None:
    migration = ExampleMigration("following")
    migration.refusal = ConfigError("advance is at work on group inventory", hint="wait for it")
    with opened(browser, migration) as page:
        page.get_by_role("button", name="Advance").click()
        page.get_by_text("advance is at work on group inventory: wait for it").wait_for()
        page.get_by_role("button", name="50 %").click()
        page.get_by_role("alert").get_by_text("advance is at work").wait_for()


def test_a_weight_is_set_by_its_step(browser: Browser) -> None:
    migration = ExampleMigration()
    with opened(browser, migration) as page:
        weights = page.get_by_role("group", name="weight of read-item").get_by_role("button")
        assert weights.all_inner_texts() == ["0 %", "1 %", "5 %", "25 %", "50 %", "100 %"]
        assert [one.get_attribute("aria-pressed") for one in weights.all()].index("true") == 3
        weights.nth(5).focus()
        page.keyboard.press("Space")
        wait_for(lambda: migration.acted == [(("facade", "read-item"), {"percent": 100})])
        migration.target = 100
        page.get_by_text("25 % at new, on the way to 100 % (step)").wait_for()


def test_what_leaves_while_it_has_the_focus_leaves_the_focus_at_its_group(browser: Browser) -> None:
    migration = ExampleMigration("watching")
    with opened(browser, migration) as page:
        page.get_by_role("button", name="Roll back").focus()
        migration.to("closed")
        page.get_by_role("button", name="Roll back").wait_for(state="hidden")
        assert page.evaluate("document.activeElement.textContent") == "inventory"


def test_the_last_report_is_summed_up_and_opened_with_the_token(browser: Browser) -> None:
    migration = ExampleMigration()
    migration.answers.reports = {"forward": document(report("to-inventory", differences=3))}
    with opened(browser, migration) as page:
        page.get_by_text("3 differences").wait_for()
        rows = page.locator(".group table tbody tr").all()
        assert [one.locator("td").all_inner_texts() for one in rows] == [
            ["public.stock_levels", "200", "14", "3"],
            ["public.stock_adjusted", "48,112", "31", "0"],
        ]
        assert "item-7" not in page.content(), "the page has no key of a row"
        with page.expect_popup() as popup:
            page.get_by_role("link", name="report of the verification from old to new").click()
        popup.value.get_by_role("heading", name="Verification of to-inventory").wait_for()
        popup.value.locator("code", has_text="item-7").wait_for()
        assert popup.value.locator("main").evaluate("one => getComputedStyle(one).maxWidth") == "1056px", (
            "it has its style"
        )


def test_a_server_that_is_gone_is_no_longer_shown_as_running(browser: Browser) -> None:
    server = StatusServer(HttpConfig(port=0), Progress(), "to-inventory", ExampleMigration())
    page = browser.new_page()
    page.goto(f"{server.url}/migration")
    page.get_by_role("status").get_by_text("all gates are open").wait_for()
    server.close()
    page.get_by_role("status").get_by_text("no answer").wait_for()
    page.get_by_text("last seen").wait_for()
    page.close()


def test_a_stage_that_nobody_could_read_is_not_shown(browser: Browser) -> None:
    class Lost(ExampleMigration):
        def document(self) -> Any:
            found: Any = super().document()
            found["groups"][0] |= {"read_seconds_ago": 60.0, "failure": "the server closed the connection"}
            return found

    with opened(browser, Lost()) as page:
        page.get_by_text("The stage was not read for 1 min 0 s.").wait_for()
        page.get_by_text("The stage cannot be read: the server closed the connection").wait_for()
        assert page.locator(".steps [aria-current]").count() == 0
        assert not page.get_by_role("button", name="Advance").is_visible()


PLACES = (
    "h1",
    "h2",
    "h3",
    ".state",
    ".quiet",
    ".steps li",
    ".gates span",
    ".gates strong",
    "th",
    "td",
    ".goal",
    "button",
)


VISIBLE_COLORS = f"all => all.filter(one => one.checkVisibility()).map({COLORS})"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_it_fits_can_be_read_and_strangers_names_are_text(
    browser: Browser, tmp_path: Path, width: int, scheme: Any
) -> None:
    """No sideways scrolling; the text's contrast with its ground is that of WCAG's level AA, 4.5 to 1."""
    migration = ExampleMigration("ready", table=f"public.{HOSTILE}")
    migration.closed["clocks"] = HOSTILE
    migration.to("ready", note=HOSTILE)
    with opened(browser, migration, viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
        page.locator(".gates li").first.wait_for()
        assert page.locator("img, iframe").count() == 0
        assert "onerror=alert(1)" in page.locator(".notes").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for place in PLACES:  # all at once: the page makes some of them anew each second
            for colors in page.locator(place).evaluate_all(VISIBLE_COLORS):
                assert contrast(*colors) >= 4.5, (place, colors)
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        page.get_by_role("button", name="Advance").focus()
        page.keyboard.press("Tab")  # from the keyboard, so that the focus shows
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert (page.evaluate("document.activeElement.textContent"), outline) == ("Roll back", "solid")
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
