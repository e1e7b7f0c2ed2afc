"""How fast the evaluator could be at most on this machine, and how fast it is.

    python -m benchmarks.roofline [--network resnet20] [--examples 256] [--device cpu] [--json]

Counts the operations of a point (two of them a multiply-add, of convolutions and linear layers)
and the fewest bytes: the plane's vectors and the images read once and nothing else, as if every
activation stayed in a cache; and, for a machine whose caches hold none, each layer's input read
and output written once besides. Measures the rate of a large matrix product and the bandwidth of a
large copy in the same run. The floor is the larger of operations over rate and bytes over
bandwidth; the time beside it is the evaluator's, one thread on a CPU.
"""

from __future__ import annotations

import argparse
import copy
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks import machine, subject
from pipeline.evaluation.evaluator import Evaluator

_POINT = np.array([[0.1, 0.2]])
_CONVOLUTIONS = ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::thnn_conv2d")


@dataclass(frozen=True)
class Work:
    """What one example takes, and what a point takes besides.

    Attributes:
        flops: of convolutions and linear layers, an example.
        convolution_flops: of the convolutions alone.
        layer_bytes: each such layer's input read and output written once, float32, an example.
        input_bytes: the example itself.
        parameters: of the network.
    """

    flops: int
    convolution_flops: int
    layer_bytes: int
    input_bytes: int
    parameters: int

    @property
    def plane_bytes(self) -> int:
        """Origin and two directions in float64 read, the weights in float32 written and read."""
        return self.parameters * (3 * 8 + 2 * 4)


def count(net: nn.Module, example: torch.Tensor) -> Work:
    """The work of `net` on one example (1, …), read from the shapes of a forward pass."""
    flops, convolution_flops, layer_bytes = 0, 0, 0

    def note(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal flops, convolution_flops, layer_bytes
        assert isinstance(module.weight, torch.Tensor)
        # Every output value is a sum over one filter: a row of the weights.
        own = 2 * output.numel() * module.weight[0].numel()
        flops += own
        convolution_flops += 0 if isinstance(module, nn.Linear) else own
        layer_bytes += inputs[0].nbytes + output.nbytes

    hooks = [
        module.register_forward_hook(note)
        for module in net.modules()
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
    ]
    with torch.inference_mode():
        net(example)
    for hook in hooks:
        hook.remove()
    parameters = sum(p.numel() for p in net.parameters())
    return Work(flops, convolution_flops, layer_bytes, example.nbytes, parameters)


def floor(work: Work, examples: int, rate: float, bandwidth: float) -> dict[str, float]:
    """Seconds a point at least: by operations, by the fewest bytes, by bytes of every layer."""
    least = work.plane_bytes + examples * work.input_bytes
    return {
        "by_operations": examples * work.flops / rate,
        "by_fewest_bytes": least / bandwidth,
        "by_layer_bytes": (least + examples * work.layer_bytes) / bandwidth,
    }


def run(name: str, examples: int, device: str) -> dict[str, Any]:
    # Here, since benchmarks.gpu counts by this module with torch and numpy alone.
    from pipeline.problem import network

    net = network.build(name, {})
    data = subject.splits(examples)
    subject.settle_statistics(net, data["train"][0])
    plane = subject.plane_of(net)
    work = count(copy.deepcopy(net), torch.from_numpy(data["train"][0][:1]))
    evaluators = {
        mode: Evaluator(copy.deepcopy(net), data, batch_norm=mode, device=device)
        for mode in ("frozen", "recompute")
    }
    rates, bandwidths = [], []
    seconds = dict.fromkeys(evaluators, float("inf"))
    for _ in range(7):
        # Interleaved: what the neighbours take away, they take from all.
        rates.append(machine.matmul_rate(device))
        bandwidths.append(machine.copy_bandwidth(device))
        for mode, evaluator in evaluators.items():
            # After one that is not counted: the copies have emptied the caches.
            point = lambda e=evaluator: e.evaluate(plane, _POINT)  # noqa: E731
            took = machine.best_seconds(point, device, repeats=2)
            seconds[mode] = min(seconds[mode], took)
    rate, bandwidth = max(rates), max(bandwidths)
    floors = floor(work, 2 * examples, rate, bandwidth)
    binding = max(floors["by_operations"], floors["by_fewest_bytes"])
    share = _convolution_seconds(evaluators["frozen"], plane) if device == "cpu" else None
    return machine.facts(device) | {
        "network": name,
        "examples": 2 * examples,
        "flop_an_example": work.flops,
        "bytes_of_a_plane": work.plane_bytes,
        "bytes_of_layers_an_example": work.layer_bytes,
        "matmul_gflops": round(rate / 1e9, 1),
        "copy_gb_a_second": round(bandwidth / 1e9, 2),
        "floor_seconds": {k: round(v, 6) for k, v in floors.items()},
        "seconds_a_point": {k: round(v, 6) for k, v in seconds.items()},
        "share_of_floor": {k: round(binding / v, 3) for k, v in seconds.items()},
        "convolutions_of_matmul_rate": share
        and round(2 * examples * work.convolution_flops / share / rate, 3),
    }


def _convolution_seconds(evaluator: Evaluator, plane: Any) -> float:
    """Processor time in convolutions at one point with frozen statistics; the best of three."""
    best = float("inf")
    for _ in range(3):
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, acc_events=True) as profile:
            evaluator.evaluate(plane, _POINT)
        microseconds = sum(
            event.self_cpu_time_total
            for event in profile.key_averages()
            if event.key in _CONVOLUTIONS
        )
        best = min(best, microseconds / 1e6)
    return best


def show(result: dict[str, Any]) -> None:
    print(f"{result['network']}, {result['examples']} images a point, {result['machine']}")
    print(f"matrix product      {result['matmul_gflops']:10.1f} GFLOP/s")
    print(f"copy                {result['copy_gb_a_second']:10.2f} GB/s")
    for name, value in result["floor_seconds"].items():
        print(f"floor {name.replace('_', ' '):20}{value:10.4f} s a point")
    for mode, value in result["seconds_a_point"].items():
        of_floor = result["share_of_floor"][mode]
        print(f"measured {mode:17}{value:10.4f} s a point, {of_floor:.0%} of what is possible")
    if result["convolutions_of_matmul_rate"]:
        print(
            f"convolutions run at {result['convolutions_of_matmul_rate']:.0%} of the product's rate"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="resnet20")
    parser.add_argument("--examples", type=int, default=256, help="of each of two splits")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="print the line of JSON only")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    result = run(asked.network, asked.examples, asked.device)
    if not asked.json:
        show(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
