#!/bin/busybox sh
# The first program of the virtual machine: finds the disks and hands over to guest.sh, which is on the project's.
busybox=/bin/busybox
$busybox mount -t devtmpfs none /dev
while read -r module; do $busybox insmod "/modules/$module"; done </modules/list
tries=0
until [ -b /dev/vdc ] || [ "$tries" = 200 ]; do $busybox sleep 0.05; tries=$((tries + 1)); done
$busybox mount -t ext4 -o noatime /dev/vda /root &&
  $busybox mount -t ext4 -o noatime /dev/vdb /root/gantry &&
  $busybox mount -t ext4 -o noatime /dev/vdc /root/gantry/node_modules &&
  $busybox mount --move /dev /root/dev &&
  exec $busybox switch_root /root /bin/sh /gantry/test/vm/guest.sh
echo 'the disks cannot be mounted'
$busybox reboot -f
