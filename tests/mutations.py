"""Deliberate faults: one place in the source each, and the tests that have to fail with it.

`python -m tests.mutants` tries them. The texts are short, so that they outlive changes around them;
`tests/test_mutants.py` says when one is no longer there.
"""

from __future__ import annotations

from dataclasses import dataclass

AUDIT = "tests/pipeline/test_audit.py"
COURSE = "tests/pipeline/test_course.py"
CROSSCHECK = "tests/pipeline/test_crosscheck.py"
DATA = "tests/pipeline/test_data.py"
EVALUATE = "tests/pipeline/test_evaluate.py"
EVALUATIONS = "tests/pipeline/test_evaluations.py"
PROMISES = "tests/cluster/test_promises.py"
FINGERPRINT = "tests/pipeline/test_fingerprint.py"
FRAMES = "tests/renders/test_frames.py"
GRID = "tests/pipeline/test_grid.py"
LEASE = "tests/cluster/test_lease.py"
PLACEMENT = "tests/pipeline/test_placement.py"
PLANE = "tests/pipeline/test_plane.py"
PNG = "tests/renders/test_png.py"
PRECISION = "tests/pipeline/test_precision.py"
PREPARE = "tests/pipeline/test_prepare.py"
REFINED = "tests/cluster/test_refined.py"
SCHEDULER = "tests/cluster/test_scheduler.py"
SHADE = "tests/renders/test_shade.py"
STEPS = "tests/cluster/test_steps.py"
STORE = "tests/pipeline/test_store.py"
TIFF = "tests/renders/test_tiff.py"
TONE = "tests/renders/test_tone.py"
USERCODE = "tests/pipeline/test_usercode.py"


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: area, and what is wrong.
        file: the source, from the root of the checkout.
        old: a text that is in it once.
        new: what it becomes.
        tests: files, or `file::test`; one of them has to fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _of(file: str, *faults: tuple[str, str, str, str | tuple[str, ...]]) -> list[Fault]:
    """Faults of one file: name, old, new, and the tests."""
    return [
        Fault(name, file, old, new, (tests,) if isinstance(tests, str) else tests)
        for name, old, new, tests in faults
    ]


_STORE = _of(
    "pipeline/store.py",
    (
        "commit: written first as well",
        "        if predictions is not None:\n",
        '        self._array("done")[tile.frame, tile.row, tile.column] = 1\n'
        "        if predictions is not None:\n",
        STORE,
    ),
    (
        "commit: before what the tile cost",
        '        self._array("worker")[place] = worker\n        self._array("done")[place] = 1',
        '        self._array("done")[place] = 1\n        self._array("worker")[place] = worker',
        STORE,
    ),
    (
        "commit: chunks of nothing but NaN left out",
        'with zarr.config.set({"array.write_empty_chunks": True}):\n            return dict(',
        'with zarr.config.set({"array.write_empty_chunks": False}):\n            return dict(',
        STORE,
    ),
    (
        "listing: half-written commits count",
        "columns = (int(name) for name in names if name.isdigit())",
        'columns = (int(name.split(".")[0]) for name in names)',
        STORE,
    ),
    (
        "listing: rows and frames swapped",
        "itertools.repeat(int(frame)), itertools.repeat(int(row))",
        "itertools.repeat(int(row)), itertools.repeat(int(frame))",
        STORE,
    ),
    (
        "withdraw: chunks before the commit",
        '        self.delete(f"done/c/{place}")\n',
        "        for quantity in self.quantities:\n"
        "            for split in range(len(self.splits)):\n"
        '                self.delete(f"{quantity}/c/{split}/{place}")\n'
        '        self.delete(f"done/c/{place}")\n',
        STORE,
    ),
    (
        "withdraw: chunks of later splits stay",
        "for split in range(len(self.splits)):\n                self.delete(",
        "for split in range(1):\n                self.delete(",
        STORE,
    ),
    ("sweep: nothing is deleted", "path.unlink(missing_ok=True)", "path.exists()", STORE),
    (
        "verify: a missing chunk is read as NaN",
        "if not sync(self.group.store.exists(self._key(key))):",
        "if False:",
        STORE,
    ),
    (
        "verify: the commit itself is not read",
        'if int(np.asarray(self._array("done")[place])) != 1:',
        "if False:",
        STORE,
    ),
    (
        "create: complete before its metadata",
        "group.attrs.put({**attributes, **unfinished})",
        'group.attrs.put({**attributes, **unfinished, "lossatlas": FORMAT})',
        STORE,
    ),
    (
        "create: another creator's store is taken for ours",
        'if made.attrs["creation"] != attributes["creation"]:',
        "if False:",
        STORE,
    ),
)

