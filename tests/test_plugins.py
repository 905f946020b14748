"""A user's own attention: found by its name, judged by its oracle, and its errors shown as the user's."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import made_up
import pytest

import attention_impls
from attention_impls import AttentionLayer, Cost, InvalidArgument, Problem, UnknownAttention, plugins
from elattn_bench import catalogue, estimate, sweep, worker_process
from elattn_bench.cases import NO_COST, Case
from elattn_bench.results import make_row

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "your-own-attention.md").read_text(encoding="utf-8")
SIZES = ["--seq-len", "16,32", "--dim", "16", "--heads", "2"]
SMALL = [*SIZES, "--quick", "--device", "cpu", "--threads", "1", "--force"]

MINE = '''
import torch
from torch import nn

UPPER = 4

def plain(q, k, v):
    """Adds."""
    return q + k + v

def knobs(q, k, v, causal=False, *, order=2, sharp=1.0, fast=True, kind="a", free=None, odd=(1, 2)):
    return q + k + v

def needy(q, k, v, *, window):
    return q

def two(q, k):
    return q

def own(q, k, v, *, causal=False, gain=2):
    return gain * v

def own_oracle(q, k, v, *, causal, gain=3):
    return gain * v

def off(q, k, v):
    return v * 1.01

off.oracle = lambda q, k, v: v

def lacking(q, k, v, *, causal=False, gain=1):
    return v

lacking.oracle = lambda q, k, v: v

def silly(q, k, v):
    return v

silly.oracle = 3

def not_finite(q, k, v):
    return v / 0

def modifies(q, k, v):
    return v.add_(1)

def fails(q, k, v):
    return helper(q, k)

def helper(q, k):
    return torch.softmax(q @ k, -1)

class Both(nn.Module):
    """Has weights."""

    def __init__(self, dim, heads, depth=1):
        super().__init__()
        assert dim % heads == 0
        self.used, self.frozen = nn.Linear(dim, dim), nn.Linear(dim, dim, bias=False)
        self.idle = nn.Parameter(torch.zeros(dim))
        self.frozen.requires_grad_(False)

    def forward(self, x, *, causal=False):
        return self.frozen(self.used(x))

    def oracle(self, x, *, causal):
        return x @ self.used.weight.T @ self.frozen.weight.T + self.used.bias @ self.frozen.weight.T

class Wrong(Both):
    def oracle(self, x, *, causal):
        return 1.01 * self.forward(x)

class Ungated(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        return x * self.weight

class Unbuildable(Ungated):
    def __init__(self, dim):
        raise RuntimeError("no way")

class Named(nn.Module):
    def __init__(self, embed_dim):
        super().__init__()

built = Ungated(4)
'''
BROKEN = "def inner():\n    return undefined_name\n\ninner()\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the user's files, and the metadata of two installed packages."""
    path = tmp_path_factory.mktemp("home")
    files = {"mine_zoo.py": MINE, "mine_broken.py": BROKEN, "mine_syntax.py": "def f(:\n"}
    files["mine_exits.py"] = "raise SystemExit(3)\n"
    files["mine_lacks.py"] = "import not_there_at_all\n"
    for name, text in files.items():
        (path / name).write_text(text, encoding="utf-8")
    good = {"their-own": "mine_zoo:own", "linear": "mine_zoo:own", "twice": "mine_zoo:own"}
    bad = {"their-broken": "mine_broken:x", "a/b": "mine_zoo:own", "twice": "mine_zoo:plain"}
    for package, entries in (("goodies", good), ("baddies", bad)):
        write_metadata(path, package, entries)
    return path


def write_metadata(path: Path, package: str, entries: Mapping[str, str]) -> None:
    info = path / f"{package}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[elattn_bench.attentions]", *lines]) + "\n")


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's directory as the current one; what was found there is forgotten afterwards."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(home))])
    yield home
    for cached in (plugins.named, plugins.installed, plugins._entry_points):
        cached.cache_clear()
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


