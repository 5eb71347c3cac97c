"""Build the documentation: lay its pages out, make those that come from the code, run Sphinx.

    python docs/build.py            # docs/_build/html; warnings are errors, links are checked

Pages are the Markdown files of docs/ and docs/site/, one for each PLUMED action, one for each room
of the API, all messages of errors, and the tutorials, which are run.
"""

from __future__ import annotations

import argparse
import ast
import html.parser
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCE, HTML = DOCS / "_build" / "source", DOCS / "_build" / "html"
PICTURES = ("free_energy.png", "ramachandran.png")
ROOMS = {  # of the API: what its page is called
    "openmm_cgan.plumed.bias": "PLUMED inputs",
    "openmm_cgan.plumed.driver": "The driver",
    "openmm_cgan.frames": "Frames",
    "openmm_cgan.features": "Features",
    "openmm_cgan.generators": "Generators",
    "openmm_cgan.cgan": "Conditional generators",
    "openmm_cgan.proposals": "Proposals",
    "openmm_cgan.reporters": "Reporters",
    "openmm_cgan.free_energy": "Free energies",
    "openmm_cgan.free_energy.biased_runs": "Free energies of runs",
    "openmm_cgan.closures": "Closures",
    "openmm_cgan.diffusion_maps": "Diffusion maps",
    "openmm_cgan.learned_variable": "Learned variables",
    "openmm_cgan.windows": "Windows",
    "openmm_cgan.metrics": "Metrics",
    "openmm_cgan.report": "Plots",
    "openmm_cgan.report.page": "report.html",
    "openmm_cgan.testsystems": "Test systems",
}
LEFT_OUT = ("README.md",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-execution", action="store_true", help="do not run the tutorials")
    arguments = parser.parse_args()
    begun = time.monotonic()
    lay_out()
    from sphinx.cmd.build import main as sphinx

    options = ["-b", "html", "-W", "--keep-going", "-q", "-j", "1"]
    if arguments.no_execution:
        options += ["-D", "nb_execution_mode=off"]
    doctrees = str(DOCS / "_build" / "doctrees")
    if code := sphinx([*options, "-d", doctrees, str(SOURCE), str(HTML)]):
        sys.exit(code)
    pages = sorted(HTML.rglob("*.html"))
    if broken := list(broken_links(pages)):
        sys.exit("broken links:\n" + "\n".join(broken))
    print(
        f"{len(pages)} pages, no warning, no broken link, {time.monotonic() - begun:.0f} s: {HTML}"
    )


def lay_out() -> None:
    """Put all sources into one folder, which is made anew."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.copytree(DOCS / "site", SOURCE)
    for page in DOCS.glob("*.md"):
        (SOURCE / page.name).write_text(with_links(page.read_text(encoding="utf-8")), "utf-8")
    for name in PICTURES:
        shutil.copy(ROOT / "examples" / name, SOURCE / name)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (SOURCE / "changelog.md").write_text(changes.replace("](docs/", "]("), "utf-8")
    write_actions(SOURCE / "actions")
    write_rooms(SOURCE / "api")
    (SOURCE / "messages.md").write_text(messages(), "utf-8")


def with_links(text: str) -> str:
    """A page of docs/ as it stands on the site: what it links to outside is named there."""
    return (
        text.replace("](../README.md)", "](start.md)")
        .replace("[benchmarks/reference](../benchmarks/reference)", "`benchmarks/reference`")
    )  # fmt: skip


def write_actions(folder: Path) -> None:
    """A page for each native PLUMED action, made from its class, and their index."""
    sys.path.insert(0, str(ROOT))
    from openmm_cgan.plumed.actions import ACTIONS

    folder.mkdir()
    names = sorted(ACTIONS)
    for name in names:
        (folder / f"{name}.md").write_text(action_page(ACTIONS[name]), "utf-8")
    entries = "\n".join(names)
    (folder / "index.md").write_text(
        "# PLUMED actions\n\nEach of these is native: it becomes OpenMM forces, or is computed "
        "between steps, without PLUMED. All other actions and keywords go through libplumed, an "
        "input as a whole, and the log says of each statement why "
        "([which backend takes an input](../plumed_notes.md)).\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n",
        "utf-8",
    )


def action_page(cls: type) -> str:
    """What an action is, its keywords with their types and defaults, what it prints."""
    from openmm_cgan.plumed.actions.help import action_help, keyword_rows
    from openmm_cgan.plumed.actions.ignored import Ignored

    left_out = issubclass(cls, Ignored)
    fate = f"Left out natively: {cls.why}." if left_out else "Native."
    lines = [f"# {cls.name}", "", f"{cls.summary[0].upper()}{cls.summary[1:]}. {fate}", ""]
    if cls.keywords:
        lines += ["| keyword | type | what it says | default |", "|---|---|---|---|"]
        lines += ["| " + " | ".join(map(in_cell, row)) + " |" for row in keyword_rows(cls)]
    else:
        lines += ["It has no keywords."]
    document = (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
    lines += ["", document, "", "Any other keyword sends the input to libplumed.", ""]
    lines += ["On the command line `openmm-cgan driver --actions` prints:", ""]
    lines += ["```text", action_help(cls), "```", ""]
    return "\n".join(lines)


def in_cell(text: str) -> str:
    """A text that breaks no table of Markdown."""
    safe = text.replace("|", "\\|").replace("<", "&lt;")
    return safe.replace("*", "\\*").replace("_", "\\_").replace("$", "\\$")


def write_rooms(folder: Path) -> None:
    """A page for each public room of the API."""
    folder.mkdir()
    for room, title in ROOMS.items():
        page = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {room}\n   :members:\n"
        (folder / f"{room}.rst").write_text(
            page + "   :imported-members:\n" * has_all(room), "utf-8"
        )
    entries = "\n".join(ROOMS)
    (folder / "index.md").write_text(
        "# API\n\nThe rooms in the order in which the data pass through them; what is imported "
        "from `openmm_cgan` itself stands in its own room. Units are nm, ps, kJ/mol, rad and K.\n\n"
        f"```{{toctree}}\n:maxdepth: 1\n\n{entries}\n```\n",
        "utf-8",
    )


def has_all(room: str) -> bool:
    """Whether a room says what of it is public: then that is documented here."""
    path = ROOT / Path(*room.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return "__all__" in file.read_text(encoding="utf-8")


def messages() -> str:
    """All messages of errors, from the code: a page to search for what a run has said."""
    rooms: dict[str, list[tuple[str, str]]] = {}
    for path in sorted((ROOT / "openmm_cgan").rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found = list(messages_of(ast.parse(path.read_text(encoding="utf-8"))))
        if found:
            rooms[name.removesuffix(".__init__")] = found
    total = sum(map(len, rooms.values()))
    lines = ["# All messages of errors", "",
             f"The {total} messages that the code can raise, `...` for what is filled in; each "
        "says "
             "what is wrong, where, and what to do. [Troubleshooting](troubleshooting.md) explains "
             "the usual ones.", ""]  # fmt: skip
    for room, found in rooms.items():
        lines += [f"## {room}", "", *(f"* **{kind}**: {in_cell(text)}" for kind, text in found), ""]
    return "\n".join(lines)


def messages_of(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Kind and text of each error that is raised with a text of its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            text = text_of(node.exc.args[0])
            if text.replace("...", "").strip(" :;,.()"):
                yield ast.unparse(node.exc.func), " ".join(text.split())


def text_of(node: ast.expr) -> str:
    """A text as it stands in the code, ``...`` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value) if isinstance(node.value, str) else "..."
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return "..."


class Links(html.parser.HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {given[name] or "" for name in ("id", "name") if name in given}
        if tag == "a" and given.get("href"):
            self.links.append(given["href"] or "")


def broken_links(pages: list[Path]) -> Iterator[str]:
    """Links of pages to files or anchors that are not there; what leads away is not followed."""
    read = {page.resolve(): Links(page.read_text(encoding="utf-8")) for page in pages}
    for page, found in read.items():
        for link in found.links:
            if ":" in link.split("/")[0]:
                continue
            name, anchor = urldefrag(link)
            target = (page.parent / unquote(name)).resolve() if name else page
            there = target.exists() and (
                not anchor or target not in read or unquote(anchor) in read[target].anchors
            )
            if not there:
                yield f"{page.relative_to(HTML)}: {link}"


if __name__ == "__main__":
    main()