_LAYOUT = _of(
    "pipeline/layout.py",
    (
        "verify: chunks without a checksum",
        'shuffle="shuffle"), Crc32cCodec()]',
        'shuffle="shuffle")]',
        STORE,
    ),
    (
        "verify: commits without a checksum",
        "compressors=[Crc32cCodec()]",
        "compressors=[]",
        STORE,
    ),
)

_VERIFY = _of(
    "pipeline/verify.py",
    (
        "verify: one quantity read",
        "for quantity in store.quantities:\n            store.read_tile",
        "for quantity in store.quantities[:1]:\n            store.read_tile",
        STORE,
    ),
    ("verify: facts not read", "        store.tile_facts(tile)\n", "", STORE),
    (
        "verify: levels not held to the records",
        "if not np.array_equal(level, predictions.level):",
        "if False:",
        REFINED,
    ),
    (
        "verify: values not held to the records",
        "if not np.array_equal(own[:, level >= 0], found[:, level >= 0], equal_nan=True):",
        "if False:",
        PROMISES,
    ),
    (
        "verify: steps stay committed",
        "if store.refined:\n            Eval",
        "if False:\n            Eval",
        REFINED,
    ),
)

_CLAIM = _of(
    "pipeline/claim.py",
    (
        "create: killed creators' remains stay",
        "if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:",
        "if False:",
        STORE,
    ),
    (
        "create: others' unfinished stores are swept",
        "if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:",
        "if True:",
        STORE,
    ),
    (
        "create: in place, step by step",
        "if is_url(url) or not _is_free(target):",
        "if True:",
        STORE,
    ),
)

_RECORDS = _of(
    "pipeline/evaluations.py",
    (
        "commit: a step's written first as well",
        "        count = len(points.y)\n",
        "        count = len(points.y)\n"
        "        at = (slice(None), step.number, step.frame, step.row, step.column)\n"
        '        self._arrays["steps"][at] = np.array([count, seconds, worker], "f8")\n',
        EVALUATIONS,
    ),
    (
        "listing: half-written commits of steps count",
        "columns = (int(name) for name in names if name.isdigit())",
        'columns = (int(name.split(".")[0]) for name in names)',
        EVALUATIONS,
    ),
    (
        "withdraw: records before their commits",
        'self._store.delete(f"evaluated/steps/c/0/{step.number}/{step.tile}")',
        'self._store.delete(f"evaluated/points/c/{step.number}/{step.tile}")\n'
        '            self._store.delete(f"evaluated/steps/c/0/{step.number}/{step.tile}")',
        EVALUATIONS,
    ),
    (
        "withdraw: the note of costs stays",
        "self._store.delete_note(_pass_note(number))",
        "number + 1",
        EVALUATIONS,
    ),
    (
        "records: a count that does not agree is taken",
        "if len(y) != facts.points:",
        "if False:",
        (EVALUATIONS, REFINED),
    ),
    (
        "records: values where no point is are taken",
        "if (~np.isnan(values).all(axis=0) & (mask == 0)).any():",
        "if False:",
        EVALUATIONS,
    ),
    (
        "records: missing values are read as NaN",
        "if np.isnan(found).all() and not self._has_values(step):",
        "if False:",
        (EVALUATIONS, REFINED),
    ),
    (
        "records: a pass reads its own",
        "for number in range(before)\n        ]\n        if committed",
        "for number in range(before + 1)\n        ]\n        if committed",
        (EVALUATIONS, STEPS),
    ),
    (
        "records: uncommitted steps are read",
        "steps = [step for step in steps if step in committed]",
        "steps = list(steps)",
        (EVALUATIONS, "tests/pipeline/test_preview.py"),
    ),
    (
        "costs: a note that is too short is taken",
        "if all(len(column) == self.grid.tile_count for column in columns):",
        "if all(len(column) for column in columns):",
        EVALUATIONS,
    ),
)