@pytest.fixture
def packages(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same directory, on the search path as installed packages are."""
    monkeypatch.syspath_prepend(str(here))
    plugins._entry_points.cache_clear()
    return here


def refusal(name: str) -> str:
    with pytest.raises(UnknownAttention) as refused:
        attention_impls.get(name)
    return str(refused.value)


def case(name: str, level: str = "op", mode: str = "forward", **axes: object) -> Case:
    return made_up.case(f"{name}/eager", level=level, mode=mode, heads=2, dim=16, seq_len=24, **axes)


class TestNames:
    def test_the_current_directory_is_searched_and_the_path_only_grows_at_its_end(self, here: Path) -> None:
        before = list(sys.path)
        assert attention_impls.get("mine_zoo:plain").summary == "Adds."
        assert sys.path == [*before, str(here)]

    def test_importing_the_packages_changes_no_path_and_reads_no_entry_points(self) -> None:
        code = (
            "import sys; before = list(sys.path); import attention_impls, elattn_bench.cli; "
            "from attention_impls import plugins; attention_impls.get('linear'); "
            "print(sys.path == before, plugins._entry_points.cache_info().misses, 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.stdout.split() == ["True", "0", "False"], done.stderr

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mine_nowhere:x", "there is no module 'mine_nowhere', neither installed nor in the current"),
            ("mine_zoo.py:plain", "write the module, not its file: mine_zoo:plain"),
            ("mine_zoo:plian", r"has no 'plian' \(did you mean 'plain'\?\)"),
            ("mine_zoo:", "names nothing; write module:name"),
            ("mine_zoo:UPPER", "it is a int; an attention is a function"),
            ("mine_zoo:built", "it is a module already built; give its class"),
            ("mine_zoo:Named", "the module is built with embed_dim; it should have"),
            ("mine_zoo:needy", "the parameter 'window' without a default"),
            ("mine_zoo:two", "takes 2 parameters by position, not 3"),
            ("mine_zoo:lacking", "the oracle lacks the parameter 'gain' and 'causal' of the function"),
            ("mine_zoo:silly", "its oracle is a int, which cannot be called"),
            ("mine_exits:x", "mine_exits raises SystemExit: 3"),
            ("mine_lacks:x", "mine_lacks raises ModuleNotFoundError: No module named 'not_there_at_all'"),
        ],
    )
    def test_what_is_no_attention_is_refused_with_the_reason(
        self, here: Path, name: str, message: str
    ) -> None:
        assert re.search(message, refusal(name))

    def test_an_error_while_importing_is_told_by_the_user_s_own_frames(self, here: Path) -> None:
        first, *rest = refusal("mine_broken:x").splitlines()
        assert first.endswith("NameError: name 'undefined_name' is not defined (mine_broken.py:2 in inner)")
        files = [line.split('"')[1] for line in rest if line.lstrip().startswith("File ")]
        assert files == [str(here / "mine_broken.py")] * 2
        assert rest[-1] == "NameError: name 'undefined_name' is not defined"

    def test_a_syntax_error_shows_the_line(self, here: Path) -> None:
        told = refusal("mine_syntax:x")
        assert "(mine_syntax.py:1)" in told
        assert "def f(:" in told
        assert "importlib" not in told


class TestFunctions:
    def test_parameters_with_a_default_are_hyperparameters_of_its_type(self, here: Path) -> None:
        spec = attention_impls.get("mine_zoo:knobs")
        defaults = {name: knob.default for name, knob in spec.hyperparameters.items()}
        assert defaults == {"order": 2, "sharp": 1.0, "fast": True, "kind": "a", "free": None}
        spec.check_hyperparameters({"order": 4, "sharp": 2, "fast": False, "kind": "b", "free": (1, "x")})
        wrong = {"order": (2.5, True, "2"), "sharp": ("x", True, float("nan")), "fast": (1,), "kind": (1,)}
        for name, values in wrong.items():
            for value in values:
                with pytest.raises(InvalidArgument, match=name):
                    spec.check_hyperparameters({name: value})

    def test_without_a_parameter_causal_the_causal_form_is_unsupported(self, here: Path) -> None:
        causal = Problem(1, 2, 8, 4, causal=True)
        plain, knobs = (attention_impls.get(f"mine_zoo:{name}") for name in ("plain", "knobs"))
        assert "no parameter 'causal'" in plain.unsupported_reasons("eager", causal)[0]
        assert plain.unsupported_reasons("eager", replace(causal, causal=False)) == []
        assert knobs.unsupported_reasons("eager", causal) == []

    def test_the_oracle_gets_the_function_s_defaults(self, here: Path) -> None:
        import torch

        spec = attention_impls.get("mine_zoo:own")
        ones = torch.ones(1, 1, 2, 2)
        assert spec.is_gated
        assert torch.equal(spec.oracle(ones, ones, ones), 2 * ones)  # not 3, its own default
        assert torch.equal(spec.oracle(ones, ones, ones, gain=5), 5 * ones)

    @pytest.mark.parametrize("level", ["op", "layer"])
    def test_nobody_knows_its_cost(self, here: Path, level: str) -> None:
        mine = case("mine_zoo:plain", level)
        row = make_row(mine, made_up.measured(1.0))
        assert mine.cost == NO_COST == Cost(0, 0)
        assert (row.flops, row.bytes_moved, row.gflops_per_s, row.ceiling_fraction) == (None,) * 4
        assert estimate.call_seconds(mine) > 0

    def test_the_longer_is_not_tried_before_the_shorter(self, here: Path) -> None:
        cases = [replace(case("mine_zoo:plain"), seq_len=2**power) for power in range(16, 6, -1)]
        assert [each.seq_len for each in sweep.in_order(cases, 0)] == [2**power for power in range(7, 17)]


class TestModules:
    def test_its_parameters_are_counted(self, here: Path) -> None:
        assert case("mine_zoo:Both", "layer").params == 16 * 16 + 16 + 16  # the frozen are not learned
        assert case("mine_zoo:Ungated", "layer").params == 16
        assert case("mine_zoo:Unbuildable", "layer").params is None

    def test_it_is_measured_as_a_layer_only(self, here: Path) -> None:
        reasons = case("mine_zoo:Both").unsupported_reasons()
        assert reasons == ["mine_zoo:Both is a module: measure it with --level layer"]
        assert case("mine_zoo:Both", "layer", causal=True).unsupported_reasons() == []
        assert case("mine_zoo:Ungated", "layer", causal=True).unsupported_reasons() != []

    def test_a_layer_is_not_put_around_it(self, here: Path) -> None:
        with pytest.raises(InvalidArgument, match="is a module itself"):
            AttentionLayer("mine_zoo:Both", 8, 2)

    def test_gradients_are_of_the_tokens_and_the_parameters_in_use(self, here: Path) -> None:
        import torch

        from elattn_bench import workload

        load = workload.build(case("mine_zoo:Both", "layer", "train"))
        gradients = load.call()
        assert isinstance(gradients, tuple)
        assert [tuple(each.shape) for each in gradients] == [(1, 24, 16), (16, 16), (16,)]
        assert load.broken(gradients, load.versions()) is None
        state = torch.random.get_rng_state()
        again = workload.build(case("mine_zoo:Both", "layer", "train"))
        assert all(map(torch.equal, again.inputs, load.inputs))
        assert torch.equal(torch.random.get_rng_state(), state)


class TestGate:
    @pytest.mark.parametrize("mode", ["forward", "train"])
    @pytest.mark.parametrize(
        ("name", "level", "failure"),
        [
            ("own", "op", None),
            ("own", "layer", None),
            ("off", "op", "output differs from the float64 oracle"),
            ("Both", "layer", None),
            ("Wrong", "layer", "output differs from the float64 oracle"),
            ("not_finite", "op", "output holds NaN or infinity"),
            ("modifies", "op", "the call modifies its inputs"),
        ],
    )
    def test_it_is_held_to_its_oracle_and_to_the_contract(
        self, here: Path, name: str, level: str, mode: str, failure: str | None
    ) -> None:
        from elattn_bench.gate import Gate

        if name == "modifies" and mode == "train":
            pytest.skip("torch itself refuses to modify a leaf")
        refused = Gate().refusal(case(f"mine_zoo:{name}", level, mode))
        assert (refused is None) if failure is None else (refused and failure in refused.reason)

    @pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
    def test_a_module_is_held_to_its_oracle_in_every_dtype(self, here: Path, dtype: str) -> None:
        from elattn_bench.gate import Gate

        error = Gate().check(case("mine_zoo:Both", "layer", "train", dtype=dtype))
        assert error.failure(dtype) is None
        assert error.gradient_rel_rms is not None
        assert (error.rel_rms or 0) > 0

    @pytest.mark.parametrize(("name", "level"), [("plain", "op"), ("Ungated", "layer")])
    def test_without_an_oracle_no_error_is_claimed(self, here: Path, name: str, level: str) -> None:
        from elattn_bench.gate import Gate

        error = Gate().check(case(f"mine_zoo:{name}", level, "train"))
        assert (error.max_abs, error.rel_rms, error.gradient_rel_rms) == (None, None, None)
        assert error.failure("float32") is None


class TestErrors:
    def test_a_case_s_error_is_told_by_the_user_s_frames_and_torch_s_below(self, here: Path) -> None:
        from elattn_bench.gate import Gate

        mine = case("mine_zoo:fails")
        with pytest.raises(RuntimeError) as raised:
            Gate().check(mine)
        failure = worker_process._failure(raised.value, (mine,))
        assert failure.reason.startswith("RuntimeError: ")
        assert re.search(r"\(mine_zoo.py:\d+ in helper\)$", failure.reason)
        assert re.findall(r"in (fails|helper|_run|check|_compare)\n", failure.details) == ["fails", "helper"]

    def test_an_error_of_ours_keeps_its_whole_traceback(self) -> None:
        with pytest.raises(AttributeError) as raised:
            attention_impls.get("linear").op(None, None, None)
        failure = worker_process._failure(raised.value, (made_up.case("linear/eager"),))
        assert "in under_autocast" in failure.details
        assert "attention_impls" in failure.details


class TestEntryPoints:
    def test_they_are_known_by_name_and_found_when_first_used(self, packages: Path) -> None:
        assert plugins.names() == ["a/b", "linear", "their-broken", "their-own", "twice"]
        assert "mine_zoo" not in sys.modules
        spec = attention_impls.get("their-own")
        assert (spec.name, spec.origin, spec.is_gated) == ("their-own", "goodies 1.5", True)
        assert "their-own" not in attention_impls.names()

    def test_unknown_names_list_them_too(self, packages: Path) -> None:
        told = refusal("their-onw")
        assert "did you mean 'their-own'?" in told
        assert f" {told} ".count(" linear,") == 1

    def test_ours_go_first_and_two_of_one_name_are_refused(self, packages: Path) -> None:
        assert attention_impls.get("linear").origin == ""
        assert "baddies 1.5 (mine_zoo:plain)" in refusal("twice")
        assert "goodies 1.5 (mine_zoo:own)" in refusal("twice")

    def test_the_list_shows_where_they_come_from_and_why_one_does_not_load(self, packages: Path) -> None:
        entries = {each["attention"]: each for each in catalogue.attentions() if each["origin"]}
        assert entries["their-own"]["origin"] == "goodies 1.5"
        assert entries["their-own"]["runs_here"]
        assert "NameError" in entries["their-broken"]["reasons"][0]
        assert "cannot be written as an impl" in entries["a/b"]["reasons"][0]
        assert "is one of ours" in entries["linear"]["reasons"][0]
        assert len({frozenset(each) for each in catalogue.attentions()}) == 1  # the same keys everywhere


def elattn(*words: str | Path, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command as an installed script runs it: without the current directory on the search path."""
    entries = [str(ROOT), *([str(path)] if path else [])]
    code = "import sys; sys.path[:1] = []; from elattn_bench.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entries), "COLUMNS": "100"},
        timeout=240,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with (path / "results.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_sweep_measures_what_it_can_and_shows_the_user_s_error_once(home: Path, tmp_path: Path) -> None:
    impls = "mine_zoo:plain,mine_zoo:fails,mine_zoo:Unbuildable,mine_zoo:Both"
    words = ["sweep", "-i", impls, "--level", "op,layer", "--mode", "forward", *SMALL]
    done = elattn(*words, "-o", tmp_path / "run", cwd=home)
    assert done.returncode == 0, done.stderr
    found = {(row["attention"], row["level"]): row for row in rows(tmp_path / "run")}
    statuses = {
        (name.removeprefix("mine_zoo:"), level): row["status"] for (name, level), row in found.items()
    }
    assert statuses == {
        ("plain", "op"): "ok", ("plain", "layer"): "ok", ("fails", "op"): "error", ("fails", "layer"): "error",
        ("Unbuildable", "op"): "unsupported", ("Unbuildable", "layer"): "error",
        ("Both", "op"): "unsupported", ("Both", "layer"): "ok",
    }  # fmt: skip
    ungated = found["mine_zoo:plain", "op"]
    assert ungated["warnings"].startswith("ungated: no oracle was given")
    assert (ungated["max_abs_error"], ungated["rel_rms_error"], ungated["flops"]) == ("", "", "")
    assert found["mine_zoo:Both", "layer"]["rel_rms_error"]
    assert "ungated" not in found["mine_zoo:Both", "layer"]["warnings"]
    assert found["mine_zoo:Unbuildable", "layer"]["params"] == ""
    assert "Ungated, without an oracle to say that the numbers are right: mine_zoo:plain" in done.stdout
    assert done.stderr.count("return torch.softmax(q @ k, -1)") == 1
    assert done.stderr.count('raise RuntimeError("no way")') == 1
    errors = (tmp_path / "run" / "errors.log").read_text(encoding="utf-8")
    assert "mine_zoo.py" in errors
    assert "elattn_bench" not in errors


def test_a_module_that_cannot_be_imported_ends_the_command_with_the_user_s_traceback(
    home: Path, tmp_path: Path
) -> None:
    done = elattn("sweep", "-i", "mine_broken:x", "-o", tmp_path / "run", cwd=home)
    assert done.returncode == 2
    assert "return undefined_name" in done.stderr
    assert "attention_impls" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def documented(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files of the page."""
    path = tmp_path_factory.mktemp("documented")
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", PAGE, re.DOTALL):
        (path / name).write_text(text, encoding="utf-8")
    entries = re.search(
        r'```toml\n\[project.entry-points."elattn_bench.attentions"\]\n(.*?)```', PAGE, re.DOTALL
    )
    assert entries
    write_metadata(path, "documented", dict(re.findall(r'(\S+) = "(.*?)"', entries[1])))
    return path


COMMANDS = re.findall(r"^\$ elattn-bench (sweep .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_commands_of_the_page_measure_and_gate_its_examples(documented: Path, command: str) -> None:
    done = elattn(*command.split(), *SMALL, "-o", "run", cwd=documented)
    assert done.returncode == 0, done.stderr
    found = rows(documented / "run")
    assert {row["status"] for row in found} == {"ok"}, [row["reason"] for row in found]
    assert all(row["rel_rms_error"] and "ungated" not in row["warnings"] for row in found)
    assert {row["attention"] for row in found} & {"window:attention", "layers:GatedMean"}


def test_the_page_shows_a_function_a_module_and_both_masks() -> None:
    assert len(COMMANDS) >= 2
    assert any("window:attention" in command and "--causal" in command for command in COMMANDS)
    assert any("layers:GatedMean" in command and "--level layer" in command for command in COMMANDS)


def test_the_entry_points_of_the_page_are_listed(documented: Path, tmp_path: Path) -> None:
    done = elattn("list", cwd=tmp_path, path=documented)
    assert done.returncode == 0, done.stderr
    for name in ("windowed/eager", "gated-mean/eager"):
        assert re.search(rf"{name} +documented 1.5 +default", done.stdout)
