from pipelines import chain
from samebox.coco.evaluated import EvaluatedForm
from stages.compose import compose

LEFT = {"torch": 10, "onnx": 10, "simplified": 12}


def form(config, runtime):
    found = {"image_id": 1, "category_id": 1, "bbox": [LEFT[runtime], 10, 20, 20], "score": 0.5}
    return EvaluatedForm({"invariance": [], "notes": []}, other_canvases={"other shapes": {1: [found]}})


def test_the_forms_of_a_chain_are_held_against_its_first(monkeypatch):
    monkeypatch.setattr(chain, "with_simplified", lambda config: config)
    monkeypatch.setattr(chain, "evaluated_form", form)
    config = compose("chain")
    first, *others = chain.chain(config, config.runtimes)
    assert first.metrics["invariance"] == []
    assert [[entry["passed"] for entry in one.metrics["invariance"]] for one in others] == [[True], [False]]
