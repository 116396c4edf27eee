"""The console in a real Chromium, light and dark, on a desk and on a phone: nothing is blocked, cut off or hard to read.

Needs the dependency group ``browser`` and Chromium (Debian: ``apt-get install chromium``). ``COSELL_SCREENSHOTS`` names a
folder for pictures of every page.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_world import World, busy_world

from cosell_sync.web.server import Listener

playwright = pytest.importorskip(
    "playwright.sync_api", reason="the dependency group browser is not installed"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")

TOKEN = "correct horse battery staple"
DEAL = "/deals/00000301-aaaa-4bbb-8ccc-000000000000"
CONFLICT = "/deals/00000307-aaaa-4bbb-8ccc-000000000000"
PAGES = {
    "overview": "/",
    "deals": "/deals?state=needs-a-person",
    "unanswered": "/deals?state=unanswered",
    "deal": DEAL,
    "sign-in": "/sign-in",
}
SIGNED_IN = {
    "signed-overview": "/",
    "retry": DEAL,
    "approve": "/deals/00000303-aaaa-4bbb-8ccc-000000000000",
    "conflict": CONFLICT,
}
SIZES = {"desk": (1280, 900), "phone": (390, 844), "narrow": (320, 568)}
# Texts whose contrast is below WCAG 2.2, 1.4.3 (4.5 to 1), with what lies behind them.
FAINT = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = node => {
    for (; node; node = node.parentElement) {
      const color = rgb(getComputedStyle(node).backgroundColor);
      if (color.length < 4 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('body *')]
    .filter(node => [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()))
    .map(node => {
      const [a, b] = [light(rgb(getComputedStyle(node).color)), light(behind(node))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.textContent.trim().slice(0, 40)];
    })
    .filter(([ratio]) => ratio < 4.5);
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    file = tmp_path_factory.mktemp("console") / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    return busy_world(token=file)


@pytest.fixture(scope="module")
def address(world: World) -> Iterator[str]:
    with Listener(("127.0.0.1", 0), world.application) as listener:
        yield listener.url


def sign_in(tab: Any, address: str, token: str = TOKEN) -> None:
    tab.goto(f"{address}/sign-in")
    tab.get_by_label("Token").fill(token)
    with tab.expect_navigation():
        tab.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_every_page_is_whole_and_readable(browser: Any, address: str, size: str, scheme: str) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    tab = context.new_page()
    complaints: list[str] = []  # of the content security policy, of missing files
    tab.on("console", lambda message: complaints.append(message.text))
    signed_in = SIGNED_IN if (size, scheme) in {("desk", "light"), ("narrow", "dark")} else {}
    for name, path in {**PAGES, **signed_in}.items():
        if name == next(iter(SIGNED_IN)):
            sign_in(tab, address)
        assert tab.goto(address + path).status == 200
        assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)" if scheme == "light" else "rgb(18, 22, 27)"
        )
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, name
        assert tab.evaluate(FAINT) == [], name
        if folder := os.environ.get("COSELL_SCREENSHOTS"):
            tab.screenshot(path=Path(folder) / f"{name}-{size}-{scheme}.png", full_page=True)
    assert complaints == []
    context.close()


def test_it_is_driven_by_keys_alone(browser: Any, address: str) -> None:
    """The skip link comes first and shows when it has the focus; the filter is sent with Enter; a deal is opened with Enter."""
    tab = browser.new_page()
    tab.goto(f"{address}/deals")
    tab.keyboard.press("Tab")
    skip = tab.locator(":focus")
    assert skip.inner_text() == "Skip to the content"
    assert skip.bounding_box()["x"] >= 0
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.locator(":focus").get_attribute("name") == "state"
    tab.keyboard.press("Tab")
    tab.keyboard.type("mill")
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert tab.get_by_role("row").count() == 2
    for _ in range(9):  # past the header and the form
        tab.keyboard.press("Tab")
        if tab.locator(":focus").inner_text() == "Fabric for the mill":
            break
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert tab.url == address + DEAL
    assert tab.get_by_role("heading", level=1).inner_text() == "Fabric for the mill"
    tab.close()


def test_a_table_stays_a_table_on_a_phone(browser: Any, address: str) -> None:
    """A reader of the screen hears rows and cells though they are laid out as cards."""
    tab = browser.new_page(viewport={"width": 390, "height": 844})
    tab.goto(f"{address}/deals?state=needs-a-person")
    table = tab.get_by_role("table", name="State: Needs a person")
    assert table.get_by_role("row").count() == 4
    assert table.get_by_role("rowheader").count() == 3
    assert table.get_by_role("cell").count() == 8  # of which no next step takes no room
    tab.close()


def test_a_person_signs_in_and_acts_by_keys_alone(browser: Any, address: str, world: World) -> None:
    """A wrong token is told and the field has the focus again; what was ordered has the focus; going back orders nothing anew."""
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address + CONFLICT)
    tab.get_by_role("link", name="Sign in to act on this deal").press("Enter")
    tab.get_by_label("Token").press_sequentially("not the token at all")
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert tab.get_by_role("alert").inner_text() == "This is not the token."
    assert tab.locator(":focus").get_attribute("aria-describedby") == "wrong"
    assert tab.locator(":focus").input_value() == ""
    tab.keyboard.type(TOKEN)
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert tab.url == address + CONFLICT
    assert tab.get_by_role("form", name="Answer the conflict: Amount").count() == 1
    kept = tab.get_by_role("button", name="Keep what the CRM has: 275,000")
    assert kept.is_visible()
    kept.focus()
    with tab.expect_navigation():
        tab.keyboard.press("Enter")
    assert tab.url == f"{address}{CONFLICT}#orders"
    told = tab.get_by_role("status")
    assert told.inner_text() == "Waits for the next cycle Amount: keep the value of the CRM"
    assert tab.evaluate("document.activeElement.id || document.querySelector(':target').id") == "orders"
    if folder := os.environ.get("COSELL_SCREENSHOTS"):
        tab.screenshot(path=Path(folder) / "ordered.png", full_page=True)
    tab.reload()
    tab.go_back()
    tab.go_forward()
    assert [order.field for order in world.store.orders()] == ["value"]
    with tab.expect_navigation():
        tab.get_by_role("button", name="Sign out").press("Enter")
    tab.goto(address + CONFLICT)
    assert tab.get_by_role("button", name="Keep").count() == 0
    context.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_page_of_another_site_orders_nothing(browser: Any, address: str, world: World, host: str) -> None:
    """It stands on this machine too, on another port, so that cookies and SameSite alone would not keep it out."""
    context = browser.new_context()
    tab = context.new_page()
    sign_in(tab, address)
    tab.goto(address + DEAL)
    key = tab.locator("form.card input[name=form_key]").first.get_attribute("value")
    before = world.store.orders()
    page = (
        f'<form action="{address}{DEAL}" method="post"><input name="verb" value="retry"><input name="form_key" value="{key}">'
        "<button>Win a prize</button></form>"
    )
    elsewhere = f"http://{host}:9/"
    tab.route(elsewhere, lambda route: route.fulfill(body=page, content_type="text/html"))
    tab.goto(elsewhere)
    with tab.expect_navigation():
        tab.get_by_role("button", name="Win a prize").click()
    assert tab.get_by_role("heading", level=1).inner_text() == "Nothing was done"
    assert world.store.orders() == before
    context.close()
