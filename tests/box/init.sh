#!/bin/busybox sh
# shellcheck shell=dash
# First program of the emulated box: loads what a virtual machine needs, mounts the disk as the TV
# boxes mount theirs, and gives over to the real init. `box.debian` on the kernel's command line:
# Debian on the disk with its systemd; else busybox' init here in memory, and the disk is /var/lib.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do
    /bin/busybox insmod "/modules/$module.ko"
done </modules/order

options=data=writeback,commit=120,errors=remount-ro
case $(/bin/busybox cat /proc/cmdline) in
    *box.debian*)
        /bin/busybox mount -t ext4 -o "$options" /dev/vda /mnt
        for mounted in proc sys dev; do
            /bin/busybox mount --move "/$mounted" "/mnt/$mounted"
        done
        exec /bin/busybox switch_root /mnt /sbin/init
        ;;
esac

/bin/busybox --install -s
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mount -t ext4 -o "$options" /dev/vda /var/lib
ip link set lo up
ip link set eth0 up
# No route to anywhere but the machine that emulates this one.
ip address add 10.0.2.15/24 dev eth0
exec /bin/busybox init
