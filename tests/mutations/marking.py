"""Marks: their files, their averages, their own buffers, and when they count."""

from __future__ import annotations

from tests.mutations.fault import of

MARKS = "tests/pipeline/test_marks.py"
STORED = "tests/pipeline/test_stored_marks.py"
COMMANDS = "tests/cluster/test_marks.py"

FAULTS = (
    *of(
        "pipeline/store/marks.py",
        (
            "marks: committed first",
            "        at = slice(block.start, block.stop)\n        for quantity",
            "        at = slice(block.start, block.stop)\n"
            '        self._arrays["mark_done"][at] = np.ones(block.stop - block.start, "u1")\n'
            "        for quantity",
            f"{STORED}::test_a_writer_that_dies_at_any_write_has_committed_nothing_or_all",
        ),
        (
            "marks: a lost chunk is read as NaN",
            "            if lost:",
            "            if False:",
            f"{STORED}::test_damage_is_found_and_put_back",
        ),
    ),
    *of(
        "pipeline/store/layout.py",
        (
            "marks: a block outlasts a tile",
            "min(_MOST_MARKS_A_BLOCK, grid.size(Tile(0, 0, 0)), marks)",
            "min(_MOST_MARKS_A_BLOCK, marks)",
            f"{STORED}::test_a_block_has_no_more_marks_than_a_tile_has_points",
        ),
    ),
    *of(
        "pipeline/geometry/marks.py",
        (
            "marks: a replaced file is taken",
            "if mark.digest != group.digests[number]:",
            "if False:",
            f"{MARKS}::test_a_mark_that_was_replaced_meanwhile_is_not_committed",
        ),
    ),
    *of(
        "pipeline/problem/state_dict.py",
        (
            "marks: a curve is its start",
            "bends, bend = len(points) - 2, points[1]",
            "bends, bend = len(points) - 2, points[0]",
            f"{MARKS}::test_a_curve_checkpoint_is_its_bend",
        ),
    ),
    *of(
        "pipeline/geometry/weight_averages.py",
        (
            "swag: a scale without its root",
            "math.sqrt(scale) * noise",
            "scale * noise",
            f"{MARKS}::test_samples_have_the_covariance_of_the_paper",
        ),
        (
            "swag: one too many in the rank",
            "math.sqrt(rank - 1)",
            "math.sqrt(rank)",
            f"{MARKS}::test_samples_have_the_covariance_of_the_paper",
        ),
        (
            "swag: deviations from the mean before",
            "self._deviations.append(after",
            "self._deviations.append(before",
            f"{MARKS}::test_a_gaussian_has_the_moments_of_its_weights",
        ),
    ),
    *of(
        "pipeline/task.py",
        (
            "marks: the plane's statistics",
            "            self._evaluator.use_buffers(mark.buffers)\n",
            "",
            f"{MARKS}::test_a_mark_with_batch_norm_has_the_loss_of_plain_torch",
        ),
        (
            "marks: a mark's buffers stay",
            "self._evaluator.use_buffers(self._buffers)",
            "pass",
            f"{MARKS}::test_marks_leave_the_planes_numbers_as_they_are",
        ),
    ),
    *of(
        "pipeline/verify.py",
        (
            "verify: marks are not looked at",
            "[*sorted(marks.committed()), *tiles]",
            "[*tiles]",
            f"{COMMANDS}::test_damaged_marks_are_named_put_back_and_mended",
        ),
    ),
    *of(
        "cluster/scheduling/step_queue.py",
        (
            "marks: finished without them",
            "    if StoredMarks(store).pending():\n        return False\n",
            "",
            f"{COMMANDS}::test_damaged_marks_are_named_put_back_and_mended",
        ),
    ),
)
