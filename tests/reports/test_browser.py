"""The page in a real browser: nothing is asked of the network, nothing is complained of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from robustexit.reports import write_report

CHROMIUM = Path("/usr/bin/chromium")
DRIVER = Path("/usr/bin/chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if not (CHROMIUM.exists() and DRIVER.exists()):
        pytest.skip("Debian's chromium and chromedriver are not installed")
    options = selenium.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(executable_path=str(DRIVER)))
    yield driver
    driver.quit()


def requests(driver):
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def visit(driver, path, width):
    driver.get_log("performance")
    driver.set_window_size(width, 900)
    driver.get(path.as_uri())
    return path.as_uri()


@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_quiet_and_fits(browser, pair, manifest, tmp_path, width):
    page = write_report(pair, manifest, tmp_path)[0]
    url = visit(browser, page, width)
    assert browser.get_log("browser") == []
    assert {asked for asked in requests(browser) if not asked.startswith("data:")} == {url}
    answer = browser.find_element("tag name", "h1")
    assert "On reviews" in answer.text and answer.location["y"] < 500
    overflow = browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert overflow <= 0, f"the page is {overflow} px wider than a window of {width}"
    assert len(browser.find_elements("css selector", "figure svg")) >= 4


CONTRAST = """
const channel = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
const parse = c => { const m = c.match(/rgba?\\(([^)]+)\\)/); if (!m) return null;
  const p = m[1].split(',').map(Number); return p.length === 4 && p[3] < 1 ? null : p; };
const light = c => .2126 * channel(c[0]) + .7152 * channel(c[1]) + .0722 * channel(c[2]);
const bad = [];
for (const e of document.querySelectorAll('h1,h2,h3,p,th,td,li,dt,dd,a,ins,del,span,code,summary,figcaption')) {
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
  let at = e, back = null;
  while (at && !back) { const s = getComputedStyle(at).backgroundColor;
    if (s.startsWith('color')) { back = 'skip'; } else { back = parse(s); } at = at.parentElement; }
  const ink = parse(getComputedStyle(e).color);
  if (!ink || !back || back === 'skip' || !e.getClientRects().length) continue;
  const [a, b] = [light(ink), light(back)].sort((x, y) => y - x);
  const ratio = (a + .05) / (b + .05);
  if (ratio < 4.5) bad.push(`${e.tagName}.${e.className} ${ratio.toFixed(2)} ${e.textContent.slice(0, 30)}`);
}
return bad;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrast_is_aa(browser, pair, manifest, tmp_path, scheme):
    page = write_report(pair, manifest, tmp_path)[0]
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    visit(browser, page, 1280)
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ("rgb(20" in background) == (scheme == "dark")
    assert browser.execute_script(CONTRAST) == []
