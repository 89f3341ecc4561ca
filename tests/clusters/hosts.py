"""Machines made of namespaces: each has a network, processes, a home, a /tmp and an sshd of its own.

They share this machine's disk, so that nothing is installed twice, and a folder that stands for a network share. Their
network is a bridge inside the first of them; no packet leaves it. When a host's first process ends, the kernel ends
all others of it: that is how one is lost, and how nothing is left behind.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
NEEDED = ("sshd", "ssh", "ssh-keygen", "rsync", "ip", "unshare", "nsenter")
_NETWORK = "10.213.7"  # seen by the hosts alone

HOME = "/mnt"  # of a host's only user: a folder that every system has and hardly any uses
# The first process of a host. What it mounts is seen by the host alone. bash reaps what its children leave behind.
_FIRST_PROCESS = """
mount --make-rprivate /
hostname {name}
sed 's|^root:.*|root:x:0:0:root:/mnt:/bin/bash|' /etc/passwd > {folder}/passwd
mount --bind {folder}/passwd /etc/passwd
mkdir {folder}/home/shared {folder}/home/.tmp
mount --bind {shared} {folder}/home/shared
mount --bind /tmp {folder}/home/.tmp
mount --rbind {folder}/home /mnt
mount --bind {folder}/tmp /tmp
for kept in {kept}; do  # what lies in the /tmp of everybody else
    case $kept in /tmp/*) mkdir -p $kept && mount --bind /mnt/.tmp/${{kept#/tmp/}} $kept;; esac
done
mount -t tmpfs tmpfs /run && mkdir -p /run/sshd
ip link set lo up
touch /tmp/ready
{sshd} -D -e -f {folder}/sshd_config &
wait
"""
_SSHD = """
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/home/.ssh/authorized_keys
StrictModes no
PermitRootLogin yes
PasswordAuthentication no
UsePAM no
PidFile none
"""
_ENVIRONMENT = {"HOME": HOME, "USER": "root", "LANG": "C.UTF-8", "TERM": "dumb"}


def what_is_missing() -> str | None:
    """Why no such host can be made here; None where it can."""
    missing = [name for name in NEEDED if _where(name) is None]
    if missing:
        return f"no {', '.join(missing)} here (Debian: openssh-server, openssh-client, rsync, iproute2, util-linux)"
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "namespaces need root on Linux"
    command = shlex.split("unshare --net --pid --fork --mount --uts ip link add name a type bridge")
    tried = subprocess.run(command, capture_output=True, text=True)
    return None if tried.returncode == 0 else f"namespaces are not allowed here: {tried.stderr.strip()}"


def _where(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


@dataclass
class Host:
    """One machine; :attr:`pid` is its first process, as this machine numbers it."""

    name: str
    address: str
    folder: Path
    process: "subprocess.Popen[bytes]"
    pid: int

    def command(self, command: str) -> list[str]:
        """What runs *command* in a shell of the host, in its user's home."""
        environment = {**_ENVIRONMENT, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        settings = [f"{name}={value}" for name, value in environment.items()]
        return [
            "nsenter",
            "--target",
            str(self.pid),
            "--all",
            f"--wd={HOME}",
            "env",
            "-i",
            *settings,
            "bash",
            "-c",
            command,
        ]

    def run(self, command: str, *, timeout: float = 120.0) -> str:
        """What a shell on the host prints; stderr too.

        Raises:
            AssertionError: it failed; the message has what it printed
        """
        done = subprocess.run(
            self.command(command), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, f"{self.name}$ {command}\n{done.stdout}"
        return done.stdout

    def processes(self) -> list[str]:
        """Command lines of what runs there but for its own first process and its sshd with their children."""
        listed = self.run("ps -eo stat,args --no-headers").splitlines()
        own = ("bash -eu -c", "sshd:", "ssh: /tmp/ray_ssh", "ps -eo", "bash -c ps")
        lines = [(stat, args) for stat, args in (line.split(maxsplit=1) for line in listed)]
        return [args for stat, args in lines if not stat.startswith("Z") and not args.startswith(own)]

    def lose(self) -> None:
        """End every process of the host at once, as a power cut does."""
        if self.process.poll() is None:
            os.kill(self.pid, 9)
        self.process.wait(timeout=30)


class Hosts:
    """Some hosts on a network of their own, the first of them its bridge.

    Args:
        folder: theirs; their homes and temporary files lie in it
        names: of the hosts
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir(parents=True)
        self.all: list[Host] = []
        try:
            for place, name in enumerate(names, start=1):
                self.all.append(_start(folder, name, f"{_NETWORK}.{place}", self.shared))
                self._plug_in(self.all[-1])
            first = self.all[0]
            first.run("mkdir -p ~/.ssh && ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519")
            key = (first.folder / "home/.ssh/id_ed25519.pub").read_text()
            for host in self.all:
                (host.folder / "home/.ssh").mkdir(exist_ok=True)
                (host.folder / "home/.ssh/authorized_keys").write_text(key)
        except BaseException:
            self.close()
            raise

    def _plug_in(self, host: Host) -> None:
        first, port = self.all[0], "eth0"
        if host is first:
            port = "bridge0"
            host.run("ip link add bridge0 type bridge")
        else:
            cable = f"to_{host.name}"
            first.run(f"ip link add {cable} type veth peer name eth0")
            # by its pid here: the first host does not see other hosts' processes
            move = ["nsenter", "--target", str(first.pid), "--net", "ip", "link", "set", "eth0", "netns", str(host.pid)]
            subprocess.run(move, check=True)
            first.run(f"ip link set {cable} master bridge0 && ip link set {cable} up")
        # the route leads nowhere; Ray finds a machine's own address by asking where one to the outside begins
        host.run(
            f"ip addr add {host.address}/24 dev {port} && ip link set {port} up && ip route add default dev {port}"
        )

    def close(self) -> None:
        for host in self.all:
            host.lose()


def _start(folder: Path, name: str, address: str, shared: Path) -> Host:
    own = folder / name
    for sub in ("home", "tmp"):
        (own / sub).mkdir(parents=True)
    (own / "tmp").chmod(0o1777)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(own / "host_key")], check=True)
    (own / "sshd_config").write_text(_SSHD.format(folder=own))
    script = _FIRST_PROCESS.format(
        name=shlex.quote(name), folder=shlex.quote(str(own)), shared=shlex.quote(str(shared)),
        kept=" ".join(shlex.quote(str(Path(path).resolve())) for path in (folder, ROOT, sys.prefix, sys.base_prefix)),
        sshd=_where("sshd"),
    )  # fmt: skip
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "--net", "--uts", "--ipc", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
             "bash", "-eu", "-c", script],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 20
    while not (own / "tmp/ready").exists():
        assert process.poll() is None and time.monotonic() < deadline, (own / "log").read_text()
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return Host(name, address, own, process, int(children[0]))
