# shellcheck shell=bash
# A function; nothing happens until it is called.

# shellcheck source=.ci/lib/setup.sh
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

# make_debian RELEASE DIR LOG: a Debian to chroot into, in a new directory. Needs root and debootstrap.
make_debian() {
    local release=$1 dir=$2 log=$3 mirror
    rm -rf --one-file-system "$dir"
    mirror=$(debian_mirror)
    say "making a Debian $release in ${dir#"$ROOT/"} (debootstrap)"
    debootstrap --variant=minbase --include=ca-certificates "$release" "$dir" ${mirror:+"$mirror"} >"$log" 2>&1 ||
        { tail -n 20 "$log" >&2; return 1; }
    cp /etc/apt/apt.conf.d/*prox* "$dir/etc/apt/apt.conf.d/" 2>/dev/null || true
    cp /etc/resolv.conf "$dir/etc/resolv.conf"
    # no service may start by itself in a chroot
    printf '#!/bin/sh\nexit 101\n' >"$dir/usr/sbin/policy-rc.d"
    chmod +x "$dir/usr/sbin/policy-rc.d"
}
