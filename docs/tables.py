"""Write the tables of the README and of docs/ that follow from the code: python docs/tables.py

A table is between `<!-- begin:NAME ARGUMENTS -->` and `<!-- end -->`; NAME is a function in TABLES.
A test fails if a page differs from what this program writes.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stages.comments import comments

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- begin:(\w+)((?: \S+)*) -->\n)(.*?)(<!-- end -->)", re.S)

# Sections of a config that are Hydra's
HYDRA = ("defaults", "hydra")

# Where a checkpoint comes from, by what precedes its config in the first comment of conf/detector/NAME.yaml
FRAMEWORKS = ("MMDetection", "detectron2", "maskrcnn-benchmark")


def rewritten(text: str) -> str:
    """A page with every table made again."""
    return BLOCK.sub(lambda block: f"{block[1]}{TABLES[block[2]](*block[3].split())}{block[5]}", text)


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in GitHub's Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


# --- Detectors and data sets ---


def families() -> str:
    """The detectors of each model by the framework that trained them; the demo's own are left out."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, record in detectors().items():
        if record["framework"] in FRAMEWORKS:
            found[record["model"]][record["framework"]].append(f"`{name}`")
    rows = ([model, *(", ".join(found[model][name]) for name in FRAMEWORKS)] for model in sorted(found))
    return table(["model", *FRAMEWORKS], rows)


def checkpoints() -> str:
    """Every detector with the config it was trained by, its data set, published figures and licence."""
    rows = []
    for name, record in detectors().items():
        published = ", ".join(f"{kind} {points}" for kind, points in record["published"].items()) or "none"
        rows.append([f"`{name}`", record["title"], f"`{record['dataset']}`", published, record["licence"]])
    return table(["detector", "trained by", "data set", "published AP (PQ, mIoU)", "licence"], rows)


@cache
def detectors() -> dict[str, dict[str, Any]]:
    """The choices of conf/detector in the order of their names."""
    return {path.stem: detector(path) for path in sorted((ROOT / "conf/detector").glob("*.yaml"))}


def detector(path: Path) -> dict[str, Any]:
    """What a choice of conf/detector says, with its framework, config, model and data set."""
    record = yaml.safe_load(path.read_text())
    title = opening_comment(path).partition(". ")[0].rstrip(".")
    named = [default for default in record["defaults"] if default != "_self_"]
    family = next(
        str(default).split("/")[-1].partition("@")[0] for default in named if "family" in str(default)
    )
    override = next(choice for default in named if isinstance(default, dict) for choice in default.values())
    framework = next((name for name in FRAMEWORKS if title.startswith(name)), "the demo")
    return record | {"title": title, "framework": framework, "dataset": override, "model": model_of(family)}


@cache
def model_of(family: str) -> str | None:
    """The name of the model of a choice of conf/family, its own or that of a choice that it starts from."""
    values = yaml.safe_load((ROOT / "conf/family" / f"{family}.yaml").read_text())
    inherited = None
    for default in values.get("defaults", []):
        if default != "_self_":
            inherited = model_of(default.split("/")[-1].partition("@")[0]) or inherited
    return values.get("model", inherited)


def datasets() -> str:
    """The choices of conf/dataset."""
    paths = sorted((ROOT / "conf/dataset").glob("*.yaml"))
    return table(["data set", "what it holds"], ([f"`{path.stem}`", opening_comment(path)] for path in paths))


def runtimes() -> str:
    """The files of conf/runtime; engines in a precision are derived from these."""
    rows = []
    for path in sorted((ROOT / "conf/runtime").glob("*.yaml")):
        record = yaml.safe_load(path.read_text())
        after = f"`{record['after']}`" if "after" in record else "the checkpoint"
        rows.append([f"`{path.stem}`", record["title"], after, opening_comment(path)])
    return table(["runtime", "in tables", "made from", "notes"], rows)


# --- Keys of configs ---


def keys(*names: str) -> str:
    """The keys of config files with their defaults, and the comments beside or above them."""
    rows = dict.fromkeys(row for name in names for row in key_rows(ROOT / name))
    return table(["key", "default", "meaning"], rows)


def key_rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """A row for each key of a file; a section without comments inside is one row with its values."""
    package = re.match(r"# @package (\S+)", path.read_text())
    meanings = {key: text for key, text in comments(path).items() if key.split(".")[0] not in HYDRA}
    values = yaml.load(path.read_text(), yaml.BaseLoader)
    rows = {key: text for key, text in meanings.items() if text or not inner(key, meanings)}
    for key, meaning in rows.items():
        default = "" if any(other.startswith(f"{key}.") for other in rows) else f"`{flow(values, key)}`"
        yield f"`{f'{package[1]}.' if package else ''}{key}`", default, meaning


