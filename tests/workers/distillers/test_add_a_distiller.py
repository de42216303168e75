"""The page on adding a distiller, done as it says: its files installed beside Retort, in a process of their own."""

import re
from pathlib import Path

import pytest

from tests.workers import package_page
from tests.workers.package_page import ROOT, install, run

PAGE = "add-a-distiller.md"
REFUSED = "arms.2.options.loss_weight: Input should be greater than or equal to 0"

CHECK = """
from pathlib import Path

from studies.documents import read_document
from studies.expand import expand
from studies.methods import methods
from studies.parse import parse_study
from studies.problems import SpecError

assert methods()["cosine"].paper == "this page"
text = Path("study.yaml").read_text()
study = parse_study(read_document(text, "yaml"))
assert expand(study).trial("cosine", 0).distillers[0].options == {"loss_weight": 2.0}
assert [use.id for use in study.arms[3].uses()] == ["cosine", "fitnet"]
try:
    parse_study(read_document(text.replace("loss_weight: 2", "loss_weight: -2"), "yaml"))
except SpecError as error:
    print(error)
"""

VERSIONS = """
from studies.code import code_version
from studies.spec import MethodUse, Network, Schedule
from studies.trial import TrialSpec

for name in ("cosine", "fitnet"):
    network = Network(detector="gfl", backbone="resnet18")
    trial = TrialSpec(dataset="digits", scale="nano", network=network, schedule=Schedule(), seed=0, distillers=[MethodUse(id=name)])
    print(code_version(trial.methods))
"""


def blocks(language: str) -> list[str]:
    return package_page.blocks(PAGE, language)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the page's files, installed."""
    install(PAGE, tmp_path)
    return tmp_path


def test_it_is_in_the_catalogue_and_in_specs(installed: Path) -> None:
    assert REFUSED in run(installed, CHECK)


def test_it_runs_on_a_step(installed: Path) -> None:
    printed = run(installed, blocks("python")[1])
    value = re.fullmatch(r"Cosine \{'loss_cosine': tensor\(([\d.]+), grad_fn=.*\)\}", printed.strip().splitlines()[-1])
    assert value is not None, printed
    assert float(value[1]) == pytest.approx(3, abs=0.5)  # random directions are at right angles: 1 for each of three levels


def test_it_trains_in_a_second_module(installed: Path) -> None:
    """The page's advice for a machine without torch: METHOD alone, the distiller in `retort_cosine_loss.py`."""
    whole = blocks("python")[0]
    options, distiller, method = re.split(r"\n\n\n(?=class Cosine\(|METHOD)", whole)
    (installed / "retort_cosine_loss.py").write_text(options + "\n\n\n" + distiller)
    light = [line for line in options.splitlines() if "torch" not in line and "workers" not in line]
    declaration = method.replace("retort_cosine:Cosine", "retort_cosine_loss:Cosine")
    (installed / "retort_cosine.py").write_text("\n".join(light) + "\n\n\n" + declaration)
    assert "without torch" in run(installed, "import sys\n" + CHECK + "assert 'torch' not in sys.modules\nprint('without torch')")
    assert "loss_cosine" in run(installed, blocks("python")[1])


def test_a_changed_formula_is_another_trial(installed: Path) -> None:
    before = run(installed, VERSIONS).split()
    module = installed / "retort_cosine.py"
    module.write_text(module.read_text().replace("dim=1)).mean()", "dim=1)).square().mean()"))
    cosine, fitnet = run(installed, VERSIONS).split()
    assert cosine != before[0]
    assert fitnet == before[1]


def test_a_broken_file_takes_nothing_down(installed: Path) -> None:
    (installed / "retort_cosine.py").write_text("import no_such_module\n")
    code = "from studies.methods import methods\nprint('cosine' in methods(), 'fitnet' in methods())"
    assert run(installed, code).split() == ["False", "True"]


def test_the_method_that_reads_gradients_is_shown_as_it_is() -> None:
    source = (ROOT / "workers" / "distillers" / "gkd.py").read_text()
    assert source.endswith(blocks("python")[2])
