"""The house stands as DESIGN.md draws it: imports point one way, and sockets never meet tensors."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STEPS = ("accept", "assemble", "assign", "compute", "encode", "send", "show")
TOP = tuple(
    "around evidence flow follow swap pull prove loops serve"
    " analyze explain check conformance withdraw darkroom develop adding cli".split()
)
#: third-party package -> the places that may import it
MAP = {
    "pynetdicom": ("node/accept/", "node/peer/", "node/send/"),
    "urllib3": ("node/peer/",),
    "starlette": ("node/show/",),
    "uvicorn": ("node/show/",),
    "cryptography": ("node/peer/",),
    "highdicom": (),  # it judges what we write, so it writes none of it
    "sqlalchemy": ("node/journal",),
    "alembic": ("node/journal",),
    "torch": ("pipelines/",),
    "monai": ("pipelines/",),
    "pydicom": ("node/",),
}
#: What `node` may know of `pipelines`: numpy only, all of them.
BORDER = {
    "pipelines.check",
    "pipelines.contract",
    "pipelines.draft",
    "pipelines.measure",
    "pipelines.pins",
    "pipelines.trial",
    "pipelines.zoo",
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for statement in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            names.update(alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, f"{path}: relative import; name the package in full"
            module = statement.module or ""
            names.add(module)
            names.update(f"{module}.{alias.name}" for alias in statement.names)
    return names


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def top_of(path: Path) -> str:
    """Return the module or folder of `node` that a file is or lies in."""
    return path.relative_to(ROOT / "node").parts[0].removesuffix(".py")


def step_of(path: Path) -> str | None:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "node" and parts[1] in STEPS else None


@pytest.mark.parametrize("path", sources("node"), ids=place)
def test_a_step_imports_no_other_step_and_nothing_above_it(path: Path) -> None:
    step = step_of(path)
    above = {f"node.{name}" for name in TOP}
    others = {f"node.{name}" for name in STEPS if name != step}
    if step is None and top_of(path) in TOP:
        return
    for name in imports(path):
        head = ".".join(name.split(".")[:2])
        assert head not in above, f"{place(path)} imports {name}, which stands above it"
        assert head not in others, f"{place(path)} imports {name}: steps do not know each other"


@pytest.mark.parametrize("path", sources("node"), ids=place)
def test_the_node_meets_the_pipelines_only_at_the_contract(path: Path) -> None:
    for name in imports(path):
        if name.split(".")[0] == "pipelines":
            assert any(name == b or name.startswith(f"{b}.") for b in BORDER), f"{place(path)}: {name}"


@pytest.mark.parametrize("path", sources("pipelines"), ids=place)
def test_the_pipelines_know_neither_dicom_nor_the_node(path: Path) -> None:
    forbidden = {"node", "pydicom", "pynetdicom", "highdicom", "sqlalchemy"}
    assert not {name.split(".")[0] for name in imports(path)} & forbidden


@pytest.mark.parametrize("path", sources("node") + sources("pipelines"), ids=place)
def test_third_party_use_is_a_map(path: Path) -> None:
    for name in imports(path):
        package = name.split(".")[0]
        if package in MAP:
            assert place(path).startswith(MAP[package]), f"{place(path)} may not import {package}"


def test_the_contract_and_the_measures_need_numpy_alone() -> None:
    for name in BORDER:
        path = ROOT / name.replace(".", "/")
        for file in [*path.glob("*.py")] or [path.with_suffix(".py")]:
            foreign = {
                package
                for package in (n.split(".")[0] for n in imports(file))
                if package not in sys.stdlib_module_names and package not in {"numpy", "pipelines"}
            }
            assert not foreign, f"{place(file)} imports {foreign}"


def test_the_receiver_process_loads_neither_torch_nor_monai_nor_highdicom() -> None:
    heavy = ("torch", "monai", "highdicom")
    code = f"import sys, node.serve, node.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flow_is_short_enough_to_be_the_table_of_contents() -> None:
    assert len((ROOT / "node" / "flow.py").read_text(encoding="utf-8").splitlines()) < 150


def test_the_steps_in_alphabetical_order_are_the_order_of_the_data() -> None:
    folders = sorted(p.name for p in (ROOT / "node").iterdir() if (p / "__init__.py").exists())
    assert [f for f in folders if f in STEPS] == list(STEPS)
    text = (ROOT / "node" / "flow.py").read_text(encoding="utf-8")
    assert " -> ".join(STEPS) in text


def test_the_top_level_is_as_agreed() -> None:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    tops = {line.split("/")[0] for line in done.stdout.splitlines()}
    agreed = {"README.md", "pyproject.toml", "LICENSE", "node", "pipelines", "tests", "deploy"}
    assert {top for top in tops if not top.startswith(".")} <= agreed
