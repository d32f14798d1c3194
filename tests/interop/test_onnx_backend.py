"""The node tests that the onnx package generates: a campaign that counts, and refuses what got worse."""

import warnings

import pytest
from onnx_backend import applies, cases, run

PASSED = 1446  # of 1658 whose operators are ours; the rest need dtypes, outputs or sizes that we refuse by name


@pytest.mark.campaign
def test_the_generated_node_tests():
    passed, failed = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the generators divide by zero on purpose
        for name, case in cases().items():
            if not applies(case):
                continue
            for fixed in (False, True):
                try:
                    run(case, fixed)
                    passed.append(name)
                    failed.pop(name, None)
                    break
                except Exception as error:  # counted, and told below
                    failed[name] = f"{type(error).__name__}: {error}"
    print("\n".join(f"{name}: {why.splitlines()[0]}" for name, why in failed.items()))
    print(f"{len(passed)} passed, {len(failed)} failed")
    assert len(passed) >= PASSED
