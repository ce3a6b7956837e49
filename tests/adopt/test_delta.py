from samebox.adopt.delta import delta

BACKBONE = {"_target_": "samebox.networks.blocks.resnet.ResNet", "depth": 50, "style": "pytorch"}


def test_values_of_the_family_are_left_out():
    family = {"a": {"x": 1, "y": [1, 2]}, "b": None}
    assert delta({"a": {"x": 1, "y": [1, 3]}, "b": None}, family, family) == {"a": {"y": [1, 3]}}
    assert delta(family, family, family) == {}


def test_values_that_the_family_refers_to_are_left_out():
    raw, resolved = {"x": 4, "y": "${.x}"}, {"x": 4, "y": 4}
    assert delta({"x": 4, "y": 4}, raw, resolved) == {}
    assert delta({"x": 4, "y": "${.x}"}, raw, resolved) == {}
    assert delta({"x": 5, "y": 4}, raw, resolved) == {"x": 5}


def test_defaults_of_a_constructor_are_left_out():
    assert delta(BACKBONE | {"norm_eps": 1e-5}, BACKBONE, BACKBONE) == {}
    assert delta(BACKBONE | {"norm_eps": 0.0}, BACKBONE, BACKBONE) == {"norm_eps": 0.0}
    assert delta({"norm_eps": 1e-5, "depth": 101}, BACKBONE, BACKBONE) == {"depth": 101}
    # The family has another value, so the default must be given.
    family = BACKBONE | {"norm_eps": 0.0}
    assert delta(BACKBONE | {"norm_eps": 1e-5}, family, family) == {"norm_eps": 1e-5}


def test_keys_without_a_constructor_are_kept():
    assert delta({"a": None}, {}, {}) == {"a": None}
