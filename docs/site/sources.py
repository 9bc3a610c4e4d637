"""Pages of files outside docs/ that pages link to: a link to a test works in the repository and here."""

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

_LINK = re.compile(
    r"\[(?P<text>[^\]]*)\]\((?P<path>(?:\.\./)+(?:tests|src|examples|benchmarks)/[\w./]+\.py)\)"
)
_DEFINITIONS = (ast.FunctionDef, ast.ClassDef)


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each file that a page links to."""
    docs = Path(config.docs_dir)
    for page in [file for file in files if file.is_documentation_page()]:
        for link in _LINK.finditer(page.content_string):
            name = _name_of(link["path"], page.src_uri)
            if (docs.parent / name).is_file() and f"source/{name}.md" not in files.src_uris:
                code = (docs.parent / name).read_text()
                files.append(_page(config, name, code))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leads these links to the pages, to the function where the link's text names one."""

    def led(link: re.Match) -> str:
        here = posixpath.dirname(page.file.src_uri)
        target = posixpath.relpath(f"source/{_name_of(link['path'], page.file.src_uri)}.md", here or ".")
        _, _, function = link["text"].strip("`").partition("::")
        return f"[{link['text']}]({target}{f'#{function}' if function else ''})"

    return _LINK.sub(led, markdown)


def _page(config: Any, name: str, code: str) -> File:
    """A block for each top-level definition, so that a link can lead to it."""
    lines, content = code.splitlines(), f"---\nhide: [toc]\nsearch: {{exclude: true}}\n---\n\n# {name}\n"
    starts = {_first_line(node): node.name for node in ast.parse(code).body if isinstance(node, _DEFINITIONS)}
    ends = [*starts, len(lines) + 1]
    for first, last in zip([1, *starts], ends, strict=True):
        anchor = f'<a id="{starts[first]}"></a>\n\n' if first in starts else ""
        block = "\n".join(lines[first - 1 : last - 1]).rstrip()
        if block:
            content += f'\n{anchor}````python linenums="{first}"\n{block}\n````\n'
    return File.generated(config, f"source/{name}.md", content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def _first_line(node: ast.FunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _name_of(path: str, src_uri: str) -> str:
    """The file's name within the repository; `path` is as seen from the page."""
    return posixpath.normpath(posixpath.join("docs", posixpath.dirname(src_uri), path))
