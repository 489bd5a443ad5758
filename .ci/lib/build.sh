# shellcheck shell=bash
# Functions; nothing happens until one is called. They build the library, and install it with the control file and the
# scripts. Only the tests need cargo-pgrx: all SQL is in sql/.

# shellcheck source=.ci/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# build PROFILE: the library, for the PostgreSQL that PGRX_PG_CONFIG_PATH names
build() {
    cargo build --lib --profile "$1" "${FEATURES[@]}"
}

version() { sed -nE '/^\[package\]/,/^\[lib\]/s/^version = "(.*)"/\1/p' Cargo.toml; }

# put FILE DIR [NAME]: by a rename, so that no session sees half of a file, and those that have the library loaded keep it
put() {
    local name=${3:-$(basename "$1")} mode=644
    [ "${name%.so}" = "$name" ] && [ "${name%.dylib}" = "$name" ] || mode=755
    "${sudo[@]}" install -d "$2"
    "${sudo[@]}" install -m "$mode" "$1" "$2/.$name.new"
    "${sudo[@]}" mv -f "$2/.$name.new" "$2/$name"
}

# install_files PROFILE PG_CONFIG: into that PostgreSQL, under DESTDIR
install_files() {
    local built=$CARGO_TARGET_DIR/${1/#dev/debug} lib extension version sudo=() suffix=so from=so dir script
    lib=${DESTDIR:-}$("$2" --pkglibdir)
    extension=${DESTDIR:-}$("$2" --sharedir)/extension
    version=$(version)
    [ "$(uname)" != Darwin ] || { from=dylib; [ "$PG" -lt 16 ] || suffix=dylib; }
    for dir in "$lib" "$extension"; do
        while [ ! -e "$dir" ]; do dir=$(dirname "$dir"); done
        [ -w "$dir" ] || sudo=(sudo)
    done
    [ ${#sudo[@]} = 0 ] || has sudo || die "you may not write to $lib and $extension: run this as root, or give DESTDIR=…"
    script=$built/pg_sequin--$version.sql
    .ci/script >"$script"
    sed "s/@CARGO_VERSION@/$version/" pg_sequin.control >"$built/pg_sequin.control"
    put "$built/libpg_sequin.$from" "$lib" "pg_sequin.$suffix"
    put "$built/pg_sequin.control" "$extension"
    for script in "$script" sql/pg_sequin--*--*.sql; do
        [ ! -e "$script" ] || put "$script" "$extension"
    done
}
