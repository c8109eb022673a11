#!/bin/sh
# Everything a node needs, in this folder and in the node's home: a Python environment from the
# hashed requirements, the engine, the console's assets. Idempotent: what is in place is not redone.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv
HOME_DIR=${MESH_LLM_HOME:-$HOME/.mesh-llm}

say() { printf '%s\n' "setup: $*"; }
fail() { printf '%s\n' "setup: $*" >&2; exit 1; }

find_python() {
    for name in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    fail "Python 3.11 or newer is needed. On Debian or Ubuntu: sudo apt-get install python3 python3-venv"
}

make_venv() {
    [ -x $VENV/bin/python ] && $VENV/bin/python -m pip --version >/dev/null 2>&1 && return
    python=$(find_python)
    say "making the Python environment ($("$python" --version))"
    rm -rf $VENV
    if "$python" -m venv $VENV >/dev/null 2>&1; then return; fi
    # Debian's python3 comes without ensurepip: a system pip can fill the environment all the same.
    rm -rf $VENV
    if "$python" -m pip --version >/dev/null 2>&1 && "$python" -m venv --without-pip $VENV &&
        "$python" -m pip --python $VENV/bin/python install -q pip; then return; fi
    rm -rf $VENV
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing python3-venv"
        { apt-get -qq update && apt-get -qq install -y python3-venv; } >/dev/null 2>&1 || true
        "$python" -m venv $VENV >/dev/null 2>&1 && return
    fi
    fail "this Python cannot make environments. On Debian or Ubuntu: sudo apt-get install python3-venv"
}

# sha256 of files, as one word; sha256sum is not on macOS
digest() { $VENV/bin/python -c 'import hashlib, sys
h = hashlib.sha256(sys.version.encode())
[h.update(open(f, "rb").read()) for f in sys.argv[1:]]
print(h.hexdigest())' "$@"; }

install_requirements() { # FILE
    stamp=$VENV/.$1.installed
    want=$(digest "$1")
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && return
    say "installing $1 (hashed; about half a minute)"
    $VENV/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r "$1" ||
        fail "the packages could not be installed. Check the network (pip's own words are above), then run make setup again."
    echo "$want" >"$stamp"
}

# The command works from any folder and always runs this checkout; no build step is needed for that.
link_command() {
    site=$($VENV/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    pwd >"$site/mesh-llm.pth"
    printf '#!%s\nimport sys\nfrom meshsite.cli import main\nsys.exit(main())\n' \
        "$(pwd)/$VENV/bin/python" >$VENV/bin/mesh-llm.new
    chmod +x $VENV/bin/mesh-llm.new
    mv $VENV/bin/mesh-llm.new $VENV/bin/mesh-llm
}

install_engine() {
    if [ -x "$HOME_DIR/engine/llama-server" ] || command -v llama-server >/dev/null 2>&1; then return; fi
    say "installing the engine (llama.cpp) into $HOME_DIR/engine"
    $VENV/bin/mesh-llm engine install
}

collect_assets() {
    newest=$(find static -type f -newer staticfiles/.collected 2>/dev/null | head -n 1)
    [ -f staticfiles/.collected ] && [ -z "$newest" ] && return
    say "collecting the console's assets"
    $VENV/bin/python manage.py collectstatic --noinput --clear -v 0
    touch staticfiles/.collected
}

started=$(date +%s)
make_venv
install_requirements requirements.txt
link_command
for extra in "$@"; do install_requirements "$extra"; done
collect_assets
install_engine
say "ready after $(($(date +%s) - started)) s: start a node with make run, or .venv/bin/mesh-llm"
