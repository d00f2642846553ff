"""Captions for pretraining scenes: many ways to say what is there, in which light and colour."""

from __future__ import annotations

import numpy as np

from fedrsclip_core.demo.scenes import Scene

# The plain words come first: they are what a class is called when nobody writes a caption.
NOUNS: dict[str, tuple[str, ...]] = {
    "beach": ("beach", "sandy beach", "sea shore", "coast with surf"),
    "denseresidential": ("dense residential", "dense residential area", "dense housing", "town"),
    "farmland": ("farmland", "agricultural fields", "farm fields", "cropland"),
    "forest": ("forest", "woodland", "dense trees", "forest canopy"),
    "harbor": ("harbor", "marina", "port with boats", "boats at piers"),
    "intersection": ("intersection", "road crossing", "crossroads", "street junction"),
    "lake": ("lake", "pond", "small lake", "inland water"),
    "parkinglot": ("parking lot", "car park", "parked cars", "rows of cars"),
    "railway": ("railway", "railroad", "train tracks", "rail tracks"),
    "river": ("river", "stream", "winding river", "waterway"),
    "roundabout": ("roundabout", "traffic circle", "circular junction", "round road"),
    "runway": ("runway", "airport runway", "landing strip", "airfield"),
    "solarfarm": ("solar farm", "solar panels", "photovoltaic plant", "solar power station"),
    "sparseresidential": (
        "sparse residential",
        "sparse residential area",
        "scattered houses",
        "few houses",
    ),
    "stadium": ("stadium", "sports field", "football stadium", "arena"),
    "storagetanks": ("storage tanks", "oil tanks", "round tanks", "tank farm"),
}
VIEWS = (
    "a satellite photo of {}",
    "a satellite image of {}",
    "an aerial photo of {}",
    "an aerial image of {}",
    "an aerial view of {}",
    "a photo of {}",
    "a picture of {}",
    "a remote sensing image of {}",
    "a remote sensing scene of {}",
    "an overhead view of {}",
    "a drone photo of {}",
    "satellite imagery showing {}",
    "{} seen from above",
    "{} from space",
    "{}",
    "this is {}",
    "there is {} in the scene",
)
WITH_WATER = frozenset({"beach", "harbor", "lake", "river"})
# Words people use for land cover and prompts; the tokenizer learns them, the model need not.
VOCABULARY = """
a an the of in on at and with by from near over is are this that some many several few two three
photo image picture view scene satellite aerial overhead remote sensing imagery drone space map
top down high low resolution centered cropped good bad clear blurry hazy bright dark colour color
type land cover use class airplane airport agricultural annual crop baseball diamond basketball
court bare soil beach bridge buildings center chaparral church circular farmland cloud commercial
area dense residential desert forest freeway golf course ground track field harbor herbaceous
vegetation highway industrial intersection island lake meadow medium mobile home park mountain
overpass palace parking lot pasture permanent playground pond port railway station rectangular
resort river roundabout runway school sea lake ship snowberg sparse square stadium storage tanks
tennis court terrace thermal power wetland viaduct urban rural city town village road street
house houses roof tree trees grass sand water ocean coast boat boats car cars train tracks rail
solar farm panels wind turbine dam quarry orchard vineyard greenhouse snow ice cloud season spring
summer autumn winter warehouse container crane hospital university factory swimming pool zebra
crossing bus oil gas field shrub land nature reserve rice paddy scrub tundra volcano glacier
"""


def plain_words(class_name: str) -> str:
    """Return a class's name as real words, e.g. ``"storage tanks"``."""
    return NOUNS[class_name][0]


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return one of the many captions that fit ``scene``."""
    nouns = NOUNS[scene.class_name]
    noun = nouns[0] if rng.random() < 0.45 else nouns[rng.integers(len(nouns))]
    view = VIEWS[rng.integers(len(VIEWS))]
    if rng.random() < 0.7:
        noun = f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
    text = view.format(noun)
    remarks = _remarks(scene)
    if remarks and rng.random() < 0.5:
        text = f"{text}, {remarks[rng.integers(len(remarks))]}"
    return f"{text}." if rng.random() < 0.6 else text


def _remarks(scene: Scene) -> list[str]:
    remarks = [f"{scene.land} land", f"on {scene.land} ground"]
    if scene.class_name in WITH_WATER:
        remarks += [f"{scene.water} water", f"with {scene.water} water"]
    mean = float(scene.image.mean())
    if mean > 150:
        remarks += ["bright", "in bright light"]
    if mean < 75:
        remarks += ["dark", "in low light"]
    if scene.shift is not None and scene.shift.haze > 0.1:
        remarks += ["hazy", "under haze"]
    if scene.shift is not None and scene.shift.blur + scene.shift.stride > 1.6:
        remarks += ["blurry", "at low resolution"]
    return remarks