_LEASE = _of(
    "cluster/lease.py",
    (
        "lease: not read back",
        "time.sleep(_SETTLE_SECONDS)\n        if not self._still_ours():",
        "time.sleep(_SETTLE_SECONDS)\n        if False:",
        LEASE,
    ),
    (
        "lease: a dead process of this machine lives on",
        "return self.machine != _machine() or _start_of(self.pid) == self.start",
        "return True",
        LEASE,
    ),
    (
        "lease: a pid used again is alive",
        "_start_of(self.pid) == self.start",
        "_start_of(self.pid) >= 0",
        LEASE,
    ),
    ("lease: no heartbeat is needed", "if now - self.beat > DEAD_SECONDS:", "if False:", LEASE),
    (
        "lease: a living holder is overrun",
        "        if holder is not None:\n            raise ClusterError(",
        "        if False:\n            raise ClusterError(",
        LEASE,
    ),
    ("lease: being replaced is not noticed", "self._taken_away.set()", "pass", LEASE),
    (
        "lease: another's note is deleted",
        "if self._claimed and self._still_ours():",
        "if self._claimed:",
        LEASE,
    ),
    (
        "lease: a driver that was refused deletes the note",
        "if self._claimed and self._still_ours():",
        "if self._still_ours():",
        LEASE,
    ),
    (
        "lease: the heart does not beat",
        "                self._write()\n            except",
        "                pass\n            except",
        LEASE,
    ),
    (
        "lease: leftovers are not swept",
        "        self._thread.start()\n        self._store.sweep()",
        "        self._thread.start()",
        LEASE,
    ),
)

_RUN = _of(
    "cluster/run.py",
    (
        "takeover: a replaced driver goes on",
        "return self._interrupts.requested or lease.lost",
        "return self._interrupts.requested",
        PROMISES,
    ),
    (
        "takeover: a replaced driver ends as if all were well",
        "            if lease.lost:\n                raise",
        "            if False:\n                raise",
        PROMISES,
    ),
    (
        "takeover: a replaced driver sweeps",
        "if not lease.lost:\n            with",
        "if True:\n            with",
        PROMISES,
    ),
    (
        "resume: what is not listed is not rendered again",
        "missing = [work for work in self._todo.missing() if work not in self._given_up]",
        "missing: list[Work] = []",
        PROMISES,
    ),
    (
        "quarantine: lifted never",
        "if work in self._noted:",
        "if False:",
        "tests/cluster/test_cli.py::test_a_poison_tile_is_quarantined_named_and_tried_again",
    ),
    (
        "quarantine: not noted",
        "quarantine.put(self._store, work, reasons)",
        "pass",
        "tests/cluster/test_cli.py::test_a_poison_tile_is_quarantined_named_and_tried_again",
    ),
)

_SERIAL = _of(
    "cluster/serial.py",
    (
        "disk: a store that fails is the tile's fault",
        "return Unwritable(worker, describe(error))",
        "return Failed(worker, describe(error))",
        PROMISES,
    ),
)

_INTERRUPTS = _of(
    "cluster/interrupts.py",
    ("interrupts: a second signal is ignored", "os._exit(EXIT_CODE)", "pass", PROMISES),
    (
        "interrupts: one key press counts twice",
        "if now - self._since < _SAME_PRESS_SECONDS:",
        "if False:",
        PROMISES,
    ),
    (
        "interrupts: the first signal is ignored",
        "            raise KeyboardInterrupt",
        "            pass",
        PROMISES,
    ),
)

