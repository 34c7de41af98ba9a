from __future__ import annotations

import numpy as np
import pytest

from swin_unet.class_metrics import one_hot, score_classes
from swin_unet.confusion import confusion_picture


@pytest.mark.parametrize("num_classes", [6, 10, 30])
def test_a_diagonal_is_dark_and_the_rest_is_light(num_classes):
    labels = np.arange(num_classes).repeat(3)
    names = [f"class {k}" for k in range(num_classes)]
    picture = confusion_picture(
        score_classes(labels, one_hot(labels, num_classes) * 1.0, names, multi_label=False)
    )
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3
    dark_blue = (picture[..., 2] > picture[..., 0] + 60) & (picture[..., 0] < 60)
    rows, columns = np.nonzero(dark_blue)
    assert np.corrcoef(rows, columns)[0, 1] > 0.9  # the matrix's diagonal


def test_multi_labels_have_four_columns():
    truth = np.array([[1, 0], [1, 1], [0, 0]])
    summary = score_classes(truth, truth * 0.6, ["liver", "spleen"], multi_label=True)
    assert confusion_picture(summary).shape[:2] == (340, 500)
