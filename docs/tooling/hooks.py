"""What the site does beyond mkdocs.

Pages from files outside of docs/, the list of decisions, pictures with the page's colours, a check of the result.

The check fails the build when a built page would load anything from another origin.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

FROM_ROOT = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
}
_LOADING = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "object": ("data",),
}
_LINKED_ONLY = {"canonical", "next", "prev", "alternate"}
_ELSEWHERE = re.compile(r"(?:https?:)?//")
_CSS_ELSEWHERE = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//""")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Write the decisions out where the navigation has ``adr/``."""
    pages = sorted(
        path.relative_to(config.docs_dir).as_posix()
        for path in Path(config.docs_dir, "adr").glob("*.md")
    )
    config.nav = _with_decisions(config.nav, pages)
    return config


def _with_decisions(nav: Any, pages: list[str]) -> Any:
    if isinstance(nav, list):
        return [_with_decisions(item, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _with_decisions(item, pages) for title, item in nav.items()}
    return pages if nav == "adr/" else nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make pages of the files that live beside the README, and of the commands."""
    root = Path(config.config_file_path).parent
    for page, source in FROM_ROOT.items():
        text = (root / source).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=text))
    sys.path[:0] = [str(root), str(root / "docs" / "tooling")]
    import commands

    files.append(
        File.generated(config, "reference/commands.md", content=commands.page())
    )
    return files


def on_page_markdown(
    markdown: str, page: Any, config: MkDocsConfig, files: Files
) -> str:
    """Lead links to a file beside the README to the page that is made of it."""
    for made, source in FROM_ROOT.items():
        markdown = re.sub(rf"\]\((?:\.\./)?{re.escape(source)}", f"]({made}", markdown)
    return markdown


def on_page_content(html: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Put pictures of ours into the page itself, where they take their colours from it."""

    def inline(found: re.Match[str]) -> str:
        picture = Path(config.docs_dir, "assets", found[1]).read_text("utf-8")
        return re.sub(r"<style>.*?</style>", "", picture, flags=re.DOTALL)

    return re.sub(r'<img [^>]*src="[./]*assets/([\w-]+\.svg)"[^>]*>', inline, html)


class _Loads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in _LINKED_ONLY:
            return
        self.found += [
            value
            for name in _LOADING.get(tag, ())
            if (value := given.get(name)) and _ELSEWHERE.match(value)
        ]


def on_post_build(config: MkDocsConfig) -> None:
    """Look through everything that was built.

    Raises:
        PluginError: a page or a style sheet loads something from another origin.
    """
    complaints = []
    for path in sorted(Path(config.site_dir).rglob("*")):
        if path.suffix == ".html":
            page = _Loads()
            page.feed(path.read_text("utf-8"))
            complaints += [f"{path.name} loads {found}" for found in page.found]
        elif path.suffix == ".css" and _CSS_ELSEWHERE.search(path.read_text("utf-8")):
            complaints.append(f"{path.name} loads from elsewhere")
    if complaints:
        raise PluginError("; ".join(complaints))
