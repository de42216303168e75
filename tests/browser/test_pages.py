"""Every page as people open it: nothing is refused or loaded from elsewhere, it fits a phone, and everybody can use it."""

import pytest

from tests.browser.chromium import Browser
from tests.browser.conftest import AXE, PAGES
from tests.browser.filled import MARKUP


def settled(browser: Browser) -> None:
    """The scripts have done what they do at first."""
    if browser.all(".editing"):
        browser.until("return !!document.querySelector('.codemirror')")
    if browser.all(".curves"):
        browser.until("return !!document.querySelector('.curves canvas')")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_breaks_no_rule_of_its_own(browser: Browser, name: str) -> None:
    browser.open(PAGES[name])
    settled(browser)
    assert [told for told in browser.complaints() if "404 (Not Found)" not in told or name != "an error"] == []
    assert [address for address in browser.asked() if not address.startswith(browser.url)] == []
    assert browser.all("h1")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(browser: Browser, name: str) -> None:
    browser.size(390, 844)
    browser.open(PAGES[name])
    settled(browser)
    assert browser.run("return document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_use_the_pages(browser: Browser, scheme: str) -> None:
    browser.scheme(scheme)
    found = {}
    for name, path in PAGES.items():
        browser.open(path)
        settled(browser)
        browser.run(AXE + "; window.axe = axe")
        told = browser.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations.map("
            "v => `${v.impact} ${v.id}: ${v.nodes[0].target} ${v.nodes[0].failureSummary}`)))"
        )
        found[name] = [each for each in told if each.startswith(("serious", "critical"))]
    assert {name: told for name, told in found.items() if told} == {}


def test_titles_with_markup_stay_text(browser: Browser) -> None:
    for path in ("/studies", "/studies/2", "/studies/2/trials/pdf/seed-0", "/compare?row=2:student&row=2:pdf", "/submit?study=2"):
        browser.open(path)
        settled(browser)
        assert browser.all("main img, main b") == []
        assert MARKUP in (browser.text() if "submit" not in path else browser.run("return document.getElementById('text').value")), path
    assert browser.complaints() == []


def test_light_and_dark_are_chosen_and_kept(browser: Browser) -> None:
    browser.scheme("dark")
    browser.open("/studies")
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = browser.run(ground)
    assert browser.text("#theme") == "Light"
    browser.one("#theme").click()
    light = browser.run(ground)
    assert (dark, light) == ("rgb(20, 24, 28)", "rgb(255, 255, 255)")
    browser.open("/tables")
    assert browser.run(ground) == light


def test_a_table_is_sorted_by_its_headings(browser: Browser) -> None:
    browser.open("/studies/2")
    titles = "return [...document.querySelectorAll('.results tbody th')].map(each => each.innerText)"
    assert browser.run(titles)[:2] == ["teacher: GFL ResNet-34", "student alone"]
    browser.one(".results thead th:nth-child(2) a").click()
    values = browser.run("return [...document.querySelectorAll('.results tbody td:nth-child(2)')].map(each => parseFloat(each.innerText))")
    assert values == sorted(values, reverse=True)
    assert browser.one(".results thead th:nth-child(2)").get_attribute("aria-sort") == "descending"
    browser.one(".results thead th:nth-child(2) a").click()
    assert browser.run(titles)[0] == "student alone"


def test_curves_are_drawn_and_told_in_a_legend(browser: Browser) -> None:
    browser.open("/studies/2")
    browser.until("return document.querySelector('.curves').dataset.drawn === 'AP'")
    assert len(browser.all(".legend input")) == 5
    drawn = browser.run("return document.querySelector('.curves canvas').toDataURL()")
    browser.one(".legend input").click()
    browser.until("return document.querySelector('.curves canvas').toDataURL() !== arguments[0]", drawn)
    browser.run("const s = document.querySelector('[data-metric]'); s.value = 'loss'; s.dispatchEvent(new Event('change'))")
    browser.until("return document.querySelector('.curves').dataset.drawn === 'loss'")


def test_a_trial_shows_its_images_with_boxes(browser: Browser) -> None:
    browser.open("/studies/2/trials/fitnet/seed-0")
    told = browser.run("return [...document.querySelectorAll('figcaption')].slice(0, 3).map(each => each.innerText)")
    assert told == ["objects image 3", "teacher 1 right, 0 false", "student 1 right, 1 false"]
    assert len(browser.all("figure:nth-of-type(3) rect.false")) == 1
