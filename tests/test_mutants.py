"""The table of deliberate faults fits the source; `python -m tests.mutants` tries them."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import FAULTS, ROOT, faulty
from tests.mutations.fault import Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_its_place_in_the_source(fault: Fault) -> None:
    ast.parse(faulty(fault))
    assert fault.old != fault.new
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / path).read_text()


def test_no_two_faults_have_one_name() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)
