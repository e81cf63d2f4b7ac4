#!/bin/sh
# PID 1 of new namespaces: makes a throw-away view of this machine's / and becomes systemd in it. See machine.py.
# boot.sh LAB: a directory with binds (paths on other file systems that are needed, one a line) and open (directories
# that every user has to be able to search). Exits 77, and says why, where this machine does not allow it.
set -eu
lab=$1
root=$lab/root
unavailable() { echo "unavailable: $1"; exit 77; }

mkdir "$root" "$lab/top"
mount -t tmpfs -o mode=755 annul-test "$lab/top" || unavailable "no tmpfs can be mounted"
mkdir "$lab/top/upper" "$lab/top/work"
mount -t overlay -o "lowerdir=/,upperdir=$lab/top/upper,workdir=$lab/top/work" overlay "$root" ||
  unavailable "no overlay of / can be mounted"

# Nothing of this machine's own: of all units that are started by themselves only the journal's are left.
for directory in /usr/lib/systemd/system /lib/systemd/system /usr/local/lib/systemd/system /etc/systemd/system; do
  for wants in "$root$directory"/*.wants "$root$directory"/*.requires; do
    [ ! -L "$root$directory" ] && [ -d "$wants" ] || continue
    find "$wants" -mindepth 1 -not -name 'systemd-journald*' -delete
  done
done
rm -rf "$root"/etc/systemd/system/annul* "$root"/usr/local/lib/systemd/system/annul* "$root"/etc/fstab
rm -rf "$root"/etc/annul "$root"/var/lib/annul "$root"/etc/systemd/system-generators "$root"/etc/credstore
tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' >"$root/etc/systemd/journald.conf.d/test.conf"
# The mark by which tests/leftovers.py finds what is left behind.
printf '[Manager]\nDefaultEnvironment=ANNUL_TEST_SESSION=%s\n' "$ANNUL_TEST_SESSION" \
  >"$root/etc/systemd/system.conf.d/test.conf"
while read -r path; do chmod o+x "$root$path"; done <"$lab/open"

mount -t proc -o nosuid,nodev,noexec proc "$root/proc" || unavailable "no /proc can be mounted"
mount --bind "$root/proc/sys" "$root/proc/sys" && mount -o remount,bind,ro "$root/proc/sys"
mount --bind /dev/null "$root/proc/sysrq-trigger" 2>/dev/null || true
mount -t sysfs -o nosuid,nodev,noexec,ro sysfs "$root/sys" || unavailable "no /sys can be mounted"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup" || unavailable "no cgroup v2 can be mounted"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,mode=0620,ptmxmode=0666,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
: >"$root/dev/console"
while read -r path; do
  mkdir -p "$root$path"
  mount --rbind "$path" "$root$path"
done <"$lab/binds"
hostname annul-test

cd "$root"
mkdir run/outside
pivot_root . run/outside
umount -l run/outside
rmdir run/outside
mount --make-rshared /  # within these namespaces only: by this services get their credentials
# Without what would reach beyond the view: it may not set the clock, load modules or reboot.
exec setpriv --bounding-set -sys_time,-sys_module,-sys_boot,-sys_rawio,-syslog,-mac_admin,-mac_override,-wake_alarm \
  env -i container=annul-test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
  /lib/systemd/systemd --system --unit=basic.target --show-status=no --log-target=journal
