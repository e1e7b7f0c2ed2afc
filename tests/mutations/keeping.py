"""What is kept, and when it counts: commits, listings, records, damage, new stores."""

from __future__ import annotations

from tests.mutations.fault import of

RECORDS = "tests/pipeline/test_records.py"
PROMISES = "tests/cluster/test_promises.py"
GROWTH = "tests/pipeline/test_growth.py"
REFINED = "tests/cluster/test_refined.py"
STEPS = "tests/cluster/test_step_queue.py"
STORE = "tests/pipeline/test_store.py"

FAULTS = (
    *of(
        "pipeline/store/store.py",
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
    ),
    *of(
        "pipeline/store/reader.py",
        (
            "commit: chunks of nothing but NaN left out",
            'with zarr.config.set({"array.write_empty_chunks": True}):\n            return dict(',
            'with zarr.config.set({"array.write_empty_chunks": False}):\n            return dict(',
            STORE,
        ),
        (
            "verify: a missing chunk is read as NaN",
            "exists(self._key(key))):\n                raise StoreError",
            "exists(self._key(key))) and False:\n                raise StoreError",
            STORE,
        ),
        (
            "verify: the commit itself is not read",
            'if int(np.asarray(self._array("done")[place])) != 1:',
            "if False:",
            STORE,
        ),
    ),
    *of(
        "pipeline/store/layout.py",
        (
            "verify: chunks without a checksum",
            'shuffle="shuffle"), Crc32cCodec()]',
            'shuffle="shuffle")]',
            STORE,
        ),
        (
            "verify: commits without a checksum",
            'compressors=[Crc32cCodec()],\n            dimension_names=("frame",',
            'compressors=[],\n            dimension_names=("frame",',
            STORE,
        ),
    ),
    *of(
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
            "if store.refined:\n            Rec",
            "if False:\n            Rec",
            REFINED,
        ),
    ),
    *of(
        "pipeline/store/atomic.py",
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
    ),
    *of(
        "pipeline/refinement/records.py",
        (
            "commit: a step's written first as well",
            "        count = len(points.y)\n",
            "        count = len(points.y)\n"
            "        at = (slice(None), step.number, step.frame, step.row, step.column)\n"
            '        self._arrays["steps"][at] = np.array([count, seconds, worker], "f8")\n',
            RECORDS,
        ),
        (
            "withdraw: records before their commits",
            'self._store.delete(f"evaluated/steps/c/0/{step.number}/{step.tile}")',
            'self._store.delete(f"evaluated/points/c/{step.number}/{step.tile}")\n'
            '            self._store.delete(f"evaluated/steps/c/0/{step.number}/{step.tile}")',
            RECORDS,
        ),
        (
            "withdraw: the note of costs stays",
            "self._store.delete_note(_pass_note(number))",
            "number + 1",
            RECORDS,
        ),
        (
            "records: a count that does not agree is taken",
            "if len(y) != facts.points:",
            "if False:",
            (RECORDS, REFINED),
        ),
        (
            "records: values where no point is are taken",
            "if (~np.isnan(values).all(axis=0) & (mask == 0)).any():",
            "if False:",
            RECORDS,
        ),
        (
            "records: missing values are read as NaN",
            "if np.isnan(found).all() and not self._has_values(step):",
            "if False:",
            (RECORDS, REFINED),
        ),
        (
            "records: a pass reads its own",
            "for number in range(before)\n        ]\n        if committed",
            "for number in range(before + 1)\n        ]\n        if committed",
            (RECORDS, STEPS),
        ),
        (
            "records: uncommitted steps are read",
            "steps = [step for step in steps if step in committed]",
            "steps = list(steps)",
            (RECORDS, "tests/pipeline/test_preview.py"),
        ),
        (
            "costs: a note that is too short is taken",
            "if all(len(column) == self.grid.tile_count for column in columns):",
            "if all(len(column) for column in columns):",
            RECORDS,
        ),
    ),
    *of(
        "pipeline/store/growth.py",
        (
            "growth: the attributes before the metadata",
            "        group = zarr.consolidate_metadata(group.store)\n        group.attrs",
            "        group.attrs.put(dict(attributes))\n"
            "        group = zarr.consolidate_metadata(group.store)\n        group.attrs",
            GROWTH,
        ),
        (
            "growth: commits beyond the frames are kept",
            "beyond.withdraw(tile)",
            "pass",
            GROWTH,
        ),
        (
            "growth: an extent that moves is let through",
            "if new[:had] != old:",
            "if False:",
            GROWTH,
        ),
        (
            "growth: any frames may be the first ones",
            "len(old) >= len(new) or new[: len(old)] != old:",
            "len(old) >= len(new):",
            GROWTH,
        ),
        (
            "growth: other differences are ignored",
            "return not differences(_without_frames(stored), _without_frames(parts))",
            "return True",
            GROWTH,
        ),
    ),
    *of(
        "pipeline/geometry/grid.py",
        (
            "listing: half-written commits count",
            "    if not (name.isascii() and name.isdigit()):",
            '    name = name.partition(".")[0]\n    if not (name.isascii() and name.isdigit()):',
            (STORE, RECORDS),
        ),
        (
            "listing: rows and frames swapped",
            "itertools.repeat(frame), itertools.repeat(row)",
            "itertools.repeat(row), itertools.repeat(frame)",
            STORE,
        ),
        (
            "listing: keys beyond the grid count",
            "return number if number < count and str(number) == name else None",
            "return number",
            "tests/cluster/test_stray.py::test_strays_are_no_tiles_and_in_nobodys_way",
        ),
    ),
)
