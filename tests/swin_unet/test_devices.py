from __future__ import annotations

import pytest
import torch

from swin_unet.config import UserError
from swin_unet.devices import autocast, choose_device, choose_precision

CPU = torch.device("cpu")


def test_auto_takes_the_gpu_if_there_is_one():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "gpu"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(UserError, match=f"found {name}"):
        choose_device(name)


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bf16"), (False, "fp32")])
def test_auto_is_bf16_where_the_processor_has_it(monkeypatch, has_bf16, expected):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_bf16, raising=False)
    assert choose_precision("auto", CPU) == expected


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match="fp32 or bf16 on a CPU"):
        choose_precision("fp16", CPU)


def test_autocast_changes_matrix_products_only_when_asked():
    a = torch.ones(2, 2)
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, precision):
            assert (a @ a).dtype == dtype
