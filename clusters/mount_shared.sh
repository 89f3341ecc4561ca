#!/usr/bin/env bash
# Mounts a network file system at ~/shared, for results and data that all nodes see: mount_shared.sh HOST:/FOLDER
# `ray up` runs it on each node of a cloud. Run again, it changes nothing. Needs sudo.
set -euo pipefail
if mountpoint -q ~/shared; then exit 0; fi

if ! command -v mount.nfs4 >/dev/null; then
    # a fresh cloud machine may still be busy with its own updates, which hold the lock
    sudo apt-get -o DPkg::Lock::Timeout=300 update -qq
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq nfs-common
fi
mkdir -p ~/shared
sudo mount -t nfs4 -o nfsvers=4.1,hard,timeo=600,noresvport "$1" ~/shared
[ -w ~/shared ] || sudo chown "$(id -u):$(id -g)" ~/shared
