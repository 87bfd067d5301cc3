"""The documentation cannot drift: every setting and command is in it, with its real default."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import traitlets

from loopat_jupyter import __version__
from loopat_jupyter.extension import LoopatExtension

ROOT = Path(__file__).parent.parent
CONFIGURATION = (ROOT / "docs" / "configuration.md").read_text()
README = (ROOT / "README.md").read_text()

TRAITS = sorted(
    name
    for name, trait in LoopatExtension.class_traits(config=True).items()
    if trait.this_class is not None and trait.this_class.__module__.startswith("loopat_jupyter.")
)


def row_of(trait: str) -> str:
    """The trait's row in the table of settings."""
    found = re.search(rf"^\| `{trait}` \|.*$", CONFIGURATION, re.MULTILINE)
    assert found, f"docs/configuration.md has no row for the trait {trait}"
    return found[0]


@pytest.mark.parametrize("name", TRAITS)
def test_every_trait_is_documented_with_its_default(name: str) -> None:
    trait = getattr(LoopatExtension, name)
    assert trait.help, f"{name} has no help"
    _, _, _, default, meaning, *_ = [cell.strip() for cell in ("|" + row_of(name)).split("|")]
    expected = "[]" if isinstance(trait, traitlets.List) else trait.default_value
    if name == "home":
        assert "LOOPAT_HOME" in row_of(name)
    else:
        assert default.strip("`") == str(expected), row_of(name)
    assert len(meaning) > 10


def test_the_table_names_no_setting_that_does_not_exist() -> None:
    section = CONFIGURATION.partition("## Traits")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == set(TRAITS)


def test_the_changelog_has_this_version() -> None:
    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_package_and_its_metadata_agree_on_the_version() -> None:
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()


def test_the_readme_s_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_command_of_the_cli_is_in_the_readme_or_the_docs() -> None:
    from typer.main import get_command

    from loopat_jupyter.cli._app import app

    text = README + "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    for name in get_command(app).commands:  # type: ignore[attr-defined]
        assert f"loopat {name}" in text, name


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs"])
def test_the_repository_holds_no_path_of_one_machine(page: str) -> None:
    root = ROOT / page
    for path in [root] if root.is_file() else root.rglob("*.md"):
        assert not re.search(r"(?<![\w.~])/(root|work|tmp/w)/", path.read_text()), path
