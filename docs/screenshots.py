"""Takes the pictures of the pages in docs/images: `python docs/screenshots.py`, from the repository's root.

A service runs over studies made for it; nothing is trained, so the numbers on the pictures mean nothing.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.browser.chromium import Browser, serving
from tests.browser.filled import TABLE

IMAGES = Path(__file__).resolve().parent / "images"
TALLEST = 1400
PAGES = {
    "studies": "/studies",
    "study": "/studies/1",
    "curves": "/studies/2#gains",
    "trial": "/studies/2/trials/fitnet/seed-0",
    "compare": "/compare?row=2:student&row=2:ld&row=2:fitnet",
    "tables": "/tables",
    "table": f"/tables/{TABLE}",
    "schedule": "/schedules/1",
    "queue": "/queue",
    "status": "/status",
    "submit": "/submit?table=digits",
}


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as service:
        browser = Browser(service.url)
        try:
            browser.log_in(service.token)
            for width, scheme in ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")):
                browser.size(width)
                browser.scheme(scheme)
                for name, path in PAGES.items():
                    browser.open(path)
                    time.sleep(1)  # charts and the editor
                    height = min(TALLEST, browser.run("return document.documentElement.scrollHeight"))
                    (IMAGES / f"{name}-{width}-{scheme}.png").write_bytes(_smaller(browser.picture(width, height)))
        finally:
            browser.driver.quit()


def _smaller(png: bytes) -> bytes:
    """The picture in 128 colours, a third of its size."""
    import io

    from PIL import Image

    kept = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(kept, "PNG", optimize=True)
    return kept.getvalue()


if __name__ == "__main__":
    main()
