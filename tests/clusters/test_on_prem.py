"""``ray up clusters/on_prem.yaml`` and two machines joined by hand, on hosts made of namespaces."""

import shutil
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote

import pytest
import yaml

from search.record import read_events
from search.study import StudyTrial, trials_of
from ser_data.corpus import WAVEFORMS_FILE
from tests.clusters.hosts import HOME, ROOT, Host, Hosts, what_is_missing
from tests.s3_server import ACCESS
from tests.search.knob_family import score_of

EPOCHS = 6  # of the space long
PROJECT = f"{HOME}/speech-emotion-search"
# What stands for build_venv.sh: this environment's packages, and the project's as the node has them.
_BUILD = f"""
{Path(sys.executable).resolve()} -m venv --without-pip .venv
packages=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
printf '%s\\n' "$PWD" "$PWD/datasets" {sysconfig.get_paths()["purelib"]} > "$packages/project.pth"
printf '#!%s\\nfrom ray.scripts.scripts import main\\nmain()\\n' "$PWD/.venv/bin/python" > .venv/bin/ray
chmod +x .venv/bin/ray
"""
TOKEN = "export RAY_AUTH_MODE=token; "
RAY = f"cd {ROOT} && {sys.executable} -m ray.scripts.scripts"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif((reason := what_is_missing()) is not None, reason=f"hosts of namespaces: {reason}"),
]


@pytest.fixture
def hosts(tmp_path: Path, prepared_tone_corpus: Path) -> Iterator[Callable[..., Hosts]]:
    """``hosts(*names)``: hosts with a corpus in the folder that they share."""
    made: list[Hosts] = []

    def make(*names: str) -> Hosts:
        made.append(Hosts(tmp_path / "hosts", names))
        shutil.copytree(prepared_tone_corpus, made[0].shared / "corpus")
        (made[0].shared / "cache").mkdir()
        (tmp_path / "build.sh").write_text(_BUILD)
        return made[0]

    yield make
    for each in made:
        each.close()


def search_command(*options: str) -> str:
    """A search over trials of a second and a half, none of them stopped early."""
    shared = f"{HOME}/shared"
    folders = f"--data {shared}/corpus --cache-dir {shared}/cache --out {shared}/run"
    fixed = f"--space long --split speaker_kfold:4:1 --scheduler none --sampler random --wandb disabled {folders}"
    return f"cd {PROJECT} && .venv/bin/python -m tests.search.knob_search {fixed} {' '.join(options)}"


