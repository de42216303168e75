"""A person's work in the browser: look, submit, follow, stop, by mouse and by keyboard."""

import time

from selenium.webdriver.common.keys import Keys

from tests.browser.chromium import Browser, Service
from tests.browser.filled import spec

EDITOR_SECONDS = 0.3  # the editor takes no choice in the first moment of its list


def written(browser: Browser) -> str:
    return str(browser.run("return document.getElementById('text').value"))


def write(browser: Browser, text: str) -> None:
    """In the place of what the editor holds."""
    browser.until("return !!window.editor")
    browser.run("editor.dispatch({changes: {from: 0, to: editor.state.doc.length, insert: arguments[0]}})", text)


def test_a_study_is_written_checked_submitted_and_cancelled(browser: Browser) -> None:
    browser.open("/submit?table=digits&scale=smoke")
    browser.until("return document.getElementById('plan').innerText.includes('What would run')")
    assert [each.get_attribute("value") for each in browser.all("form.filter select")] == ["digits", "smoke"]
    good = written(browser)
    write(browser, good.replace("distiller: fitnet", "distiller: fitnt"))
    browser.until("return document.getElementById('plan').innerText.includes('to mend')")
    line = next(number for number, text in enumerate(written(browser).splitlines(), 1) if "fitnt" in text)
    assert f"line {line}" in browser.text("#plan")
    assert "did you mean 'fitnet'?" in browser.text("#plan")
    browser.until("return editor.dom.querySelectorAll('.cm-lintRange-error').length === 1")
    browser.one("#plan [data-line]").click()
    assert browser.run("return editor.state.doc.lineAt(editor.state.selection.main.head).number") == line
    write(browser, good)
    browser.until("return document.getElementById('plan').innerText.includes('What would run')")
    browser.one("button.main").click()
    browser.until("return location.pathname.match(/^\\/studies\\/\\d+$/)")
    assert "queued" in browser.text("h1")
    browser.run("[...document.querySelectorAll('button')].find(each => each.innerText === 'Cancel').click()")
    browser.until("return document.querySelector('h1')?.innerText.includes('cancelled')")
    assert browser.complaints() == []


def test_fields_and_names_are_completed(browser: Browser) -> None:
    browser.open("/submit")
    browser.until("return !!window.editor")
    browser.run("editor.focus()")
    browser.press("data")
    browser.until("return editor.dom.parentNode.querySelector('.cm-tooltip-autocomplete')?.innerText.includes('dataset')")
    time.sleep(EDITOR_SECONDS)
    browser.press(Keys.ENTER)
    browser.until("return document.getElementById('text').value === 'dataset: '")
    browser.press("dig")
    browser.until("return editor.dom.parentNode.querySelector('.cm-tooltip-autocomplete')?.innerText.includes('digits')")
    time.sleep(EDITOR_SECONDS)
    browser.press(Keys.ENTER)
    browser.until("return document.getElementById('text').value === 'dataset: digits'")


def test_a_page_follows_what_happens(browser: Browser, service: Service) -> None:
    driven = service.filled.submit(spec("Followed", seeds=1))
    browser.open(f"/studies/{driven.id}")
    browser.run("window.mark = 'the same page'")
    assert "queued" in browser.text("h1")
    driven.start()
    browser.until("return document.querySelector('h1').innerText.includes('running')")
    assert browser.run("return window.mark") == "the same page"
    name = next(iter(driven.planned))
    driven.begin(name)
    driven.epoch(name, 1, 21.5)
    browser.until("return document.querySelector('#trials')?.innerText.includes('21.5')")
    browser.open("/studies")
    browser.run("window.mark = 'the same list'")
    service.filled.store.request_cancel(driven.id)
    service.filled.store.stopped(driven.id, driven.attempt)
    browser.until("return document.querySelector('tbody tr').innerText.includes('cancelled')")
    assert browser.run("return window.mark") == "the same list"


def test_a_link_keeps_the_focus_when_its_part_changes(browser: Browser, service: Service) -> None:
    driven = service.filled.submit(spec("Focus", seeds=1))
    browser.open("/studies")
    browser.run("document.querySelector('tbody th a').focus()")
    service.filled.store.request_cancel(driven.id)
    browser.until("return document.querySelector('tbody tr').innerText.includes('cancelled')")
    assert browser.focused() == "Focus"


def test_the_keyboard_leads_to_everything(browser: Browser) -> None:
    browser.open("/studies")
    browser.press(Keys.TAB)
    assert browser.focused() == "Skip to the content"
    browser.press(Keys.ENTER)
    for _ in range(12):
        browser.press(Keys.TAB)
        if browser.run("return document.activeElement.matches('tbody th a')"):
            break
    name = browser.focused()
    browser.press(Keys.ENTER)
    browser.until("return location.pathname !== '/studies'")
    assert browser.text("h1").startswith(name)


def test_the_editor_is_no_trap_for_the_keyboard(browser: Browser) -> None:
    browser.open("/submit?table=digits")
    browser.until("return !!window.editor")
    browser.run("editor.focus()")
    browser.press(Keys.TAB)
    browser.until("return document.activeElement.innerText === 'Submit'")


def test_ticked_rows_are_compared_seed_by_seed(browser: Browser) -> None:
    browser.open("/studies/2")
    for row in ("student", "fitnet"):
        browser.run(f"document.querySelector('input[value=\"2:{row}\"]').click()")
    browser.run("[...document.querySelectorAll('button')].find(each => each.innerText === 'Compare the ticked rows').click()")
    browser.until("return location.pathname === '/compare'")
    lines = browser.run("return [...document.querySelectorAll('tbody tr')].map(each => each.innerText.split('\\t'))")
    assert lines[0][0].startswith("student alone")
    table = browser.run("return fetch('/v1/studies/2/table?format=json').then(answer => answer.json())")
    gain = next(row for row in table["rows"] if row["id"] == "fitnet")["cells"]["AP"]
    assert lines[1][3].strip() == f"{gain['gain']:+.1f} ±{gain['gain_half_width']:.1f}"


def test_trials_are_filtered_by_their_state(browser: Browser) -> None:
    browser.open("/studies/2?state=failed")
    assert browser.run("return document.querySelectorAll('#trials tbody tr').length") == 1
    assert "lower schedule.lr" in browser.text("#trials")


def test_a_schedule_is_made_paused_and_removed(browser: Browser) -> None:
    browser.open("/submit?table=digits&scale=smoke")
    browser.until("return !!window.editor")
    browser.one(".again summary").click()
    browser.one("input[name=cron]").send_keys("0 2 * * 6")
    browser.run("document.querySelector('[formaction]').click()")
    browser.until("return location.pathname.startsWith('/schedules/')")
    assert "0 2 * * 6 in UTC" in browser.text(".meta")
    for wish, told in (("Pause", "paused"), ("Resume", "Next")):
        browser.run(f"[...document.querySelectorAll('button')].find(each => each.innerText === '{wish}').click()")
        browser.until(f"return document.querySelector('main').innerText.includes('{told}')")
    browser.one(".sure summary").click()
    browser.one(".sure button").click()
    browser.until("return location.pathname === '/schedules'")