_PREPARE = _of(
    "pipeline/prepare.py",
    (
        "resume: differences ignored",
        '    if changed:\n        raise PrepareError(\n            f"{store.url} cannot be resumed',
        '    if False:\n        raise PrepareError(\n            f"{store.url} cannot be resumed',
        PREPARE,
    ),
    (
        "resume: another render's store is taken",
        "    if changed:\n        calibrated =",
        "    if False:\n        calibrated =",
        PREPARE,
    ),
    (
        "resume: the tile size is not compared",
        "if tile not in (None, store.grid.tile):",
        "if False:",
        PREPARE,
    ),
    ("fingerprint: without the numerics", '        "numerics": NUMERICS,\n', "", FINGERPRINT),
    (
        "fingerprint: without the network's code",
        "codes.network.digest if codes.network else None",
        "None",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the loss's code",
        "codes.loss.digest if codes.loss else None",
        "None",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the buffers",
        '"network.buffers": digest_of_array(*buffers),',
        '"network.buffers": "",',
        FINGERPRINT,
    ),
    (
        "fingerprint: without the weights",
        '**{f"plane.weights[{i}]": digest for i, digest in enumerate(geometry.digests)},',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the extent",
        '"plane.extent": extents if per_frame else extents[0],',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the seed",
        '"plane.seed": getattr(spec.plane, "seed", None),',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the examples",
        '**{f"data.{s.name}": s.digest for s in subsamples},',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the splits' names",
        '"data.splits": sorted(s.name for s in subsamples),',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the calibrating split",
        'parts["evaluate.calibrate"] = spec.calibrating',
        "pass",
        FINGERPRINT,
    ),
    (
        "resume: the calibrating split of older stores is not known",
        'parts.setdefault("evaluate.calibrate", store.splits[0])',
        "pass",
        (FINGERPRINT, PREPARE),
    ),
    (
        "fingerprint: without the normalisation",
        'normalise.model_dump(mode="json") if normalise else None',
        "None",
        FINGERPRINT,
    ),
    (
        "fingerprint: without batch norm's treatment",
        '"evaluate.batch_norm": inputs.batch_norm,',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without the precision",
        '"evaluate.precision": spec.evaluate.precision,',
        "",
        FINGERPRINT,
    ),
    (
        "fingerprint: without compiling",
        '**({"evaluate.compile": True} if spec.evaluate.compile else {}),',
        "",
        FINGERPRINT,
    ),
)

_FINGERPRINT = _of(
    "pipeline/fingerprint.py",
    (
        "digest: arrays without shapes",
        'f"{array.dtype.str}{array.shape}"',
        "array.dtype.str",
        FINGERPRINT,
    ),
    (
        "digest: arrays without dtypes",
        'f"{array.dtype.str}{array.shape}"',
        'f"{array.shape}"',
        FINGERPRINT,
    ),
    (
        "resume: parts that the store lacks are not compared",
        "for key in sorted({*stored, *wanted}):",
        "for key in sorted(stored):",
        FINGERPRINT,
    ),
    (
        "resume: parts that are new are not compared",
        "for key in sorted({*stored, *wanted}):",
        "for key in sorted(wanted):",
        FINGERPRINT,
    ),
)

_USERCODE = _of(
    "pipeline/usercode.py",
    (
        "digest: sources without lengths",
        'sha.update(len(content).to_bytes(8, "little") + content)',
        "sha.update(content)",
        USERCODE,
    ),
    (
        "digest: sources without the entry",
        "for text in (entry, *(part",
        'for text in ("", *(part',
        USERCODE,
    ),
    (
        "digest: sources without names",
        "for item in sorted(files.items()) for part in item",
        "for item in sorted(files.items()) for part in item[1:]",
        USERCODE,
    ),
)

_DATA = _of(
    "pipeline/data.py",
    (
        "digest: examples without shapes",
        'f"{array.dtype.str}{array.shape}"',
        "array.dtype.str",
        DATA,
    ),
    (
        "digest: examples without rows",
        "for array in (rows, raw, targets):",
        "for array in (raw, targets):",
        DATA,
    ),
    (
        "subsample: the seed is ignored",
        "np.random.SeedSequence([seed, name])",
        "np.random.SeedSequence([0, name])",
        DATA,
    ),
    (
        "subsample: all splits draw alike",
        "np.random.SeedSequence([seed, name])",
        "np.random.SeedSequence([seed, 0])",
        DATA,
    ),
    (
        "subsample: not nested, without classes",
        "generator.permutation(total)[:count]",
        "generator.choice(total, count, replace=False)",
        DATA,
    ),
    (
        "subsample: not nested, with classes",
        "members = [generator.permutation(part) for part in parts]",
        "members = [np.random.default_rng(count).permutation(part) for part in parts]",
        DATA,
    ),
    (
        "subsample: not stratified",
        "heapq.heappush(ready, (last, middle, ties[c], c))",
        "heapq.heappush(ready, (0, 0.0, ties[c], c))",
        DATA,
    ),
    ("data: bytes divided by 256", "np.float32(255)", "np.float32(256)", DATA),
    ("data: multiplied by the deviation", "(inputs - mean) / std", "(inputs - mean) * std", DATA),
)

_BATCH_NORM = _of(
    "pipeline/batch_norm.py",
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
)

