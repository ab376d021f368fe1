"""The signal where none is named and no row may choose one."""

import numpy as np
import pandas as pd
import pytest

from pipeline.decide.scores.chosen_signal import default_signal


@pytest.mark.parametrize(("bare", "name"), [(1, "label_probability"), (2, "label_sequence")])
def test_it_follows_the_share_of_usable_replies_with_two_alternatives(bare, name):
    # 100 usable replies, `bare` of them with one alternative only; refused ones have none and do not count
    margin = np.concatenate([np.full(bare, np.nan), np.full(100 - bare, 0.4), np.full(30, np.nan)])
    frame = pd.DataFrame({"cheap_status": ["ok"] * 100 + ["failed"] * 30, "signal_margin": margin})
    assert default_signal(frame) == name
    # what was right has no say
    assert default_signal(frame.assign(cheap_correct=np.arange(130) % 2)) == name


def test_replies_without_any_logprob_have_no_alternatives():
    assert default_signal(pd.DataFrame({"cheap_status": ["no_logprobs"] * 5})) == "label_sequence"
