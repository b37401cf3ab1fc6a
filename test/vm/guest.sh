#!/bin/sh
# Process 1 of the virtual machine: mounts what an init system mounts, runs /gantry/command, tells its exit status on the
# third serial port, and ends the machine. The second port carries the output of the command.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t securityfs securityfs /sys/kernel/security
mount -t bpf bpf /sys/fs/bpf
mount -t tmpfs -o mode=755 tmpfs /run
chmod 1777 /tmp
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
# As a service: not in the root group, which can be neither limited nor frozen.
mkdir /sys/fs/cgroup/service
echo 1 >/sys/fs/cgroup/service/cgroup.procs
modprobe fuse
# The policy of /etc/selinux.
grep -qw selinux=1 /proc/cmdline && load_policy -i
busybox ip link set lo up
busybox hostname vm

stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
cd /gantry || exit
export CI=1 NO_COLOR=1 TERM=dumb
setsid sh ./command </dev/null >/dev/ttyS1 2>&1
echo "$?" >/dev/ttyS2
sync
busybox reboot -f
