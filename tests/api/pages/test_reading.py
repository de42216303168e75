"""Tables as pages keep them: what was built before never shows."""

from api.pages.reading import Reading
from orchestrator.records.store import Store
from studies.submission import read_submission
from tests.api.conftest import SPEC, Driver


def test_a_table_that_was_looked_at_before_is_the_one_built_anew(store: Store) -> None:
    study = store.create_study(read_submission(SPEC))[0].id
    kept, driver = Reading(store), Driver(store, study)

    def looked_at() -> list[int]:
        """Rows with a result, once the kept table is that of somebody who looks for the first time."""
        table = kept.table(store.study(study))
        assert table == Reading(store).table(store.study(study))
        return [len(row.cells) for row in table.rows]

    seen = [looked_at()]
    driver.start()
    for rank, name in enumerate(driver.planned):
        driver.begin(name)
        looked_at()
        driver.epoch(name, 1, 7.0)
        looked_at()
        driver.finish(name, 40.0 + rank)
        store.note(study, "something happened")
        seen.append(looked_at())
    store.conclude(study, driver.attempt)
    looked_at()
    assert len({tuple(each) for each in seen}) > 2


def test_what_changes_no_table_has_none_built(store: Store) -> None:
    study = store.create_study(read_submission(SPEC))[0].id
    reading, driver = Reading(store), Driver(store, study)
    driver.start()
    name = next(iter(driver.planned))
    driver.begin(name)
    first = reading.table(store.study(study))
    driver.epoch(name, 1, 7.0)
    store.note(study, "something happened")
    assert reading.table(store.study(study)) is first
    driver.finish(name, 40.0)
    assert reading.table(store.study(study)) is not first
