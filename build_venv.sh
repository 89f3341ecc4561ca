#!/bin/sh
# Builds or renews .venv, and says what it is doing. Up to date, it ends within milliseconds and without a word.
# With --which it only prints the Python that it would take.
#
# It stands at the root, beside the files that it reads: `make`, CI and a cluster's nodes all start here, before
# any Python of ours can be imported. PYTHON=... names the interpreter; otherwise the first that fits is taken.
# EXTRAS=... names the extras of pyproject.toml to install; a cluster's nodes take others than a developer.
set -eu
cd "$(dirname "$0")"
extras=${EXTRAS:-sample,dev}

fail() {
    printf 'set-up: %s\n' "$@" >&2
    exit 1
}

# By running it: a shim may have the right name and no interpreter behind it.
is_supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' >/dev/null 2>&1; }
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo none; }

find_python() {
    bare=
    if [ -n "${PYTHON:-}" ]; then
        is_supported "$PYTHON" ||
            fail "PYTHON=$PYTHON does not run as Python 3.11 or 3.12. Name one that does, or leave PYTHON unset."
        candidates=$PYTHON
    else
        candidates='python3.11 python3.12 python3'
    fi
    for candidate in $candidates; do
        is_supported "$candidate" || continue
        if has_venv "$candidate"; then
            python=$candidate
            return
        fi
        bare=${bare:-$(version_of "$candidate")}
    done
    [ -z "$bare" ] || fail "Python $bare is here without its modules venv and ensurepip. Debian and Ubuntu keep them in a" \
        "package of their own: apt install python$bare-venv. Or name another Python 3.11 or 3.12: make PYTHON=/path/to/python ..."
    fail "no Python 3.11 or 3.12 runs here (tried python3.11, python3.12, python3; python3 is $(version_of python3))." \
        "Install one with its venv package (Debian 12: apt install python3.11-venv; Ubuntu 24.04: apt install" \
        "python3.12-venv), or name yours: make PYTHON=/path/to/python ..."
}

# What .venv is made from. An editable install does not see a package that is added later, so the set of packages
# counts too, and so does this folder's own path, which the install holds. cksum is on every POSIX system.
fingerprint() {
    {
        pwd -P
        echo "$extras"
        cat pyproject.toml constraints.txt
        find datasets search ser_models -name __init__.py | LC_ALL=C sort
    } | cksum | tr ' ' '-'
}

if [ "${1:-}" = --which ]; then
    find_python
    echo "$python"
    exit
fi

wanted=$(fingerprint)
stamp=.venv/built-from
is_fresh() {
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && .venv/bin/python -c '' 2>/dev/null &&
        { [ -z "${PYTHON:-}" ] || [ "$(version_of .venv/bin/python)" = "$(version_of "$PYTHON")" ]; }
}

if is_fresh; then exit 0; fi

# Two commands at once: the second waits here and then finds the work done.
if command -v flock >/dev/null 2>&1; then
    exec 9>.venv.lock
    if ! flock -n 9; then
        echo 'set-up: another command is building .venv; waiting for it'
        flock 9
    fi
    if is_fresh; then exit 0; fi
fi

# An existing .venv is kept if it runs and is not of another version than the one asked for.
started=$(date +%s)
if is_supported .venv/bin/python && .venv/bin/python -c 'import pip' 2>/dev/null &&
    { [ -z "${PYTHON:-}" ] || [ "$(version_of .venv/bin/python)" = "$(version_of "$PYTHON")" ]; }; then
    echo 'set-up: pyproject.toml, constraints.txt, the set of packages or the place of this folder changed, or the last'
    echo '        set-up did not end. Bringing .venv up to date: seconds, or minutes where versions moved'
    quiet=--quiet
else
    find_python
    echo "set-up: building .venv with $python ($(version_of "$python")), once: about 6 GB on disk and 3 to 5 minutes"
    rm -rf .venv
    "$python" -m venv .venv
    quiet=
fi

# Whatever happens from here on, .venv does not count as built until the last line.
rm -f "$stamp"
.venv/bin/python -m pip install $quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]" ||
    fail 'pip could not install the packages; its message stands above, and .venv does not count as built.' \
        'Mend the cause (a missing network, a full disk) and run the same command again.'
printf '%s\n' "$wanted" >"$stamp"
echo "set-up: .venv is ready after $(($(date +%s) - started)) s"
