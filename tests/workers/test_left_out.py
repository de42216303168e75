"""mmdet imports what a trial needs of it, and the rest still works where somebody uses it."""

import subprocess
import sys

import pytest

HEAVY = ("imgaug", "sklearn.base", "seaborn", "pandas", "numba", "scipy.stats", "matplotlib.pyplot")


def run(code: str) -> str:
    """The last line that a fresh process prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_a_trial_loads_nothing_of_it() -> None:
    code = f"import sys, workers.training.trial; print([name for name in {HEAVY} if name in sys.modules])"
    assert run(code) == "[]"


@pytest.mark.parametrize(
    "use",
    [
        "from mmdet.models.dense_heads.paa_head import skm; print(skm.GaussianMixture(2).n_components)",
        "from sklearn.mixture import GaussianMixture; print(GaussianMixture(2).n_components)",
        "import sklearn.cluster; print(sklearn.cluster.KMeans(2).n_clusters)",
        "import importlib.util; print(sum(importlib.util.find_spec(name) is not None for name in ('sklearn', 'imagecorruptions')))",
        "from sklearn import metrics, mixture; print(mixture.GaussianMixture(2).n_components)",
        "from mmdet.datasets.transforms.transforms import corrupt; import numpy as np; "
        "print(corrupt(np.zeros((64, 64, 3), np.uint8), corruption_name='contrast', severity=2).ndim - 1)",
        "import imagecorruptions; print(len(imagecorruptions.get_corruption_names()) - 13)",
    ],
)
def test_packages_come_when_they_are_used(use: str) -> None:
    assert run("import workers, mmdet.models, mmdet.datasets; " + use) == "2"


def test_what_is_left_out_says_so() -> None:
    use = "from mmdet.models.task_modules.tracking import InterpolateTracklets as T\n"
    assert run(f"import workers, mmdet.models\n{use}try:\n T()\nexcept ImportError as error:\n print(error)") == (
        "mmdet.models.task_modules.tracking.interpolation.InterpolateTracklets is left out of mmdet here (workers/left_out.py)"
    )
