"""The cluster files: what Ray says of them, and what this project promises of each. No cloud is asked."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from jsonschema import ValidationError
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config

from search.autoscaling import planned_nodes

ROOT = Path(__file__).parent.parent.parent
CLOUDS = ["cluster.yaml", "clusters/gcp.yaml"]
ALL = [*CLOUDS, "clusters/on_prem.yaml"]
TOKEN = "~/.ray/auth_token"


def load(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return config


def start_commands(config: dict[str, Any]) -> list[str]:
    """What starts Ray, on the head and on a worker."""
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def workers(config: dict[str, Any]) -> dict[str, Any]:
    return {name: kind for name, kind in config["available_node_types"].items() if name != config["head_node_type"]}


@pytest.fixture
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """File mounts are named from the project's folder, where `ray up` is run."""
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("name", ALL)
def test_ray_accepts_the_file(name: str, in_the_project: None) -> None:
    validate_config(prepare_config(load(name)))


@pytest.mark.parametrize("name", ALL)
def test_a_misspelt_key_is_not_accepted(name: str) -> None:
    with pytest.raises(ValidationError, match="idle_timeout_minuts"):
        validate_config(prepare_config(load(name) | {"idle_timeout_minuts": 5}))


@pytest.mark.parametrize("name", CLOUDS)
def test_no_trial_runs_on_the_head_which_is_on_demand_and_without_a_gpu(name: str) -> None:
    config = load(name)
    head = config["available_node_types"][config["head_node_type"]]
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    assert "--num-cpus=0" in start_commands(config)[0]
    assert not {"InstanceMarketOptions", "scheduling", "guestAccelerators"} & head["node_config"].keys()


@pytest.mark.parametrize("name", CLOUDS)
def test_workers_are_spot_machines_that_start_from_none_and_some_have_no_gpu(name: str) -> None:
    config = load(name)
    assert {"gpu_worker", "cpu_worker"} == workers(config).keys()
    for kind in workers(config).values():
        assert kind["min_workers"] == 0 and 0 < kind["max_workers"] <= config["max_workers"]
        node = kind["node_config"]
        spot = node.get("InstanceMarketOptions") == {"MarketType": "spot"}
        assert spot or node["scheduling"][0]["provisioningModel"] == "SPOT"


@pytest.mark.parametrize("name", ALL)
def test_what_a_node_gets_exists_and_is_enough_to_install_and_run_the_project(name: str) -> None:
    mounts = load(name)["file_mounts"]
    assert mounts.pop(TOKEN) == TOKEN
    assert [source for source in mounts.values() if not (ROOT / source).exists()] == []
    read_by_the_build = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "build_venv.sh"}
    assert {"search", "ser_models", "datasets", "clusters", *read_by_the_build} == set(mounts.values())


@pytest.mark.parametrize("name", ALL)
def test_a_token_is_asked_before_every_start_of_ray_and_the_dashboard_is_not_open(name: str) -> None:
    config = load(name)
    commands = start_commands(config)
    assert len(commands) == 2
    for command in commands:
        before, _, options = command.partition("ray start")
        assert "export RAY_AUTH_MODE=token;" in before
        assert ("--dashboard-host=127.0.0.1" in options) == ("--head" in options)
    assert config["setup_commands"][-1] == "bash ~/speech-emotion-search/clusters/node_setup.sh"


def test_the_set_up_keeps_the_token_from_others_and_installs_with_the_constraints() -> None:
    lines = (ROOT / "clusters/node_setup.sh").read_text().splitlines()
    assert "chmod 600 ~/.ray/auth_token" in lines
    assert lines[-1].endswith("sh ./build_venv.sh")
    assert "-c constraints.txt" in (ROOT / "build_venv.sh").read_text()


@pytest.mark.parametrize("script", ["node_setup.sh", "mount_shared.sh"])
def test_scripts_of_a_node_are_bash(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / "clusters" / script], check=True)


@pytest.fixture(scope="module")
def no_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What answers in place of AWS; the key pair that Ray makes goes into a home of the tests' own."""
    home = tmp_path_factory.mktemp("home")
    (home / ".ssh").mkdir()
    with pytest.MonkeyPatch.context() as patched, mock_aws():
        patched.setenv("MOTO_IAM_LOAD_MANAGED_POLICIES", "true")
        patched.setenv("HOME", str(home))
        yield


@pytest.fixture(scope="module")
def launched(no_cloud: None) -> dict[str, Any]:
    """cluster.yaml as `ray up` leaves it on the head."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        config = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(load("cluster.yaml")))
    bootstrapped: dict[str, Any] = bootstrap_aws(config)
    return bootstrapped


def test_the_aws_launcher_makes_nodes_of_the_file_and_no_role_of_its_own(launched: dict[str, Any]) -> None:
    config = launched
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0 and "GPU" not in workers(config)["cpu_worker"]["resources"]
    assert types["gpu_worker"]["resources"]["GPU"] == 1
    assert config["head_node"] == {} and list(boto3.resource("iam").roles.all()) == []

    groups = types["head"]["node_config"]["SecurityGroupIds"]
    (group,) = boto3.resource("ec2", config["provider"]["region"]).security_groups.filter(GroupIds=groups)
    open_to_all = [rule for rule in group.ip_permissions if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_to_all] == [(22, 22)]


def test_a_search_on_the_head_counts_the_workers_that_may_come(launched: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "ray_bootstrap_config.yaml"
    file.write_text(yaml.safe_dump(launched))
    assert planned_nodes(file) == []  # no autoscaler follows it
    option = f"--autoscaling-config={file}"
    # stands for Ray's monitor, which has the option among its words; it says when it runs
    command = ["sh", "-c", "echo here; read -r line", "monitor", option]
    monitor = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert monitor.stdout is not None and monitor.stdout.readline() == b"here\n"
        nodes = planned_nodes(file)
    finally:
        monitor.communicate()
    assert [(node["CPU"], node.get("GPU", 0)) for node in nodes] == [(4, 1)] * 4 + [(8, 0)] * 2
