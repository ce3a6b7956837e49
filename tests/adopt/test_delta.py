from samebox.adopt.delta import delta

BACKBONE = {"_target_": "samebox.networks.blocks.resnet.ResNet", "depth": 50, "style": "pytorch"}


def test_what_the_family_says_is_left_out():
    family = {"a": {"x": 1, "y": [1, 2]}, "b": None}
    assert delta({"a": {"x": 1, "y": [1, 3]}, "b": None}, family, family) == {"a": {"y": [1, 3]}}
    assert delta(family, family, family) == {}


def test_what_the_family_refers_to_is_left_out():
    raw, resolved = {"x": 4, "y": "${.x}"}, {"x": 4, "y": 4}
    assert delta({"x": 4, "y": 4}, raw, resolved) == {}
    assert delta({"x": 4, "y": "${.x}"}, raw, resolved) == {}
    assert delta({"x": 5, "y": 4}, raw, resolved) == {"x": 5}


def test_what_a_constructor_takes_for_granted_is_left_out():
    assert delta(BACKBONE | {"norm_eps": 1e-5}, BACKBONE, BACKBONE) == {}
    assert delta(BACKBONE | {"norm_eps": 0.0}, BACKBONE, BACKBONE) == {"norm_eps": 0.0}
    assert delta({"norm_eps": 1e-5, "depth": 101}, BACKBONE, BACKBONE) == {"depth": 101}
    # known to the family: said even where it is the default
    family = BACKBONE | {"norm_eps": 0.0}
    assert delta(BACKBONE | {"norm_eps": 1e-5}, family, family) == {"norm_eps": 1e-5}


def test_keys_of_no_constructor_are_said():
    assert delta({"a": None}, {}, {}) == {"a": None}
