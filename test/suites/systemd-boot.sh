#!/bin/sh
# The first process of a machine in namespaces: systemd on cgroup v2, without any unit but those of the directory $1, and
# without a file that it could write but below $1 and /run.
set -e
directory=$1
mount --make-rprivate /
awk '$3 ~ /^cgroup/ { print $2 }' /proc/self/mounts | sort -r | while read -r point; do umount "$point"; done
[ "$(stat -f -c %T /sys/fs/cgroup)" = tmpfs ] && umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Until who started this has left the group, which becomes systemd's root.
alone() {
  count=0
  while read -r _; do count=$((count + 1)); done </sys/fs/cgroup/cgroup.procs
  [ "$count" -eq 1 ]
}
until alone; do sleep 0.05; done
mount --bind "$directory" "$directory"
awk '{ print $2 }' /proc/self/mounts | while read -r point; do
  case $point in
  "$directory" | /sys/fs/cgroup) ;;
  # One whose place is gone cannot be reached.
  *) mount -o remount,bind,ro "$point" || [ ! -e "$point" ] ;;
  esac
done
mount -t proc -o nosuid,nodev,noexec proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/dbus
export container=gantry-test SYSTEMD_UNIT_PATH="$directory/units:/run/systemd/system.control:/run/systemd/transient"
export SYSTEMD_GENERATOR_PATH="$directory/none" SYSTEMD_ENVIRONMENT_GENERATOR_PATH="$directory/none"
exec /lib/systemd/systemd --system --unit=test.target --log-target=null --show-status=no
