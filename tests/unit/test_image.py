"""`make image`: what docker, podman and buildah are told; programs in their place write down their arguments."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
VERSION = yaml.safe_load((ROOT / "deploy/helm/nexus-auth/Chart.yaml").read_text())["appVersion"]


class Builders:
    """A folder of programs that all succeed, and note what they were called with."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.calls = folder / "calls"
        self.path = folder / "bin"
        self.path.mkdir()
        for name in names:
            program = self.path / name
            program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\necho "Loaded image: loaded:1"\n')
            program.chmod(0o755)

    def image(self, **environment: str) -> list[str]:
        """Runs devtools/image; every call but the question whether docker has a daemon."""
        env = {"PATH": f"{self.path}:{os.defpath}", **environment}
        ran = subprocess.run([ROOT / "devtools/image"], env=env, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        return [call for call in self.calls.read_text().splitlines() if call != "docker info"]


def test_docker_builds_and_saves(tmp_path: Path) -> None:
    builders = Builders(tmp_path, "docker", "podman")
    called = builders.image(BUILDER="docker", BASE_IMAGE="python:3.11-slim", ARCHIVE=str(tmp_path / "image.tar"))
    assert called == [
        f"docker build --tag nexus-auth:{VERSION} --build-arg BASE_IMAGE=python:3.11-slim .",
        f"docker save --output {tmp_path / 'image.tar'} nexus-auth:{VERSION}",
    ]


def test_docker_loads_a_base_that_is_a_file(tmp_path: Path) -> None:
    base = tmp_path / "base.tar"
    base.touch()
    called = Builders(tmp_path, "docker").image(BUILDER="docker", BASE_IMAGE=str(base), IMAGE="mine:2")
    assert called == [
        f"docker load --quiet --input {base}",
        "docker build --tag mine:2 --build-arg BASE_IMAGE=loaded:1 .",
    ]


@pytest.mark.parametrize(("tool", "verb"), [("podman", "build"), ("buildah", "bud")])
def test_podman_and_buildah_build_without_a_daemon(tmp_path: Path, tool: str, verb: str) -> None:
    (build,) = Builders(tmp_path, tool).image(BUILDER=tool, IMAGE="mine:2")
    assert build.startswith(f"{tool} {verb} ")
    assert "--isolation chroot" in build
    assert build.endswith("--tag mine:2 .")


def test_docker_without_its_daemon_is_passed_over(tmp_path: Path) -> None:
    builders = Builders(tmp_path, "docker", "podman")
    (builders.path / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert all(call.startswith("podman") for call in builders.image(BUILDER="docker podman", IMAGE="mine:2"))