_EVALUATE = _of(
    "pipeline/evaluate.py",
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
        "evaluator: chunks larger than allowed",
        "count = -(-len(self.inputs) // size)",
        "count = max(1, len(self.inputs) // size)",
        EVALUATE,
    ),
    (
        "evaluator: the last chunk is left out",
        "return [Examples(self.name, inputs, targets) for inputs, targets in pieces]",
        "made = [Examples(self.name, inputs, targets) for inputs, targets in pieces]\n"
        "        return made[:-1] or made",
        EVALUATE,
    ),
    (
        "evaluator: modes do not follow the weights",
        "            self._module.train()\n            self._module.eval()",
        "            pass",
        CROSSCHECK,
    ),
    (
        "precision: float32 is what the process allows",
        "with arithmetic(self._precision):\n            for",
        "with contextlib.nullcontext():\n            for",
        (EVALUATE, PRECISION),
    ),
)

_LOSSES = _of(
    "pipeline/losses.py",
    (
        "evaluator: losses summed in float32",
        "return losses.mean(1)",
        "return losses.float().mean(1)",
        EVALUATE,
    ),
    (
        "evaluator: the spread of a population",
        "row.std()",
        "row.std(correction=0)",
        EVALUATE,
    ),
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
)

_PLACEMENT = _of(
    "pipeline/placement.py",
    (
        "placement: rounded twice",
        "torch.empty_like(self._flat, dtype=torch.float64)",
        "torch.empty_like(self._flat)",
        PLACEMENT,
    ),
    (
        "placement: the plane in float32",
        "torch.tensor(vector)[self._order].to(self._device)",
        "torch.tensor(vector).float()[self._order].double().to(self._device)",
        PLACEMENT,
    ),
    ("placement: v's sign", "self._v, alpha=y, out", "self._v, alpha=-y, out", PLACEMENT),
)

_PLANE = _of(
    "pipeline/plane.py",
    (
        "plane: v's sign",
        "self.origin + x * self.u + y * self.v",
        "self.origin + x * self.u - y * self.v",
        PLANE,
    ),
    ("plane: one pass of Gram–Schmidt", "    residual -= dot(residual, u) * u\n", "", PLANE),
    (
        "plane: filters along the wrong axis",
        "found = np.linalg.norm(filters, axis=1, keepdims=True)",
        "found = np.linalg.norm(filters)",
        PLANE,
    ),
    ("plane: biases move", "if len(shape) < 2:", "if len(shape) < 1:", PLANE),
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
)

_GRID = _of(
    "pipeline/grid.py",
    ("grid: columns first", 'indexing="ij"', 'indexing="xy"', GRID),
    (
        "grid: without its end points",
        "return np.linspace(low, high, count)",
        "return np.linspace(low, high, count, endpoint=False)",
        GRID,
    ),
    ("grid: the highest y first", "[across[x], up[y]]", "[across[x], up[::-1][y]]", GRID),
    ("grid: a tile beyond the edge", "min(x + self.tile, self.width)", "x + self.tile", GRID),
)

_AUDIT = _of(
    "pipeline/audit.py",
    ("audit: the bound at one minus the confidence", "> 1 - confidence:", "> confidence:", AUDIT),
    (
        "audit: the share found is the bound",
        "low, high = beyond / audited, 1.0",
        "return beyond / audited",
        AUDIT,
    ),
    ("audit: drawn with replacement", "replace=False", "replace=True", AUDIT),
    (
        "audit: everything evaluated, and still a bound",
        "if audited >= predicted:",
        "if not predicted:",
        AUDIT,
    ),
)

_SCALE = _of(
    "pipeline/scale.py",
    (
        "audit: a result that is no number is passed over",
        "np.where(np.isnan(found) | ~np.isfinite(one) | ~np.isfinite(other), np.inf, found)",
        "np.nan_to_num(found)",
        "tests/pipeline/test_scale.py",
    ),
)

_REFINED = _of(
    "pipeline/refined.py",
    (
        "refined: a step counts without its composed tile",
        "if s.number != course.last or s.tile in tiles",
        "if s.number != course.last or tiles is not None",
        PROMISES,
    ),
    (
        "refined: nobody asks for composed tiles",
        'if course is None or course.passes[-1].kind != "compose":',
        "if True:",
        PROMISES,
    ),
    (
        "audit: drawn from what was evaluated",
        "places = np.flatnonzero(levels < 0)[ranks]",
        "places = np.flatnonzero(levels >= 0)[ranks]",
        (STEPS, "tests/test_refinement.py"),
    ),
    (
        "audit: evaluated points count as predicted",
        "self.grid.size(tile) - int(row.sum())",
        "self.grid.size(tile)",
        (STEPS, "tests/test_refinement.py"),
    ),
    (
        "refined: a step sees steps beside it",
        "self.evaluations.known(frame, *part, number, self._committed)",
        "self.evaluations.known(frame, *part, number + 1, self.evaluations.committed())",
        STEPS,
    ),
)

