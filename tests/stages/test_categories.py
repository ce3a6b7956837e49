import json
from dataclasses import replace

import pytest

from samebox.core.errors import SameboxError
from samebox.record.decoding import Decoding, PanopticRule
from samebox.record.spec import Categories
from stages.compose import CONF, compose
from stages.networks import categories

DATASETS = sorted(path.stem for path in (CONF / "dataset").glob("*.yaml"))


def composed(dataset, *overrides):
    return compose("export", ["detector=retinanet_shapes", f"dataset={dataset}", *overrides])


@pytest.mark.parametrize("dataset", DATASETS)
def test_every_data_set_states_an_id_for_each_class(dataset):
    config = composed(dataset).dataset
    assert len(config.category_ids) == len(config.class_names)
    assert len(config.get("stuff_category_ids", ())) == len(config.get("stuff_class_names", ()))


def test_the_ids_of_the_demo_are_those_of_its_annotations():
    config = composed("shapes").dataset
    ids = {}
    for name in (config.annotations, config.panoptic.annotations):
        document = json.loads((CONF.parent / name).read_text())
        ids |= {category["name"]: category["id"] for category in document["categories"]}
    for names, key in (("class_names", "category_ids"), ("stuff_class_names", "stuff_category_ids")):
        assert [ids[name] for name in config[names]] == list(config[key])


def test_the_record_has_the_ids_in_the_order_of_the_classes(shapes):
    assert shapes.spec.categories == Categories("shapes", (1, 2, 3, 4, 5, 6))
    spec = replace(
        shapes.spec,
        class_names=("ring", "disc"),
        categories=None,
        decoding=Decoding(panoptic=PanopticRule(("water", "sky"))),
    )
    assert categories(composed("shapes"), spec) == Categories("shapes", (5, 1), (9, 7))


def test_without_every_class_there_are_no_ids(shapes):
    other = replace(shapes.spec, class_names=("disc", "cube"), categories=None)
    stuff = replace(shapes.spec, categories=None, decoding=Decoding(panoptic=PanopticRule(("fire",))))
    for spec in (other, stuff):
        assert categories(composed("shapes"), spec) is None
    assert categories(composed("shapes", "dataset.category_ids=[]"), shapes.spec) is None


def test_another_number_of_ids_than_of_classes_is_an_error(shapes):
    config = composed("shapes", "dataset.category_ids=[1,2]")
    with pytest.raises(SameboxError, match=r"dataset\.category_ids: 2 ids for 6 class_names; give one each"):
        categories(config, shapes.spec)
