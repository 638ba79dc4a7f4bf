# Copyright 2026 The hf_autoencoders team. Licensed under the Apache License, Version 2.0.
"""The demo in headless Chromium, as a reader meets it.

It takes gradio and selenium (pip install -e ".[demo-test]"), and Chromium with its driver (Debian: chromium-driver).
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import pytest
from PIL import Image
from test_demo import DEMO, ROOT, write_run


pytest.importorskip("gradio", reason="the demo's extra is not installed: gradio")
pytest.importorskip("selenium", reason="browser tests drive Chromium by selenium, which is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if not (CHROMIUM and DRIVER):
    pytest.skip("there is no chromium with a chromedriver on the PATH", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402


PATIENCE = 240  # seconds; a busy machine is no failure
LOCAL = ("http://127.0.0.1:", "data:", "blob:", "chrome")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A demo of an AE beside a VQ-VAE, untrained, on the embedded digits."""
    folder, port = tmp_path_factory.mktemp("runs"), free_port()
    runs = [str(write_run(folder / f"{name} ${{window.ran = 1}}<i>", name)) for name in ("ae", "vqvae")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(DEMO), *runs, "--port", str(port), "--max_eval_samples", "50"]
    log = folder / "log"
    with log.open("w") as file:
        demo = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE
        while "Running on" not in log.read_text():
            assert demo.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        demo.kill()
        demo.wait()


@pytest.fixture(scope="module")
def browser(address):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        browser.get(address)
        wait(browser, lambda: len(all_of(browser, "#planes .decoded[src]")) == 2)
        yield browser
    finally:
        browser.quit()


def wait(browser, condition):
    return WebDriverWait(browser, PATIENCE).until(lambda _: condition())


def all_of(browser, selector: str) -> list:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def sources(browser, selector: str) -> list[str]:
    return [picture.get_attribute("src") for picture in all_of(browser, selector)]


def words_of(browser, selector: str) -> list[str]:
    return [element.text for element in all_of(browser, selector)]


def open_tab(browser, words: str) -> None:
    next(tab for tab in all_of(browser, "button[role=tab]") if words in tab.text).click()


def test_the_name_of_a_folder_is_shown_and_not_run(browser):
    assert browser.execute_script("return window.ran") is None
    assert "ae ${window.ran = 1}<i>" in words_of(browser, "#planes h3")


def test_a_drag_through_one_plane_changes_the_picture_and_moves_in_the_other(browser):
    before, captions = sources(browser, "#planes .decoded"), words_of(browser, "#planes figcaption")
    plane = all_of(browser, "#planes .plane")[0]
    drag = ActionChains(browser, duration=20).move_to_element_with_offset(plane, -90, 60).click_and_hold()
    for _ in range(5):
        drag.move_by_offset(20, -15)
    drag.release().perform()
    wait(browser, lambda: sources(browser, "#planes .decoded")[0] != before[0])
    wait(browser, lambda: all(a != b for a, b in zip(captions, words_of(browser, "#planes figcaption"), strict=True)))
    marks = browser.execute_script("return [...document.querySelectorAll('.plane i')].map(dot => dot.style.left)")
    assert marks[0] == marks[1]


def test_unticked_only_the_dragged_plane_moves(browser):
    box = all_of(browser, "#planes input[type=checkbox]")[0]
    box.click()
    before = sources(browser, "#planes .decoded")
    all_of(browser, "#planes .plane")[0].click()
    ActionChains(browser).send_keys("\ue014" * 5).perform()  # five times the right arrow
    wait(browser, lambda: sources(browser, "#planes .decoded")[0] != before[0])
    assert sources(browser, "#planes .decoded")[1] == before[1]
    box.click()


def test_a_click_on_a_code_changes_the_decoded_picture_and_back(browser):
    open_tab(browser, "Picture")
    wait(browser, lambda: len(all_of(browser, "#board-1 .cells button")) == 16)
    encoded = sources(browser, "#board-1 .decoded")
    cell = all_of(browser, "#board-1 .cells button")[5]
    other = str((int(cell.text) + 1) % 6)
    cell.click()
    browser.find_element(By.CSS_SELECTOR, f"#board-1 .palette button[data-code='{other}']").click()
    wait(browser, lambda: sources(browser, "#board-1 .decoded") != encoded)
    assert all_of(browser, "#board-1 .cells button")[5].text == other
    browser.find_element(By.CSS_SELECTOR, "#board-1 .reset").click()
    wait(browser, lambda: sources(browser, "#board-1 .decoded") == encoded)


