"""dvc.yaml against the stages: DVC follows neither imports nor configs, so a stage must declare both."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import grimp
import pytest
import yaml
from omegaconf import OmegaConf

ROOT = Path(__file__).parents[2]
GRAPH = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = GRAPH["stages"]
# Modules that cannot change an artifact, with the reason. What only they import is exempt, too
EXEMPT = {
    "samebox.core.errors": "the texts of errors end a stage",
    "samebox.core.text": "changes characters of hostile names only",
    "samebox.core.typed": "refuses values, and changes characters of hostile names only",
    "samebox.core.files": "reads and writes bytes as they are",
    "samebox.core.progress": "shows how far a stage is",
    "samebox.graph.external_data": "refuses files of other folders",
    "stages.axes": "reads params.yaml, whose keys a stage declares",
    "stages.compose": "composes conf/, whose files a stage declares",
}
# Configs that a stage composes besides the one of its own name
ALSO_COMPOSED = {"report": ["compare"]}


def module_of(stage):
    """The module of a stage below stages/. Several stages may share one, as those of engines do."""
    python, dash_m, module = STAGES[stage]["cmd"].split()[:3]
    assert (python, dash_m) == ("python", "-m")
    return module.removeprefix("stages.")


@cache
def tree(module):
    return ast.parse(ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text())


def defined(module):
    """The functions and classes of a module."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name: node for node in tree(module).body if isinstance(node, kinds)}


def origins(module):
    """What a module imports by name: the name there → its module and its name in that module."""
    imports = [node for node in tree(module).body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}


def called(module, name, found):
    """Add to `found` what a function calls by name; calls within the library are not followed."""
    if (module, name) in found:
        return
    found.add((module, name))
    if not module.startswith("stages.") or name not in defined(module):
        return
    for node in ast.walk(defined(module)[name]):
        if isinstance(node, ast.Name):
            target = (module, node.id) if node.id in defined(module) else origins(module).get(node.id)
            if target is not None:
                called(*target, found)


@cache
def reached(stage):
    """(module, name) of all that a stage calls, including the runners that Hydra instantiates."""
    found = set()
    called(f"stages.{module_of(stage)}", "run", found)
    if "runtime.runner" in keys_read(found):
        for path in (ROOT / "conf/runtime").glob("*.yaml"):
            called(*OmegaConf.load(path).runner["_target_"].rsplit(".", 1), found)
    return found


def keys_read(found):
    """The dotted keys of `config` that functions of the stages read."""
    keys = set()

    def visit(node):
        names, inner = [], node
        while isinstance(inner, ast.Attribute):
            names.insert(0, inner.attr)
            inner = inner.value
        if names and isinstance(inner, ast.Name) and inner.id == "config":
            keys.add(".".join(names))
            return
        for child in ast.iter_child_nodes(node):
            visit(child)

    for module, name in found:
        if module.startswith("stages.") and module != "stages.compose" and name in defined(module):
            visit(defined(module)[name])
    return keys


@cache
def imports():
    """The import graph of samebox/ and stages/; imports within functions count."""
    graph = grimp.build_graph("samebox", "stages", cache_dir=None)
    for module in EXEMPT:
        graph.remove_module(module)
    return graph


def targets(*groups):
    """The modules that the `_target_`s of groups of conf/ name."""
    texts = [path.read_text() for group in groups for path in (ROOT / "conf" / group).glob("*.yaml")]
    names = {name for text in texts for name in re.findall(r"_target_: *([\w.]+)", text)}
    return {module for module in (name.rpartition(".")[0] for name in names) if module in imports().modules}


def closure(modules):
    """The modules, and all that they import directly or indirectly."""
    return modules.union(*map(imports().find_upstream_modules, modules))


@cache
def imported(stage):
    """The files of all modules that a stage imports, including those that conf/ names."""
    modules = closure({f"stages.{module_of(stage)}"})
    if "instantiate" in origins(f"stages.{module_of(stage)}"):
        modules |= closure(targets("runtime"))
    if "samebox.networks.construct" in modules:
        modules |= closure(targets("family", "detector"))
    return frozenset(map(file_of, modules))


def file_of(module):
    path = Path(*module.split("."))
    return path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")


def modules_in(path):
    """The file, or all modules in a folder except `__init__`."""
    files = {path} if path.suffix else {file.relative_to(ROOT) for file in (ROOT / path).rglob("*.py")}
    return {file for file in files if file.name != "__init__.py"}


