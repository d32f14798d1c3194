"""The rows of `axiom bench`: none is disturbed by the one before."""

import time

from axiom_jax._cli_rows import Row, decide_rows
from axiom_jax.verification.search.compilation import compiled_before, compiles


def test_a_row_begins_when_what_the_one_before_left_behind_has_ended():
    rows = [Row(number, "none.onnx", (), "none.vnnlib", 1.0, False, 1.0) for number in (1, 2)]
    answers = decide_rows(rows)
    next(answers)
    assert not compiled_before(("left behind by a row",), lambda: time.sleep(0.5))
    assert compiles()
    row, answer = next(answers)
    assert not compiles()
    assert row.number == 2 and answer.result["verdict"] == "unknown"
