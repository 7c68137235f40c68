#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
#
# The /init of the initrd for a stock distribution kernel: load the virtio modules, then hand over to the real root.
#
# Kernel command line:  root=/dev/vda|LABEL=...|UUID=...  rootfstype=  rootflags=  ro|rw  init=/sbin/init
# root=PARTUUID= needs a kernel with the drivers built in (mayfly-rootfs kernel); it is refused here with that advice.
# Without root= the system stays in this initrd: mayfly.init=PATH is run there, else an interactive shell.
export PATH=/bin
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs devtmpfs /dev

say() { $b echo "mayfly initrd: $*" > /dev/console; }

while read -r module; do
	$b insmod "/modules/$module.ko" 2> /tmp/insmod.err || say "loading $module failed: $($b cat /tmp/insmod.err)"
done < /modules/order

root= type= flags= mode=ro init=/sbin/init own=
read -r cmdline < /proc/cmdline
for word in $cmdline; do
	case $word in
	root=*) root=${word#root=} ;;
	rootfstype=*) type=${word#rootfstype=} ;;
	rootflags=*) flags=${word#rootflags=} ;;
	init=*) init=${word#init=} ;;
	mayfly.init=*) own=${word#mayfly.init=} ;;
	ro|rw) mode=$word ;;
	esac
done

if [ -z "$root" ]; then
	if [ -n "$own" ]; then
		exec "$own" "$@"
	fi
	say "no root= on the command line; this is a shell in the initrd"
	exec $b setsid $b cttyhack $b sh
fi

# The device a root= value means, printed; nothing when it is not there.
device_of() {
	case $1 in
	LABEL=*|UUID=*) $b findfs "$1" 2> /dev/null ;;
	*) [ -b "$1" ] && $b echo "$1" ;;
	esac
}

case $root in
PARTUUID=*)
	say "root=$root can't be found by this initrd: name the device (/dev/vda1) or use the kernel of 'mayfly-rootfs kernel'"
	$b reboot -f ;;
esac
tries=0
until device=$(device_of "$root") && [ -n "$device" ]; do
	tries=$((tries + 1))
	if [ $tries -gt 100 ]; then
		say "root=$root did not appear within 5 s; block devices: $($b ls /sys/class/block | $b tr '\n' ' ')"
		$b reboot -f
	fi
	$b usleep 50000
done

options=$mode${flags:+,$flags}
mounted=
for type in ${type:-ext4 erofs squashfs}; do
	$b mount -t "$type" -o "$options" "$device" /root 2> /tmp/mount.err && mounted=y && break
done
if [ -z "$mounted" ]; then
	say "mounting $device failed: $($b cat /tmp/mount.err)"
	$b reboot -f
fi
for dir in proc sys dev; do
	[ -d /root/$dir ] && $b mount -o move /$dir /root/$dir
done
exec $b switch_root -c /dev/console /root "$init" "$@"
