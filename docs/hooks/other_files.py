"""Files outside docs/ that pages link to, such as CHANGELOG.md, as parts of the site.

A link must work where the repository is browsed and in the site. So pages link to `../CHANGELOG.md`
as it lies in the repository; here the file is added to the site and the link is changed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
_LINK = re.compile(r"(?<=\]\()([^)#:\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs when it has found the files of the site: add the others."""
    from mkdocs.structure.files import File

    wanted = {ROOT / name for name in PAGES}
    pages = [Path(str(file.abs_src_path)) for file in files.documentation_pages()]
    for page in [*pages, *wanted]:
        places = (page.parent / link for link in _LINK.findall(page.read_text(encoding="utf-8")))
        wanted |= {Path(os.path.normpath(place)) for place in places}
    for path in sorted(wanted):
        if path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(DOCS):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Called by MkDocs for every page: change the links."""
    here = Path(str(page.file.abs_src_path)).parent
    folder = os.path.dirname(page.file.src_uri)

    def changed(link: re.Match[str]) -> str:
        path = Path(os.path.normpath(here / link[0]))
        if not path.exists() or not path.is_relative_to(ROOT):
            return link[0]
        root = DOCS if path.is_relative_to(DOCS) else ROOT
        return os.path.relpath(path.relative_to(root).as_posix(), folder or ".")

    return _LINK.sub(changed, markdown)
