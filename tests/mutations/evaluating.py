"""What comes out at a point: geometry, weights, batch norm, sums, and the check beforehand."""

from __future__ import annotations

from tests.mutations.fault import of

CROSSCHECK = "tests/pipeline/test_crosscheck.py"
EVALUATE = "tests/pipeline/test_evaluate.py"
LOSSES = "tests/pipeline/test_losses.py"
OWN_LOSSES = "tests/pipeline/test_own_losses.py"
GRID = "tests/pipeline/test_grid.py"
WEIGHTS = "tests/pipeline/test_weights.py"
PLANE = "tests/pipeline/test_plane.py"
PRECISION = "tests/pipeline/test_precision.py"
PROMISES = "tests/cluster/test_promises.py"
STEPS = "tests/cluster/test_step_queue.py"

FAULTS = (
    *of(
        "pipeline/geometry/directions.py",
        (
            "directions: filters along the wrong axis",
            "own = np.linalg.norm(filters, axis=1, keepdims=True)",
            "own = np.linalg.norm(filters)",
            PLANE,
        ),
        ("directions: biases move", "if len(shape) < 2 and", "if len(shape) < 1 and", PLANE),
    ),
    *of(
        "pipeline/geometry/plane.py",
        (
            "plane: v's sign",
            "return flat + y * self.v",
            "return flat - y * self.v",
            PLANE,
        ),
        ("plane: one pass of Gram–Schmidt", "    residual -= dot(residual, u) * u\n", "", PLANE),
        (
            "plane: one margin for both axes",
            "margin * unit[0], margin * unit[1]",
            "margin * unit[0], margin * unit[0]",
            PLANE,
        ),
        (
            "plane: sums by a BLAS",
            "return math.fsum(float(np.sum(a[i : i + _BLOCK] * b[i : i + _BLOCK])) for i in parts)",
            "return float(a @ b)",
            PLANE,
        ),
        (
            "plane: distance from the origin",
            "norm(difference - x * self.u - y * self.v)",
            "norm(difference)",
            PLANE,
        ),
        (
            "plane: Bézier without binomials",
            "return binomials * t[:, None]",
            "return t[:, None]",
            PLANE,
        ),
    ),
    *of(
        "pipeline/geometry/grid.py",
        ("grid: columns first", 'indexing="ij"', 'indexing="xy"', GRID),
        (
            "grid: without its end points",
            "return np.linspace(low, high, count)",
            "return np.linspace(low, high, count, endpoint=False)",
            GRID,
        ),
        ("grid: the highest y first", "[across[x], up[y]]", "[across[x], up[::-1][y]]", GRID),
        ("grid: a tile beyond the edge", "min(x + self.tile, self.width)", "x + self.tile", GRID),
    ),
    *of(
        "pipeline/evaluation/weights.py",
        (
            "weights: rounded twice",
            "torch.empty_like(self._flat, dtype=torch.float64)",
            "torch.empty_like(self._flat)",
            WEIGHTS,
        ),
        (
            "weights: the plane in float32",
            "torch.tensor(vector)[self._order].to(self._device)",
            "torch.tensor(vector).float()[self._order].double().to(self._device)",
            WEIGHTS,
        ),
        ("weights: v's sign", "self._v, alpha=y, out", "self._v, alpha=-y, out", WEIGHTS),
    ),
    *of(
        "pipeline/evaluation/batch_norm.py",
        (
            "batch norm: the variance of a sample",
            "(means - mean).square().sum(0)) / len(means)",
            "(means - mean).square().sum(0)) / (len(means) - 1 / count)",
            EVALUATE,
        ),
        (
            "batch norm: the variance within examples alone",
            "squares.sum(0) / count + (means - mean).square().sum(0)",
            "squares.sum(0) / count",
            EVALUATE,
        ),
        (
            "batch norm: derivatives by the statistics",
            "moments_of_examples(x.detach() if x.requires_grad else x)",
            "moments_of_examples(x)",
            OWN_LOSSES,
        ),
        (
            "batch norm: means in float32",
            "means = torch.cat([part[0] for part in parts]).double()",
            "means = torch.cat([part[0] for part in parts])",
            EVALUATE,
        ),
        (
            "batch norm: eps is torch's default",
            "self.bias, False, 0.0, self.eps)",
            "self.bias, False, 0.0, 1e-5)",
            EVALUATE,
        ),
        (
            "batch norm: statistics of the point before",
            "    def clear(self) -> None:\n",
            "    def clear(self) -> None:\n        return\n\n    def _never(self) -> None:\n",
            EVALUATE,
        ),
        (
            "batch norm: running statistics can be read",
            "running.fill_(math.nan)",
            "pass",
            CROSSCHECK,
        ),
        (
            "batch norm: one that does more is replaced",
            'if type(module).forward not in _FORWARDS or "forward" in vars(module):',
            "if False:",
            EVALUATE,
        ),
    ),
    *of(
        "pipeline/evaluation/evaluator.py",
        (
            "batch norm: each split has its own statistics",
            "place == first else self._apply(chunks, each)",
            "place == first else self._calibrate(chunks, each)",
            EVALUATE,
        ),
        (
            "batch norm: statistics of the last split",
            "list(splits).index(calibrate) if calibrate is not None else 0",
            "len(splits) - 1",
            EVALUATE,
        ),
        (
            "evaluator: in training mode",
            "network = network.eval().requires_grad_(False)",
            "network = network.train().requires_grad_(False)",
            (EVALUATE, CROSSCHECK),
        ),
        (
            "evaluator: modes do not follow the weights",
            "        if self._has_modes:\n            self._module.train()\n",
            "",
            CROSSCHECK,
        ),
        (
            "precision: float32 is what the process allows",
            "with arithmetic(self._precision):\n            for",
            "with contextlib.nullcontext():\n            for",
            (EVALUATE, PRECISION),
        ),
    ),
    *of(
        "pipeline/problem/means.py",
        (
            "evaluator: losses summed in float32",
            "return sums.mean(1)",
            "return sums.float().mean(1)",
            EVALUATE,
        ),
        (
            "means: over tokens, each example alike",
            "return sums.sum(1) / weights.sum(1)",
            "return (sums / weights).nanmean(1)",
            LOSSES,
        ),
        (
            "means: the standard error of a ratio, as if tokens were as many in each",
            "(sums - centre * weights)",
            "(sums - sums.mean(1, keepdim=True))",
            LOSSES,
        ),
        (
            "evaluator: the spread of a population",
            "row.std()",
            "row.std(correction=0)",
            EVALUATE,
        ),
    ),
    *of(
        "pipeline/problem/losses.py",
        (
            "evaluator: cross-entropy in float32",
            "_log_softmax(outputs.double().reshape",
            "_log_softmax(outputs.float().reshape",
            EVALUATE,
        ),
        (
            "evaluator: a NaN may be right",
            " | largest.isnan()).double()",
            ").double()",
            EVALUATE,
        ),
    ),
    *of(
        "pipeline/evaluation/examples.py",
        (
            "evaluator: chunks larger than allowed",
            "count = -(-len(self) // size)",
            "count = max(1, len(self) // size)",
            EVALUATE,
        ),
        (
            "evaluator: the last chunk is left out",
            "return [replace(self, inputs=inputs, targets=targets) for inputs, targets in pieces]",
            "made = [replace(self, inputs=inputs, targets=targets) for inputs, targets in pieces]\n"
            "        return made[:-1] or made",
            EVALUATE,
        ),
    ),
    *of(
        "pipeline/task.py",
        ("precision: a worker that deviates goes on", "found.require()", "pass", PRECISION),
    ),
    *of(
        "pipeline/evaluation/crosscheck.py",
        (
            "crosscheck: chance is let through",
            '_refuse_chance(plain, known, found, halves.at(weights)["loss"])',
            "pass",
            CROSSCHECK,
        ),
        (
            "crosscheck: constants are let through",
            "_refuse_constant(plain, known, wanted)\n",
            "pass\n",
            CROSSCHECK,
        ),
        (
            "crosscheck: another loss is let through",
            "raise CrosscheckError(_reason(",
            "print(_reason(",
            CROSSCHECK,
        ),
        ("crosscheck: in one batch", "chunk=-(-calibrating // 2)", "chunk=None", CROSSCHECK),
        (
            "crosscheck: the first checkpoint alone",
            "for number, known in enumerate(checkpoints):",
            "for number, known in enumerate(checkpoints[:1]):",
            CROSSCHECK,
        ),
        (
            "crosscheck: any difference is rounding",
            "_TIMES_MOVED = 3.0",
            "_TIMES_MOVED = 3e9",
            CROSSCHECK,
        ),
        (
            "crosscheck: NaN agrees with anything",
            "close = (found == wanted) |",
            "close = np.isnan(found) | (found == wanted) |",
            CROSSCHECK,
        ),
    ),
    *of(
        "pipeline/evaluation/own_buffers.py",
        (
            "crosscheck: another loss of its own is not told",
            "if not np.isclose(here",
            "if False and not np.isclose(here",
            CROSSCHECK,
        ),
        (
            "crosscheck: the render's buffers are not put back",
            "        evaluator.use_buffers(plain.buffers)\n",
            "",
            CROSSCHECK,
        ),
    ),
    *of(
        "pipeline/evaluation/plain_torch.py",
        (
            "crosscheck: a sample's variance in plain torch",
            "norm.running_var *= (counts[0] - 1) / counts[0]",
            "norm.running_var *= 1.0",
            CROSSCHECK,
        ),
    ),
)