_COURSE = _of(
    "pipeline/course.py",
    ("course: the copy last", "for name in (_COPY, _NOTE):", "for name in (_NOTE, _COPY):", STEPS),
    (
        "course: half a note is taken",
        'note if note and note.get("digest") == _digest(note) else None',
        "note or None",
        (STEPS, COURSE),
    ),
)

_TASK = _of(
    "pipeline/task.py",
    ("precision: a worker that deviates goes on", "found.require()", "pass", PRECISION),
    (
        "refined: the step's commit before its tile",
        '        if kind == "compose":\n            values',
        "        self._refined.evaluations.commit(\n"
        "            step, Points(y, x, evaluated), worked - began, self._worker\n"
        "        )\n"
        '        if kind == "compose":\n            values',
        (STEPS, PROMISES),
    ),
)

_STEPS = _of(
    "cluster/steps.py",
    (
        "steps: may begin always",
        "return all(int(self._through[parent].min()) >= settled for parent in parents)",
        "return True",
        STEPS,
    ),
    (
        "steps: a tile does not wait for those around it",
        "return self._opened(following, at, lacking[at] == 0)",
        "return self._opened(following, at, lacking[at] >= 0)",
        STEPS,
    ),
    (
        "steps: an audit does not wait for all",
        "if number and self._left[number - 1]:",
        "if False:",
        STEPS,
    ),
    (
        "steps: two drivers decide at once",
        "if found is not None and (self._course is None or",
        "if False and (self._course is None or",
        STEPS,
    ),
    (
        "steps: more is decided before tiles are withdrawn",
        "self._check_room(more)  # while",
        "self._decide(more)  # while",
        STEPS,
    ),
    ("steps: composing is not given up", "        self._skip_composing()\n", "", STEPS),
)

_SCHEDULER = _of(
    "cluster/scheduler.py",
    (
        "scheduler: one strike too many",
        "if len(strikes) >= self.rules.strikes:\n            self.quarantined",
        "if len(strikes) > self.rules.strikes:\n            self.quarantined",
        SCHEDULER,
    ),
    ("scheduler: preemption is a strike", "None if preempted else reason", "reason", SCHEDULER),
    (
        "scheduler: a full disk is a strike",
        "self._give_back(attempt, worker, now, None)\n\n",
        "self._give_back(attempt, worker, now, reason)\n\n",
        SCHEDULER,
    ),
    (
        "scheduler: a raced tile counts twice",
        "self._busy[other].redundant = True",
        "pass",
        SCHEDULER,
    ),
    (
        "scheduler: tiles are raced at once",
        "if now - started <= self.rules.duplicate_factor * typical:",
        "if False:",
        SCHEDULER,
    ),
    ("scheduler: no tile is raced", "self._duplicate(now)", "pass", SCHEDULER),
    (
        "scheduler: a deadline despite longer tiles",
        "rules.deadline_factor * typical, 3 * self._pace.longest",
        "rules.deadline_factor * typical",
        SCHEDULER,
    ),
    (
        "scheduler: the deadline does not grow",
        "patience * float(2 ** len(self._strikes.get(tile, ())))",
        "patience",
        SCHEDULER,
    ),
    (
        "scheduler: retries at once",
        "self._retry_delay(len(strikes)) if reason is not None else 0.0",
        "0.0",
        SCHEDULER,
    ),
    (
        "scheduler: a crash loop does not back off",
        "self._spawn_at = now + self._respawn_delay()",
        "self._spawn_at = now",
        SCHEDULER,
    ),
    (
        "scheduler: a full disk never ends it",
        "if self._write_rounds >= self.rules.write_tries:",
        "if False:",
        SCHEDULER,
    ),
)

