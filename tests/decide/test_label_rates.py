"""Precision, recall and flag rate of the cascade against scikit-learn, at the set's mix and at production's."""

import numpy as np
import pytest
from decide.evaluated import evaluated
from sklearn.metrics import precision_score, recall_score

from pipeline.decide.curves.at_threshold import mix_weights
from pipeline.decide.curves.label_rates import label_rates


@pytest.mark.parametrize("mix", [None, {"spam": 0.02, "work": 0.98}])
def test_rates_equal_scikit_learns_with_the_rows_weights(mix):
    part = evaluated(3000, seed=6).of("test")
    kept = part.confidence >= 0.95
    weights = None if mix is None else mix_weights(part.label, mix)
    final = np.where(kept, part.cheap_answer, part.strong_answer)
    groups = {"any": ("spam", "work")}
    rates = label_rates(part, kept, split="test", human=False, weights=weights, groups=groups)
    found = {entry["name"]: entry for entry in rates}
    for name in ("spam", "work"):
        truth, told = part.label == name, final == name
        for figure, peer in (("precision", precision_score), ("recall", recall_score)):
            cell = found[name][figure]
            assert cell["value"] == pytest.approx(peer(truth, told, sample_weight=weights))
            assert cell["lower"] < cell["value"] < cell["upper"]
        assert found[name]["flag_rate"]["value"] == pytest.approx(np.average(told, weights=weights))
        assert found[name]["recall"]["n"] == truth.sum()
    assert found["any"]["recall"]["value"] == 1.0
    assert found["any"]["flag_rate"]["value"] == pytest.approx(1.0)


def test_people_recognise_every_label():
    part = evaluated(800, seed=7).of("test")
    found = label_rates(part, np.zeros(len(part), bool), split="test", human=True, weights=None, groups=None)
    assert all(e["recall"]["value"] == 1.0 and e["precision"]["value"] == 1.0 for e in found)