def test_the_arrow_keys_choose_a_cell_and_the_picture_shows_where_it_lies(browser):
    all_of(browser, "#board-1 .cells button")[5].click()  # row 2, column 2
    ActionChains(browser).send_keys("\ue014\ue015").perform()  # right, down
    assert browser.find_element(By.CSS_SELECTOR, "#board-1 .said").text.startswith("Row 3, column 3:")
    place = browser.execute_script("return document.querySelector('#board-1 .place').style.cssText")
    assert "top: 50%" in place and "left: 50%" in place and "width: 25%" in place


def test_the_slider_uncovers_the_decoded_picture_or_the_original(browser):
    def covered() -> str:
        return browser.execute_script("return getComputedStyle(document.querySelector('#board-0 .decoded')).clipPath")

    assert covered() == "inset(0px 0px 0px 50%)"
    slider = browser.find_element(By.CSS_SELECTOR, "#board-0 .split")
    ActionChains(browser).move_to_element_with_offset(slider, -slider.size["width"] // 4, 0).click().perform()
    assert float(re.search(r"([\d.]+)%", covered()).group(1)) == pytest.approx(25, abs=2)
    slider.send_keys("\ue010")  # End
    assert covered() == "inset(0px 0px 0px 100%)"


def test_a_picture_of_ones_own_is_decoded_and_its_quality_is_named(browser, tmp_path):
    before = sources(browser, ".seen")
    Image.effect_mandelbrot((300, 200), (-2, -1.5, 1, 1.5), 50).convert("RGB").save(tmp_path / "own.jpg")
    browser.find_element(By.CSS_SELECTOR, "#canvas input[type=file]").send_keys(str(tmp_path / "own.jpg"))
    wait(browser, lambda: all(a != b for a, b in zip(before, sources(browser, ".seen"), strict=True)))
    assert all(re.fullmatch(r"PSNR -?\d+\.\d dB", words) for words in words_of(browser, ".quality"))


def test_a_code_that_does_not_exist_is_refused_in_words(browser):
    all_of(browser, "#board-1 .cells button")[0].click()
    field = browser.find_element(By.CSS_SELECTOR, "#board-1 input[type=number]")
    field.clear()
    field.send_keys("6\n")
    said = browser.find_element(By.CSS_SELECTOR, "#board-1 .said")
    wait(browser, lambda: said.text == "A code is a whole number from 0 to 5.")


def test_a_stroke_on_the_canvas_is_seen_by_both_models(browser):
    browser.find_element(By.CSS_SELECTOR, "#canvas .empty").click()
    before = sources(browser, ".seen")
    canvas = browser.find_element(By.CSS_SELECTOR, "#canvas canvas")
    stroke = ActionChains(browser, duration=20).move_to_element_with_offset(canvas, -60, 0)
    stroke.click_and_hold().move_by_offset(60, 30).move_by_offset(60, -30).release().perform()
    wait(browser, lambda: all(a != b for a, b in zip(before, sources(browser, ".seen"), strict=True)))


def test_ways_and_samples_are_shown_for_both_models(browser):
    open_tab(browser, "Interpolate")
    wait(browser, lambda: len(sources(browser, "#way-0 img, #way-1 img")) == 2)
    open_tab(browser, "Sample")
    wait(browser, lambda: "no prior to sample from" in browser.find_element(By.ID, "samples-0").text)
    before = wait(browser, lambda: sources(browser, "#samples-1 img"))
    next(button for button in all_of(browser, "button") if button.text == "Draw others").click()
    wait(browser, lambda: sources(browser, "#samples-1 img") not in ([], before))


def test_the_page_fits_a_laptop_and_says_nothing_of_errors(browser):
    open_tab(browser, "Plane")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_two_planes_stand_side_by_side_on_a_laptop(browser):
    left, right = (plane.rect for plane in all_of(browser, "#planes .plane"))
    assert left["y"] == right["y"] and left["x"] + left["width"] < right["x"]


def test_all_of_it_fits_the_width_of_a_phone(browser):
    """390 pixels: no tab is in a menu, nothing lies beyond the edge, and a plane is nearly as wide as the screen."""
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        names = [tab.text for tab in all_of(browser, "button[role=tab]")]
        assert names == ["Plane", "Picture", "Interpolate", "Sample"]
        for name in names:
            open_tab(browser, name)
            assert browser.execute_script("return document.documentElement.scrollWidth") == 390, name
        open_tab(browser, "Plane")
        assert [plane.rect["width"] for plane in all_of(browser, "#planes .plane")] == [pytest.approx(350, abs=20)] * 2
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_nothing_leaves_the_machine(browser):
    """Last: of all that the tests above made the page ask for."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked and [url for url in asked if not url.startswith(LOCAL)] == []