_PICTURES = [
    *_of(
        "renders/reel.py",
        (
            "tone: fitted to the frames that are shown",
            "finished_values(store, quantity, (samples[0].split,), absent),",
            "(store.read(quantity, samples[0].split, f) for f in range(span[0], span[1] + 1)),",
            FRAMES,
        ),
    ),
    *_of(
        "renders/tone.py",
        ("tone: infinities are fitted", "flat[np.isfinite(flat)]", "flat[~np.isnan(flat)]", TONE),
    ),
    *_of(
        "renders/stroke.py",
        (
            "seams: strokes without a halo",
            "return math.ceil(self.width_px / 2 + 1)",
            "return 0",
            SHADE,
        ),
    ),
    *_of(
        "renders/shade.py",
        (
            "seams: hatching by the tile",
            "across = (x0 + i + y) * math.sqrt(0.5)",
            "across = (i + y) * math.sqrt(0.5)",
            SHADE,
        ),
    ),
    *_of(
        "renders/png.py",
        (
            "png: bands out of their order",
            "for packed, raw_checksum, length in _bands(picture, spread):",
            "for packed, raw_checksum, length in reversed(list(_bands(picture, spread))):",
            PNG,
        ),
        (
            "png: the checksum of the last band",
            "checksum = adler32_combine(checksum, raw_checksum, length)",
            "checksum = raw_checksum",
            PNG,
        ),
        (
            "png: rows upside down in a band",
            "flat = pixels.reshape(height, 3 * width)",
            "flat = pixels[::-1].reshape(height, 3 * width)",
            PNG,
        ),
    ),
    *_of(
        "renders/tiff.py",
        (
            "tiff: a level's rows one tile off",
            "row, top = self._rows[k], y % TILE",
            "row, top = self._rows[k], 0",
            TIFF,
        ),
        (
            "tiff: rows of a level not written",
            "if x + small.shape[1] < width or (bottom % TILE and bottom < height):",
            "if x + small.shape[1] < width or bottom % TILE:",
            TIFF,
        ),
    ),
    *_of(
        "renders/whole.py",
        (
            "files: what fails is left lying",
            "partial.unlink(missing_ok=True)",
            "pass",
            (PNG, TIFF),
        ),
        (
            "files: an old one goes before the new one is whole",
            "        with _locked(partial) as handle:\n",
            "        path.unlink(missing_ok=True)\n        with _locked(partial) as handle:\n",
            (PNG, TIFF),
        ),
    ),
    *_of(
        "renders/frames.py",
        (
            "frames: an unfinished picture is kept",
            'if noted is None or share < 1 or noted["share"] < 1:',
            "if noted is None:",
            FRAMES,
        ),
    ),
]

_CROSSCHECK = _of(
    "pipeline/crosscheck.py",
    (
        "crosscheck: chance is let through",
        '_refuse_chance(problem, known, found, halves.at(weights)["loss"])',
        "pass",
        CROSSCHECK,
    ),
    (
        "crosscheck: constants are let through",
        "_refuse_constant(problem, known, plain)\n",
        "pass\n",
        CROSSCHECK,
    ),
    (
        "crosscheck: another loss is let through",
        "raise CrosscheckError(_reason(",
        "print(_reason(",
        CROSSCHECK,
    ),
    ("crosscheck: in one batch", "chunk=-(-len(calibrating) // 2)", "chunk=None", CROSSCHECK),
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
        "crosscheck: another loss of its own is not told",
        "if not np.isclose(here",
        "if False and not np.isclose(here",
        CROSSCHECK,
    ),
    (
        "crosscheck: the render's buffers are not put back",
        "        evaluator.use_buffers(problem.buffers)\n",
        "",
        CROSSCHECK,
    ),
    (
        "crosscheck: a sample's variance in plain torch",
        "norm.running_var *= (counts[0] - 1) / counts[0]",
        "norm.running_var *= 1.0",
        CROSSCHECK,
    ),
    (
        "crosscheck: NaN agrees with anything",
        "close = (found == plain) |",
        "close = np.isnan(found) | (found == plain) |",
        CROSSCHECK,
    ),
)

FAULTS: tuple[Fault, ...] = (
    *_STORE,
    *_LAYOUT,
    *_VERIFY,
    *_CLAIM,
    *_RECORDS,
    *_LEASE,
    *_RUN,
    *_SERIAL,
    *_INTERRUPTS,
    *_PREPARE,
    *_FINGERPRINT,
    *_USERCODE,
    *_DATA,
    *_BATCH_NORM,
    *_EVALUATE,
    *_LOSSES,
    *_PLACEMENT,
    *_PLANE,
    *_GRID,
    *_AUDIT,
    *_SCALE,
    *_REFINED,
    *_COURSE,
    *_TASK,
    *_STEPS,
    *_SCHEDULER,
    *_PICTURES,
    *_CROSSCHECK,
)