def start(host: Host, command: str, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as output:
        return subprocess.Popen(host.command(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def wait_until(
    true: Callable[[], bool], search: "subprocess.Popen[bytes] | None" = None, log: Path | None = None
) -> None:
    """Return once *true* says so, as long as the *search* that writes *log* lives."""
    deadline = time.monotonic() + 120
    while not true():
        lives = search is None or search.poll() is None
        assert lives and time.monotonic() < deadline, log.read_text() if log is not None else "it did not come true"
        time.sleep(0.1)


def hosts_that_trained(shared: Path) -> set[str]:
    ran = shared / "cache/ran.txt"
    return {line.split()[2] for line in ran.read_text().splitlines()} if ran.exists() else set()


def epochs_trained(shared: Path, trials: dict[int, StudyTrial]) -> Counter[tuple[float, int]]:
    """How often each epoch of each trial was trained, by the trial's x and the epoch."""
    xs = {trial.config["x"] for trial in trials.values()}
    rows = [line.split() for line in (shared / "cache/ran.txt").read_text().splitlines()]
    return Counter((float(x), int(epoch)) for x, epoch, _ in rows if float(x) in xs)


def check_complete(shared: Path, num_trials: int) -> dict[int, StudyTrial]:
    trials = trials_of(read_events(shared / "run/events.jsonl"))
    assert [trial.outcome for trial in trials.values()] == ["completed"] * num_trials
    for trial in trials.values():
        assert trial.scores == [score_of(trial.config["x"], epoch) for epoch in range(1, EPOCHS + 1)]
    return trials


def cluster_file(folder: Path, head: Host, worker: Host) -> Path:
    """clusters/on_prem.yaml, filled in as its comments say, and with the tests' family among the files of a node."""
    config = yaml.safe_load((ROOT / "clusters/on_prem.yaml").read_text())
    config["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
    config["auth"]["ssh_user"] = "root"
    config["file_mounts"] |= {
        f"{PROJECT}/tests": "tests",
        "~/speech-emotion-search/build_venv.sh": f"{folder}/build.sh",
    }
    # a worker whose head is gone gives up after a minute; 5 s are enough on one machine
    last = config["worker_start_ray_commands"][-1]
    config["worker_start_ray_commands"][-1] = f"export RAY_gcs_rpc_server_reconnect_timeout_s=5; {last}"
    path = folder / "on_prem.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_ray_up_makes_a_cluster_whose_search_outlives_a_node_and_ray_down_leaves_nothing(
    hosts: Callable[..., Hosts], tmp_path: Path
) -> None:
    made = hosts("laptop", "head", "worker")
    laptop, head, worker = made.all
    file = cluster_file(made.folder, head, worker)
    shutil.move(tmp_path / "build.sh", made.folder / "build.sh")
    laptop.run(f"umask 077; {RAY} get-auth-token --generate")
    laptop.run(f"{RAY} up -y {file}", timeout=300)
    wait_until(lambda: "2 local.cluster.node" in laptop.run(f"{RAY} exec {file} 'ray status'"))
    # as at a terminal: ssh asks for one
    shell = laptop.run(f"(sleep 8; echo hostname; echo exit) | script -qec {quote(f'{RAY} attach {file}')} /dev/null")
    assert "head" in shell.split()
    for node in (head, worker):
        assert node.run("stat -c %a ~/.ray ~/.ray/auth_token").split() == ["700", "600"]
    refused = head.run(f"RAY_AUTH_MODE=disabled timeout 20 {PROJECT}/.venv/bin/ray status 2>&1 || true")
    assert "authentication token" in refused.lower() and "local.cluster.node" not in refused

    log = tmp_path / "search.log"
    search = start(laptop, f"{RAY} exec {file} '{search_command('--trials 16')}'", log)
    wait_until(lambda: hosts_that_trained(made.shared) == {"head", "worker"}, search, log)
    worker.lose()
    assert search.wait(timeout=200) == 0, log.read_text()
    assert "joined the Ray cluster at" in log.read_text()
    check_complete(made.shared, 16)

    laptop.run(f"{RAY} down -y {file}")
    assert head.processes() == []


def joined_by_hand(made: Hosts) -> list[Host]:
    """The hosts, with the project, an environment and one token; Ray does not run yet."""
    first, *others = made.all
    for host in made.all:
        copied = host.folder / "home/speech-emotion-search"
        for name in ("search", "ser_models", "datasets", "tests"):
            shutil.copytree(ROOT / name, copied / name, ignore=shutil.ignore_patterns("__pycache__"))
        host.run(f"cd {PROJECT} && {_BUILD}")
    first.run(f"cd {PROJECT} && umask 077 && .venv/bin/ray get-auth-token --generate")
    for other in others:
        shutil.copytree(first.folder / "home/.ray", other.folder / "home/.ray")
    return made.all


def test_a_second_machine_joins_by_the_printed_command_and_a_resume_uses_both(hosts: Callable[..., Hosts]) -> None:
    made = hosts("first", "second")
    first, second = joined_by_hand(made)
    first.run(f"cd {PROJECT} && RAY_AUTH_MODE=token .venv/bin/ray start --head --num-cpus=1")
    printed = first.run(TOKEN + search_command("--trials 2"), timeout=120)
    hint = "each joins with: "
    (line,) = [line for line in printed.splitlines() if hint in line]
    second.run(f"cd {PROJECT} && {line.partition(hint)[2]} --num-cpus=1")
    assert hosts_that_trained(made.shared) == {"first"}
    resume = f"--resume {HOME}/shared/run --trials 10"
    first.run(f"{TOKEN}cd {PROJECT} && .venv/bin/python -m tests.search.knob_search {resume}", timeout=200)
    trials = check_complete(made.shared, 10)
    assert hosts_that_trained(made.shared) == {"first", "second"}
    assert set(epochs_trained(made.shared, trials).values()) == {1}


def test_a_head_without_cores_leaves_trials_and_the_classical_baseline_to_the_worker(
    hosts: Callable[..., Hosts],
) -> None:
    made = hosts("first", "second")
    first, second = joined_by_hand(made)
    start_ray = f"cd {PROJECT} && RAY_AUTH_MODE=token .venv/bin/ray start"
    first.run(f"{start_ray} --head --num-cpus=0")
    second.run(f"{start_ray} --address={first.address}:6379 --num-cpus=2")
    shared = f"{HOME}/shared"
    folders = f"--data {shared}/corpus --cache-dir {HOME}/cache --out {shared}/run"
    options = f"--space mfcc_fast --split speaker_kfold:4:1 --trials 2 --wandb disabled {folders}"
    printed = first.run(f"{TOKEN}cd {PROJECT} && .venv/bin/python search/run.py {options}", timeout=300)
    assert "joined the Ray cluster at" in printed and "2 cores" in printed
    events = read_events(made.shared / "run/events.jsonl")
    assert {trial.outcome for trial in trials_of(events).values()} <= {"completed", "stopped"}
    assert [event["name"] for event in events if event["kind"] == "baseline"]
    assert (second.folder / "home/cache").is_dir()


def test_hosts_that_share_nothing_get_data_and_keep_results_through_s3_and_a_late_one_too(
    hosts: Callable[..., Hosts], tmp_path: Path
) -> None:
    """The corpus lies in the home of the first alone, where the S3 server runs too."""
    made = hosts("first", "second", "late")
    first, second, late = joined_by_hand(made)
    shutil.move(made.shared / "corpus", first.folder / "home/corpus")
    access = " ".join(f"{name}={value}" for name, value in ACCESS.items())
    serve = f"cd {PROJECT} && .venv/bin/python -m tests.s3_server {first.address} results"
    server = subprocess.Popen(first.command(serve), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        uri = server.stdout.readline().strip()
        start_ray = f"cd {PROJECT} && export {access} RAY_AUTH_MODE=token && .venv/bin/ray start --num-cpus=1"
        first.run(f"{start_ray} --head")
        second.run(f"{start_ray} --address={first.address}:6379")
        folders = f"--data {HOME}/corpus --cache-dir {HOME}/cache --out {HOME}/run --storage '{uri}'"
        options = f"--space held --split speaker_kfold:4:1 --scheduler none --wandb disabled {folders}"
        log = tmp_path / "search.log"
        command = f".venv/bin/python -m tests.search.knob_search {options}"
        search = start(first, f"export {access}; {TOKEN}cd {PROJECT} && {command}", log)
        # a trial each for the first two, which are held until the third has come and has one too
        wait_until(lambda: {"first", "second"} <= hosts_that_trained_apart(made), search, log)
        late.run(f"{start_ray} --address={first.address}:6379")
        wait_until(lambda: "late" in hosts_that_trained_apart(made), search, log)
        for host in made.all:
            for trial in trials_of(read_events(first.folder / "home/run/events.jsonl")).values():
                (host.folder / "home/cache" / f"open-{trial.config['x']}").touch()
        assert search.wait(timeout=200) == 0, log.read_text()
    finally:
        server.communicate()
    trials = trials_of(read_events(first.folder / "home/run/events.jsonl"))
    assert [trial.outcome for trial in trials.values()] == ["completed"] * 3
    for trial in trials.values():
        assert trial.scores == [score_of(trial.config["x"], epoch) for epoch in range(1, 5)]
    xs = {str(trial.config["x"]) for trial in trials.values()}  # the space's corners are tried out on each node
    ran = Counter(tuple(line.split()[:2]) for host in made.all for line in lines_of(host) if line.split()[0] in xs)
    assert set(ran.values()) == {1} and len(ran) == 3 * 4  # no epoch was trained twice
    waveforms = (first.folder / "home/corpus" / WAVEFORMS_FILE).read_bytes()
    for host in (second, late):
        (copy,) = (host.folder / "home/cache/staged").glob("corpus-*/")
        assert (copy / WAVEFORMS_FILE).read_bytes() == waveforms
    assert not (first.folder / "home/cache/staged").exists()  # it has the corpus itself
    assert not any(made.shared.glob("run*"))
    assert "nodes without it get corpus crema_d" in log.read_text()


def lines_of(host: Host) -> list[str]:
    """What trials on a host left in its own cache folder: a line an epoch."""
    ran = host.folder / "home/cache/ran.txt"
    return ran.read_text().splitlines() if ran.exists() else []


def hosts_that_trained_apart(made: Hosts) -> set[str]:
    """As :func:`hosts_that_trained`, of hosts whose caches are their own."""
    return {host.name for host in made.all if lines_of(host)}
