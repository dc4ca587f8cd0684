"""A bundle runs on the device that the node chose, whatever it says itself."""

from __future__ import annotations

import pytest
import torch

from pipelines.bundle.device import pinned_to, said_for

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("$torch.device('cuda')", "$torch.device('cpu')"),
        ('$x.to("cuda:3")', "$x.to('cpu')"),
        ("$@network_def.cuda()", "$@network_def.to('cpu')"),
        ("$@network_def.cuda(0).eval()", "$@network_def.to('cpu').eval()"),
        ("cuda:0", "cpu"),
        ("cuda", "cpu"),
        ("a cuda-bound text", "a cuda-bound text"),
        ("$torch.cuda.is_available()", "$torch.cuda.is_available()"),
        ("cuda.json", "cuda.json"),
    ],
)
def test_cuda_in_a_configuration_is_the_chosen_device(text, said):
    assert said_for(text, CPU) == said


def test_on_a_second_accelerator_the_first_is_not_touched():
    assert said_for("$torch.device('cuda:0')", torch.device("cuda:1")) == "$torch.device('cuda:1')"


def test_torch_understands_cuda_as_the_chosen_device_and_only_meanwhile():
    with pinned_to(CPU):
        assert torch.zeros(1, device="cuda").device == CPU
        assert torch.zeros(1).to(torch.device("cuda", 1)).device == CPU
        assert torch.nn.Linear(1, 1).cuda().weight.device == CPU
    if not torch.cuda.is_available():
        with pytest.raises((AssertionError, RuntimeError)):
            torch.zeros(1, device="cuda")
