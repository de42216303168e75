"""The list of the zoo's weights in `studies` against mmdet's own files; `python -m tests.workers.weights.test_zoo` writes it anew."""

from studies.catalog import FORMS
from studies.weights import ZOO_LIST, zoo_names
from workers.weights.store import NAME, address_of, zoo


def published() -> list[str]:
    """Configs of the installed mmdet that have a checkpoint and a name that a spec can say."""
    return sorted(config for config in zoo() if NAME.fullmatch(f"zoo/{config}"))


def test_the_list_is_what_the_installed_library_publishes() -> None:
    assert ZOO_LIST.read_text().splitlines() == published()
    assert len(published()) > 500


def test_every_name_of_the_list_has_an_address() -> None:
    assert all(address_of(name).startswith("https://") for name in zoo_names())


def test_what_forms_start_from_is_in_the_list() -> None:
    starts = {start for form in FORMS.values() for start in form.starts.values()}
    assert {start for start in starts if start.startswith("zoo/")} <= zoo_names()


if __name__ == "__main__":
    ZOO_LIST.write_text("\n".join(published()) + "\n")
