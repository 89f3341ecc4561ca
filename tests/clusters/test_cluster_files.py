"""The cluster files: what Ray says of them, and what this project promises of each. No cloud is asked."""

import json
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
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from search.cluster.autoscaling import planned_nodes

ROOT = Path(__file__).parent.parent.parent
CLOUDS = ["cluster.yaml", "clusters/gcp.yaml"]
ALL = [*CLOUDS, "clusters/on_prem.yaml"]
TOKEN = "~/.ray/auth_token"
#: Profiles of the file, with the names of their roles.
ROLES = {"HEAD_INSTANCE_PROFILE": "head", "WORKER_INSTANCE_PROFILE": "worker"}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ],
}


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


def documented_policies() -> tuple[str, str]:
    """What docs/cluster.md lets the head do, and what all nodes do with the bucket: the blocks of JSON there."""
    text = (ROOT / "docs/cluster.md").read_text().replace("ACCOUNT", "123456789012")
    head, bucket = (f'{{"Version"{block.partition("```")[0]}' for block in text.split('{"Version"')[1:])
    return head, bucket


@pytest.fixture(scope="module")
def launched(no_cloud: None) -> dict[str, Any]:
    """cluster.yaml as `ray up` leaves it on the head."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(ROOT)
        config = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(load("cluster.yaml")))
    iam = boto3.client("iam")  # what docs/cluster.md lets the user make once
    head, bucket = documented_policies()
    for profile, role in ROLES.items():
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
        iam.put_role_policy(RoleName=role, PolicyName="bucket", PolicyDocument=bucket)
        iam.create_instance_profile(InstanceProfileName=profile)
        iam.add_role_to_instance_profile(InstanceProfileName=profile, RoleName=role)
    iam.put_role_policy(RoleName="head", PolicyName="head", PolicyDocument=head)
    bootstrapped: dict[str, Any] = bootstrap_aws(config)
    return bootstrapped


def test_the_aws_launcher_makes_nodes_of_the_file_and_no_role_of_its_own(launched: dict[str, Any]) -> None:
    config = launched
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0 and "GPU" not in workers(config)["cpu_worker"]["resources"]
    assert types["gpu_worker"]["resources"]["GPU"] == 1
    made = {role.name for role in boto3.resource("iam").roles.all()}
    assert config["head_node"] == {} and made == set(ROLES.values())

    groups = types["head"]["node_config"]["SecurityGroupIds"]
    (group,) = boto3.resource("ec2", config["provider"]["region"]).security_groups.filter(GroupIds=groups)
    open_to_all = [rule for rule in group.ip_permissions if rule["IpRanges"]]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in open_to_all] == [(22, 22)]


@pytest.fixture(scope="module")
def machines(launched: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What Ray's AWS provider starts of each type of node, as AWS describes it: a head, two workers of each kind."""
    provider = AWSNodeProvider(launched["provider"], launched["cluster_name"])
    client = boto3.client("ec2", launched["provider"]["region"])
    started = {}
    for name, kind in launched["available_node_types"].items():
        node = dict(kind["node_config"])
        node["ImageId"] = client.register_image(Name=name)["ImageId"]  # in the file it is to be filled in
        is_head = name == launched["head_node_type"]
        tags = {TAG_RAY_NODE_KIND: "head" if is_head else "worker", TAG_RAY_USER_NODE_TYPE: name}
        made = [*provider.create_node(node, tags, 1)]
        if not is_head:
            made += provider.create_node(node, tags, 1)
        described = client.describe_instances(InstanceIds=made)["Reservations"]
        started[name] = [instance for reservation in described for instance in reservation["Instances"]]
    assert set(provider.non_terminated_nodes({TAG_RAY_NODE_KIND: "worker"})) == {
        instance["InstanceId"] for name in workers(launched) for instance in started[name]
    }
    return started


def tags_of(machine: dict[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in machine["Tags"]}


def test_aws_is_asked_for_the_head_on_demand_and_for_spot_workers_of_the_files_types(
    machines: dict[str, list[dict[str, Any]]],
) -> None:
    told = {
        name: [(one["InstanceType"], one.get("InstanceLifecycle", "on demand")) for one in started]
        for name, started in machines.items()
    }
    assert told == {
        "head": [("m7i.large", "on demand")],
        "gpu_worker": [("g6.xlarge", "spot")] * 2,
        "cpu_worker": [("c7i.2xlarge", "spot")] * 2,
    }


def test_every_machine_bears_the_tags_that_bills_and_ray_down_go_by(machines: dict[str, list[dict[str, Any]]]) -> None:
    for name, started in machines.items():
        for machine in started:
            tags = tags_of(machine)
            assert tags["project"] == "speech-emotion-search"
            assert tags["ray-cluster-name"] == "speech-emotion"  # the head may end machines with this tag alone
            assert tags["ray-user-node-type"] == name


def test_every_machine_has_one_encrypted_disk_of_its_own_that_ends_with_it(
    launched: dict[str, Any], machines: dict[str, list[dict[str, Any]]]
) -> None:
    client = boto3.client("ec2", launched["provider"]["region"])
    for machine in (machine for started in machines.values() for machine in started):
        (mapping,) = machine["BlockDeviceMappings"]
        assert mapping["DeviceName"] == "/dev/sda1" and mapping["Ebs"]["DeleteOnTermination"]
        (disk,) = client.describe_volumes(VolumeIds=[mapping["Ebs"]["VolumeId"]])["Volumes"]
        assert (disk["Size"], disk["VolumeType"], disk["Encrypted"]) == (100, "gp3", True)


def test_every_machine_has_the_role_of_its_kind_and_all_are_in_one_group_where_ssh_alone_is_open(
    launched: dict[str, Any], machines: dict[str, list[dict[str, Any]]]
) -> None:
    profiles = {name: {one.get("IamInstanceProfile", {}).get("Arn") for one in machines[name]} for name in machines}
    head, worker = ({boto3.resource("iam").InstanceProfile(profile).arn} for profile in ROLES)
    assert profiles == {"head": head, "gpu_worker": worker, "cpu_worker": worker}
    everyone = [machine for started in machines.values() for machine in started]
    (group,) = {one["GroupId"] for machine in everyone for one in machine["SecurityGroups"]}
    rules = boto3.resource("ec2", launched["provider"]["region"]).SecurityGroup(group).ip_permissions
    among_themselves = [rule for rule in rules if rule["UserIdGroupPairs"]]
    assert [pair["GroupId"] for rule in among_themselves for pair in rule["UserIdGroupPairs"]] == [group]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules if rule["IpRanges"]] == [(22, 22)]


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