def code(stage):
    """The files and folders of code that a stage declares."""
    return {Path(dep) for dep in STAGES[stage]["deps"] if dep.startswith(("samebox/", "stages/"))}


def parameters(stage):
    """File → the keys of it that a stage declares, None for all. Keys of params.yaml are left out."""
    declared = [entry for entry in STAGES[stage].get("params", []) if isinstance(entry, dict)]
    return {file: keys for entry in declared for file, keys in entry.items()}


def declares(stage, file, key=None):
    """Whether the stage runs again if `key` changes in `file`."""
    if any(Path(file).is_relative_to(dep) for dep in STAGES[stage]["deps"]):
        return True
    found = [keys for name, keys in parameters(stage).items() if file.startswith(name.partition("${")[0])]
    return any(not keys or key in keys for keys in found)


def resolved(stage, group):
    """Whether the stage declares the resolved file of its choice in a group of conf/."""
    return any(dep.startswith(f"${{paths.resolved}}/{group}") for dep in STAGES[stage]["deps"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_its_module_and_its_config_share_a_name(stage):
    module = module_of(stage)
    assert stage in (module, f"precise_{module}")
    assert {f"stages/{module}.py", f"conf/{module}.yaml"} <= set(STAGES[stage]["deps"])
    assert f'main("{module}", run)' in (ROOT / "stages" / f"{module}.py").read_text()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_modules_that_it_imports(stage):
    declared = code(stage)
    assert [file for file in imported(stage) if not any(map(file.is_relative_to, declared))] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_no_module_that_it_does_not_import(stage):
    """It imports at least half of the modules in a folder that it declares."""
    declared = code(stage)
    shares = {dep: len(imported(stage) & modules_in(dep)) / len(modules_in(dep)) for dep in declared}
    assert {dep: share for dep, share in shares.items() if share < 0.5} == {}
    assert [dep for dep in declared if any(map(dep.is_relative_to, declared - {dep}))] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_configs_that_it_reads(stage):
    primary = [module_of(stage), *ALSO_COMPOSED.get(stage, ())]
    groups = [
        entry if isinstance(entry, str) else next(iter(entry))
        for name in primary
        for entry in OmegaConf.load(ROOT / "conf" / f"{name}.yaml").defaults
    ]
    assert {f"conf/{name}.yaml" for name in primary} <= set(STAGES[stage]["deps"])
    keys = {key for key in keys_read(reached(stage)) if not key.startswith("paths.")}
    if "items" in keys:  # the whole config
        keys = {group.removeprefix("step/") for group in groups} - {"paths", "_self_"}
    missing = []
    for group, _, key in (key.partition(".") for key in sorted(keys)):
        first = key.partition(".")[0] or None
        step = f"step/{group}" in groups
        assert step or group in groups, f"conf/{module_of(stage)}.yaml does not compose {group}"
        # the name of a choice is in the command, and a form's folder has the name of its runtime
        named = (group, first) in {("detector", "name"), ("runtime", "name"), ("runtime", "folder")}
        file = f"conf/step/{group}.yaml" if step else f"conf/{group}/any.yaml"
        if not (named or resolved(stage, group) or declares(stage, file, first)):
            missing.append(f"{file}: {first or 'all'}")
    assert missing == []


def test_the_stage_resolve_declares_all_that_it_composes():
    deps = STAGES["resolve"]["deps"]
    groups = [next(iter(entry)) for entry in OmegaConf.load(ROOT / "conf/resolve.yaml").defaults[1:-1]]
    assert {f"conf/{group}" for group in (*groups, "family")} <= set(deps)


def test_every_declared_file_is_in_the_repository():
    declared = {dep for stage in STAGES.values() for dep in stage["deps"] if "${" not in dep}
    declared |= {file for stage in STAGES for file in parameters(stage) if "${" not in file}
    assert [dep for dep in sorted(declared) if not (ROOT / dep).exists()] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode == 0:  # not in an unpacked archive of the project
        files = [Path(line) for line in tracked.stdout.splitlines()]
        assert [dep for dep in sorted(declared) if not any(f.is_relative_to(dep) for f in files)] == []


def test_stages_without_a_network_start_without_torch():
    """The import of PyTorch takes longer than most of them take to run."""
    stages = "resolve", "download", "simplify", "engine", "differences", "compare", "track", "report"
    names = ", ".join(f"stages.{name}" for name in (*stages, "evaluate", "runners.onnx", "runners.engine"))
    asked = f"import sys, {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", asked], cwd=ROOT, check=True)
