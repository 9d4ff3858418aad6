"""`deploy/Dockerfile`: what a linter says of it, and what it says carried out as far as it goes without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployment import DOCKERFILE, ROOT, stages

import runfold
from runfold.cli.app import command_line

STAGES = stages()
BASE, BUILD, FINAL = STAGES
COPIED = [word for name, rest in BUILD if name == "COPY" for word in rest.split()[:-1]]


def told(stage, name):
    """What the stage's instructions of that name say."""
    return [rest for found, rest in stage if found == name]


def test_linter_finds_nothing():
    """hadolint, and shellcheck within it, have nothing to say."""
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, "--no-color", DOCKERFILE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_one_base_of_an_exact_version():
    """All stages stand on one image, and its tag names a release that does not move."""
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+ AS base", BASE[0].rest)
    assert [told(stage, "FROM")[0].split()[0] for stage in (BUILD, FINAL)] == ["base", "base"]


def test_it_runs_as_nobody_in_particular():
    """The user is a number that is not root's, so that an orchestrator can see it, and nothing is done as root after it."""
    names = [name for name, _ in FINAL]
    (user,) = told(FINAL, "USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user)
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])


def test_no_compiler_is_in_it():
    """The last stage installs no package and takes one thing of the build: the finished environment."""
    assert not any("apt-get" in rest or "pip" in rest for rest in told(FINAL, "RUN"))
    assert told(FINAL, "COPY") == ["--from=build /opt/runfold /opt/runfold"]


def test_its_command_is_one_that_the_command_line_takes():
    """What it starts unless told otherwise is a verb of this version."""
    assert told(FINAL, "ENTRYPOINT") == ['["runfold"]']
    words = re.findall(r'"([^"]+)"', told(FINAL, "CMD")[0])
    command_line(words[0]).parse_args(words, exit_on_error=False)


def test_builder_gets_what_is_copied_and_nothing_else():
    """.dockerignore lets through what the image is built from: no history, no virtual environment, no secrets."""
    first, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert first == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {name.rstrip("/") for name in COPIED}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder that stands for / after the build stage: its COPYs and its own RUN, carried out here."""
    root = tmp_path_factory.mktemp("image")
    source = root / "src"
    source.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(ROOT / name, source / name)
    (*_, steps) = told(BUILD, "RUN")
    script = re.sub(r"--mount=\S+ ", "", steps)
    script = script.replace("/src/", f"{source}/").replace("/opt/", f"{root}/opt/")
    script = re.sub(r"\bpython -m", f"{sys.executable} -m", script)
    script = re.sub(r"\bpip (?=wheel|--python)", f"{sys.executable} -m pip --quiet ", script)
    done = subprocess.run(["sh", "-euc", script], cwd=source, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    return root


@pytest.fixture
def run(built, tmp_path):
    """Runs a program of the built environment, in another folder and without this one's variables."""

    def call(program, *words):
        path = built / "opt/runfold/bin" / program
        environment = {"RUNFOLD_DATA": str(tmp_path / "data")}
        command = [path, *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )

    return call


def test_built_command_is_of_this_version(run):
    """What is copied is enough to build the wheel, and the wheel with its pinned dependencies runs."""
    assert run("runfold", "--version").stdout.strip() == runfold.__version__


def test_built_command_serves(run, built):
    """The built command opens log and store: nothing that it reads at run time was left behind."""
    event = '{"type":"thread.run.queued","run_id":"run_1","thread_id":"thread_1"}\n'
    (built / "events.jsonl").write_text(event)
    done = [run("runfold", *words) for words in (("publish", built / "events.jsonl"), ("serve", "--until-end"))]
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    assert run("runfold", "runs", "get", "run_1", "--json").stdout.startswith('{"id":"run_1"')


def test_kafka_and_postgresql_are_in_it(run):
    """Both drivers import, with every codec of Kafka's."""
    told = run("python", "-c", "import aiokafka.codec as c, asyncpg; print(c.has_zstd(), c.has_lz4(), c.has_snappy())")
    assert told.stdout.split() == ["True", "True", "True"], told.stderr


def test_nothing_in_it_installs_packages(built):
    """pip stays in the build: who gets in finds no tool to bring more."""
    assert not list((built / "opt/runfold").glob("bin/pip*"))
    assert not list((built / "opt/runfold").glob("lib/*/site-packages/pip"))


def _engine_answers():
    return (
        shutil.which("docker") is not None
        and not subprocess.run(
            ["docker", "info", "--format", "{{.ServerErrors}}"], capture_output=True, check=False, timeout=30
        ).returncode
    )


@pytest.mark.skipif(not _engine_answers(), reason="no container engine answers `docker info`")
@pytest.mark.timeout(900)
def test_engine_builds_it():
    """Where there is an engine, it builds the image, whose command says its version on a read-only root."""
    tag = "runfold:test"
    subprocess.run(["docker", "build", "--tag", tag, "--file", DOCKERFILE, ROOT], check=True, timeout=800)
    command = ["docker", "run", "--rm", "--read-only", "--cap-drop=ALL", "--network=none", tag, "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == runfold.__version__
