#!/usr/bin/env bash
# Makes a machine a node: `ray up` runs it on each, behind copying the project there. Run again, it changes nothing.
# Needs sudo only where Python or its venv module is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

chmod 700 ~/.ray
chmod 600 ~/.ray/auth_token

# every shell that Ray opens here reads ~/.bashrc, the user's own too
line="export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 PATH=$PWD/.venv/bin:\$PATH"
grep -qxF "$line" ~/.bashrc 2>/dev/null || echo "$line" >>~/.bashrc

if ! sh ./build_venv.sh --which >/dev/null 2>&1; then
    # a fresh cloud machine may still be busy with its own updates, which hold the lock
    sudo apt-get -o DPkg::Lock::Timeout=300 update -qq
    sudo DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq python3-venv
fi
EXTRAS=sample,cluster sh ./build_venv.sh