def inner(key: str, meanings: Mapping[str, str]) -> bool:
    """Whether the key is in a section that has a comment, unlike all of its keys."""
    section = key.rpartition(".")[0]
    return section in meanings and not any(
        text for other, text in meanings.items() if other.startswith(f"{section}.")
    )


def flow(values: Any, key: str) -> str:
    """The value of a dotted key on one line."""
    for part in key.split("."):
        values = values[part]
    if isinstance(values, Mapping):
        return f"{{{', '.join(f'{name}: {flow(values, name)}' for name in values)}}}"
    return one_line(values)


def one_line(value: Any) -> str:
    """A text or a list of a YAML file on one line."""
    return f"[{', '.join(map(one_line, value))}]" if isinstance(value, list) else value or "null"


# --- Code ---


def commands() -> str:
    """The commands of samebox with the first line of their docstrings."""
    listed = (ROOT / "pyproject.toml").read_text().partition('"samebox.commands"]')[2].partition("\n[")[0]
    rows = []
    for name, module, function in re.findall(r'^(\w+) = "([\w.]+):(\w+)"', listed, re.M):
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        nodes = ast.parse(path.read_text()).body
        node = next(node for node in nodes if isinstance(node, ast.FunctionDef) and node.name == function)
        rows.append([f"`samebox {name}`", one_paragraph(ast.get_docstring(node) or "")])
    return table(["command", "what it does"], rows)


def benchmarks() -> str:
    """The programs of benchmarks/, what each measures, and its results."""
    rows = []
    for path in sorted((ROOT / "benchmarks").glob("*.py")):
        first, _, rest = docstring(path).partition("\n\n")
        command = re.search(rf"python -m benchmarks\.{path.stem}\b", rest)
        written = re.search(r"\bwrite\(\s*\"(\w+)\"", path.read_text())
        if command and written:
            result = f"results/{written[1]}.md"
            exists = (path.parent / result).exists()
            link = f"[{written[1]}](../benchmarks/{result})" if exists else f"`{result}`, on a GPU only"
            rows.append([f"`{command[0]}`", one_paragraph(first), link])
    return table(["command", "measures", "results"], rows)


def folders() -> str:
    """The folders and modules of samebox/ in the order in which they may import each other."""
    listed = re.search(r"^layers = (\[.*?^\])", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    rows = []
    for name in reversed(ast.literal_eval(listed[1])):
        folder = ROOT / "samebox" / name
        path = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
        shown = f"`{name}/`" if folder.is_dir() else f"`{name}.py`"
        rows.append([shown, one_paragraph(docstring(path)), modules(folder)])
    return table(["folder", "what it does", "modules"], rows)


def modules(folder: Path) -> str:
    """The modules of a folder, those of a folder within it under its name."""
    parts = [path.stem for path in sorted(folder.glob("[!_]*.py"))]
    for inner in (path.parent for path in sorted(folder.glob("*/__init__.py"))):
        names = ", ".join(path.stem for path in sorted(inner.glob("[!_]*.py")))
        parts.append(f"{inner.name}/ ({names})")
    return ", ".join(parts)


def base_classes() -> str:
    """The classes of samebox/ that other classes there are made from, and the protocols."""
    classes = {node.name: (path, node) for path, node in defined_classes()}
    heirs: dict[str, list[str]] = defaultdict(list)
    for name, (_, node) in classes.items():
        for base in node.bases:
            if isinstance(base, ast.Name) and (base.id in classes or base.id == "Protocol"):
                heirs[base.id if base.id != "Protocol" else name].append(name)
    rows = []
    for name in sorted(heirs):
        path, node = classes[name]
        first = one_paragraph((ast.get_docstring(node) or "").partition("\n\n")[0])
        others = ", ".join(sorted(heir for heir in heirs[name] if heir != name)) or "a protocol"
        rows.append([f"`{name}`", f"`{path.relative_to(ROOT).as_posix()}`", first, others])
    return table(["class", "in", "what it is", "made from it"], rows)


def defined_classes() -> Iterator[tuple[Path, ast.ClassDef]]:
    """The public classes of samebox/ with their files."""
    for path in sorted((ROOT / "samebox").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield path, node


def docstring(path: Path) -> str:
    """The docstring of a module."""
    return ast.get_docstring(ast.parse(path.read_text())) or ""


def one_paragraph(text: str) -> str:
    """The first paragraph on one line."""
    return " ".join(text.partition("\n\n")[0].split())


def opening_comment(path: Path) -> str:
    """The lines of comments that a file begins with, on one line."""
    lines = path.read_text().splitlines()
    count = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:count])


FUNCTIONS = (
    *(families, checkpoints, datasets, runtimes, keys),
    *(commands, benchmarks, folders, base_classes),
)
TABLES: Mapping[str, Callable[..., str]] = {function.__name__: function for function in FUNCTIONS}

if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text()
        if (new := rewritten(text)) != text:
            page.write_text(new)
            print(f"rewritten: {page.relative_to(ROOT)}")
