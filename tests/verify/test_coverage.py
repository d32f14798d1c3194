"""The page of the docs says what the tables say."""

from pathlib import Path

from axiom_jax.verification.coverage import coverage

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"


def test_the_page_is_up_to_date(request):
    if request.config.getoption("--update-golden"):
        PAGE.write_text(coverage())
    assert PAGE.read_text() == coverage()
