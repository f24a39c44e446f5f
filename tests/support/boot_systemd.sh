#!/bin/sh
# Boots systemd as the first process of namespaces of its own: processes, mounts, network, cgroups.
# Files are written to memory only, and what listens is seen by nobody else.
#
#   boot_systemd.sh FOLDER      of which units/ becomes /etc/systemd/system, etc/ becomes
#                               /etc/cms-gateway, and cms-gateway the program in /usr/local/bin
#
# Then FOLDER/driver runs, and what it says is in FOLDER/out. Its end is the end of it all. The
# services' own words are in FOLDER/log.
set -eu
folder=$1

if [ "${2-}" = boot ]; then
    root=$folder/system/merged
    mkdir -p "$folder/system"
    mount -t tmpfs tmpfs "$folder/system"
    mkdir "$folder/system/upper" "$folder/system/work" "$root"
    layers=lowerdir=/,upperdir=$folder/system/upper,workdir=$folder/system/work
    mount -t overlay -o "$layers" overlay "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    for place in run tmp dev; do
        mount -t tmpfs -o mode=755 tmpfs "$root/$place"
    done
    chmod 1777 "$root/tmp"
    for device in null zero full random urandom tty; do
        touch "$root/dev/$device"
        mount --bind "/dev/$device" "$root/dev/$device"
    done
    mkdir "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue" "$root/dev/hugepages"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    rm -rf "$root/etc/systemd/system" "$root/etc/cms-gateway"
    cp -r "$folder/units" "$root/etc/systemd/system"
    cp -r "$folder/etc" "$root/etc/cms-gateway"
    for file in out log driver; do
        touch "$root/$file"
        mount --bind "$folder/$file" "$root/$file"
    done
    cp "$folder/cms-gateway" "$root/usr/local/bin/cms-gateway"
    # Nothing is started but what the driver starts.
    cat >"$root/etc/systemd/system/driver.target" <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=driver.service
UNIT
    cat >"$root/etc/systemd/system/driver.service" <<'UNIT'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash /driver
ExecStopPost=/bin/sh -c '/bin/systemctl --force --force poweroff >/dev/null 2>&1'
StandardOutput=append:/out
StandardError=append:/out
UNIT
    mkdir "$root/before"
    cd "$root"
    pivot_root . before
    umount -l /before
    # The folders of credentials are mounted in a namespace beside this one, and have to show here.
    mount --make-rshared /
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=driver.target --log-target=null --show-status=no
fi

if [ "${2-}" = enter ]; then
    mkdir "$folder/cgroup"
    mount -t cgroup2 cgroup2 "$folder/cgroup"
    own=$folder/cgroup/cms-gateway-test-$$
    mkdir "$own"
    # A namespace whose first process powers off ends as if by SIGINT, of which this shell is not to
    # end.
    trap : INT
    # systemd asks to be alone at the root of its cgroups.
    timeout --kill-after=5 120 sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' "$own" \
        unshare --mount --cgroup --pid --fork --kill-child --uts --ipc --net \
        sh "$script" "$folder" boot || true
    find "$own" -depth -type d -exec rmdir {} +
    exit
fi

touch "$folder/out" "$folder/log"
chmod 666 "$folder/log"
script=$(realpath "$0")
export script
exec unshare --mount --propagation private sh "$script" "$folder" enter
