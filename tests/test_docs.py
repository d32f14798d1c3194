"""The Python blocks of the README and of the docs run, one after the other, page by page."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.M)  # modules without which a page's blocks are skipped


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if BLOCK.search(p.read_text())], ids=lambda p: p.name)
def test_code_blocks_run(page, tmp_path, monkeypatch):
    for needed in NEEDS.findall(page.read_text()):
        for module in needed.split(", "):
            pytest.importorskip(module, reason=f"the blocks of {page.name} need {module}")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for match in BLOCK.finditer(page.read_text()):
        line = page.read_text()[: match.start()].count("\n") + 1
        exec(compile("\n" * line + match.group(1), str(page), "exec"), names)


def test_there_are_blocks_to_run():
    assert any(BLOCK.search(p.read_text()) for p in PAGES)


def test_set_up_commands_are_word_for_word():
    text = (ROOT / "README.md").read_text()
    for line in (
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/axiom demo",
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest",
    ):
        assert f"\n{line}\n" in text
