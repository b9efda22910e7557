"""Which names of resources are GPUs or parts of them."""

import pytest

from cluster.gpu_resource import WHOLE_GPU, checked_gpu_resource, is_gpu_resource, part_of_gpu

PARTS = [
    *("nvidia.com/gpu.shared", "nvidia.com/mig-1g.5gb", "nvidia.com/mig-1g.10gb", "nvidia.com/mig-7g.141gb"),
    *("nvidia.com/mig-1g.10gb.me", "nvidia.com/mig-1c.3g.40gb", "nvidia.com/mig-1g.12gb.me.all"),
    *("nvidia.com/mig-2g.48gb-me", "nvidia.com/mig-1g.10gb.shared"),
]
OTHERS = [
    *(
        "",
        "gpu",
        "cpu",
        "memory",
        "amd.com/gpu",
        "nvidia.com/",
        "nvidia.com/gpu ",
        "nvidia.com/gpu\n",
        "NVIDIA.com/gpu",
    ),
    *("nvidia.com/mig-", "nvidia.com/mig-1g", "nvidia.com/mig-1g.10gb\n", "nvidia.com/mig-0g.10gb", "mig-1g.10gb"),
    *("nvidia.com/mig-1g.10gb.ME", "nvidia.com/mig-1g.10gb.a.b.c.d", "xnvidia.com/mig-1g.10gb"),
]


@pytest.mark.parametrize("name", PARTS)
def test_parts_of_gpus_are_known_by_name(name: str) -> None:
    assert is_gpu_resource(name)
    assert part_of_gpu(name) == checked_gpu_resource(name) == name


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_refused_with_rule_and_remedy(name: str) -> None:
    assert not is_gpu_resource(name)
    for read in (checked_gpu_resource, part_of_gpu):
        with pytest.raises(ValueError, match=r"must be nvidia\.com/gpu, .* `kubectl describe nodes` lists"):
            read(name)


def test_a_whole_gpu_is_no_part() -> None:
    assert checked_gpu_resource(WHOLE_GPU) == WHOLE_GPU
    with pytest.raises(ValueError, match="is a whole GPU"):
        part_of_gpu(WHOLE_GPU)
