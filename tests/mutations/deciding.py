"""What is rendered: fingerprints, digests, and the examples that are drawn."""

from __future__ import annotations

from tests.mutations.fault import of

DATA = "tests/pipeline/test_data.py"
FINGERPRINT = "tests/pipeline/test_fingerprint.py"
PREPARE = "tests/pipeline/test_prepare.py"
USERCODE = "tests/pipeline/test_usercode.py"

FAULTS = (
    *of(
        "pipeline/prepare.py",
        (
            "resume: differences ignored",
            "prepared.parts)\n    if changed:",
            "prepared.parts)\n    if False:",
            PREPARE,
        ),
        (
            "resume: the calibrating split of older stores is not known",
            'parts.setdefault("evaluate.calibrate", store.splits[0])',
            "pass",
            (FINGERPRINT, PREPARE),
        ),
    ),
    *of(
        "pipeline/opening.py",
        (
            "resume: another render's store is taken",
            "    if changed:\n        raise",
            "    if False:\n        raise",
            PREPARE,
        ),
        (
            "resume: the tile size is not compared",
            "same_tiles = tile in (None, store.grid.tile)",
            "same_tiles = True",
            PREPARE,
        ),
    ),
    *of(
        "pipeline/facts.py",
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
            '**({"evaluate.calibrate": spec.calibrating} if calibrates else {}),',
            "",
            FINGERPRINT,
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
    ),
    *of(
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
    ),
    *of(
        "pipeline/problem/usercode.py",
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
    ),
    *of(
        "pipeline/problem/data.py",
        (
            "digest: examples without shapes",
            'f"{array.dtype.str}{array.shape}"',
            "array.dtype.str",
            DATA,
        ),
        (
            "digest: examples without rows",
            "for array in (rows, *leaves(raw), targets):",
            "for array in (*leaves(raw), targets):",
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
    ),
    *of(
        "pipeline/problem/conversion.py",
        ("data: bytes divided by 256", "reals(255)", "reals(256)", DATA),
        (
            "data: multiplied by the deviation",
            "(inputs - mean) / std",
            "(inputs - mean) * std",
            DATA,
        ),
    ),
)
