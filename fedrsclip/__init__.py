"""FedRSCLIP: the `fedrsclip` command, the workbench around the federated apps, and its Python API.

Names are imported when they are first used, so that ``import fedrsclip`` takes no time.

Examples
--------
What would be run, checked as the command checks it:

>>> import fedrsclip
>>> config = fedrsclip.compose(["method=promptfl", "prompt.n_ctx=8"])
>>> config.method, config.prompt.n_ctx, config.federation.num_rounds
('promptfl', 8, 10)
>>> fedrsclip.compose(["prompt.n_ctx=0"])
Traceback (most recent call last):
fedrsclip_core.errors.ConfigError: prompt.n_ctx is 0: it must be at least 1

What a run left, and the classifier that it has learned:

>>> run = fedrsclip.RunFolder.named("first")
>>> run.state().word, run.results()["status"]
('completed', 'completed')
>>> [record["round"] for record in run.rounds().read()]
[0, 1, 2]
>>> classifier = fedrsclip.load_classifier("first")
>>> classifier.predict("scene.jpg") in classifier.class_names
True
>>> classifier.scores(["scene.jpg", "scene.jpg"]).shape
(2, 16)

The same for classes that nobody trained, and what one client of a simulation, or this site,
classifies with:

>>> fedrsclip.load_classifier("first", classes=["volcano", "harbor"]).scores("scene.jpg").shape
(1, 2)
>>> own = fedrsclip.load_personal_classifier("first", "client-0")
>>> own.describe()
'first, round 2, personalized of client-0, 16 classes, demo_clip'
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fedrsclip_core import __version__

if TYPE_CHECKING:
    from fedrsclip.classifier.loading import load_classifier
    from fedrsclip.classifier.personal import load_personal_classifier
    from fedrsclip.classifier.scene_classifier import SceneClassifier
    from fedrsclip.map.mapping import predict_scene
    from fedrsclip.map.result import MapResult
    from fedrsclip.report import write_report
    from fedrsclip_core.config.compose import compose
    from fedrsclip_core.config.schema import Config
    from fedrsclip_core.errors import FedRSCLIPError
    from fedrsclip_core.runs.run_folder import RunFolder

__all__ = [
    "Config",
    "FedRSCLIPError",
    "MapResult",
    "RunFolder",
    "SceneClassifier",
    "__version__",
    "compose",
    "load_classifier",
    "load_personal_classifier",
    "predict_scene",
    "write_report",
]

_MODULES = {
    "Config": "fedrsclip_core.config.schema",
    "FedRSCLIPError": "fedrsclip_core.errors",
    "MapResult": "fedrsclip.map.result",
    "RunFolder": "fedrsclip_core.runs.run_folder",
    "SceneClassifier": "fedrsclip.classifier.scene_classifier",
    "compose": "fedrsclip_core.config.compose",
    "load_classifier": "fedrsclip.classifier.loading",
    "load_personal_classifier": "fedrsclip.classifier.personal",
    "predict_scene": "fedrsclip.map.mapping",
    "write_report": "fedrsclip.report",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
