#!/bin/busybox sh
# shellcheck shell=dash
# First program of the emulated box: loads what a virtual machine needs, mounts the disk as the TV
# boxes mount theirs, and gives over to the real init. `box.debian` on the kernel's command line:
# Debian on the disk with its systemd; else busybox' init here in memory, and the disk is /var/lib.
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox --install -s

# box.pause: says so on the tests' port and waits for one line of shell. The tests keep the state of the box
# here, when no driver has looked at the disk, and later boxes go on from here.
pause() {
    # For a moment it is there and cannot be opened.
    until [ -c /dev/vport0p1 ] && (: <>/dev/vport0p1) 2>/dev/null; do
        sleep 0.1
    done
    exec 3<>/dev/vport0p1
    printf '\036paused\n' >&3
    read -r line <&3
    eval "$line"
    exec 3>&-
}

while read -r module; do
    if [ "$module" = virtio_blk ] && grep -q box.pause /proc/cmdline; then
        pause
    fi
    insmod "/modules/$module.ko"
done </modules/order

options=data=writeback,commit=120,errors=remount-ro
case $(cat /proc/cmdline) in
    *box.debian*)
        mount -t ext4 -o "$options" /dev/vda /mnt
        for mounted in proc sys dev; do
            mount --move "/$mounted" "/mnt/$mounted"
        done
        exec switch_root /mnt /sbin/init
        ;;
esac

mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs run /run
mount -t ext4 -o "$options" /dev/vda /var/lib
ip link set lo up
ip link set eth0 up
# No route to anywhere but the machine that emulates this one.
ip address add 10.0.2.15/24 dev eth0
exec /bin/busybox init
