"""Takes the pictures of the pages in docs/images: `python docs/screenshots.py`, from the repository's root.

`python docs/screenshots.py FOLDER` takes every page at 390 and 1440 pixels, light and dark, to be looked at. A service runs over studies
made for it; nothing is trained, so the numbers on the pictures mean nothing.
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
LOOKS = [(width, scheme) for width in (1440, 390) for scheme in ("light", "dark")]
KEPT = {"studies", "study", "trial", "compare", "tables", "queue", "submit"}
KEPT_LOOKS = [(1440, "light"), (390, "dark")]
PAGES = {
    "studies": "/studies",
    "study": "/studies/1",
    "curves": "/studies/2#gains",
    "search": "/studies/8",
    "figures": "/studies/2/figures",
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
    folder = Path(sys.argv[1]) if sys.argv[1:] else IMAGES
    looks = LOOKS if sys.argv[1:] else KEPT_LOOKS
    pages = {name: path for name, path in PAGES.items() if sys.argv[1:] or name in KEPT}
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as service:
        browser = Browser(service.url)
        try:
            browser.log_in(service.token)
            for width, scheme in looks:
                browser.size(width)
                browser.scheme(scheme)
                for name, path in pages.items():
                    browser.open(path)
                    time.sleep(1)  # charts and the editor
                    height = min(TALLEST, browser.run("return document.documentElement.scrollHeight"))
                    (folder / f"{name}-{width}-{scheme}.png").write_bytes(_smaller(browser.picture(width, height)))
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
