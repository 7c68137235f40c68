#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# PID 1 of the small test image: mounts what every Linux has, runs one command, prints its exit status, resets the machine.
#
# The command, first that is given:
#   words behind `--` on the kernel command line       ... -- uname -a
#   mayfly.cmd="TEXT", run by sh -c                     mayfly.cmd="mount; cat /proc/uptime"
#   mayfly.script=DEVICE, a block device that holds a shell script, padded with newlines or NUL bytes
#   none: an interactive shell on the console
# mayfly.keep on the command line: stay up after the command (until the monitor stops the machine).
#
# What it prints itself starts with "mayfly-init: "; the last line is "mayfly-init: exit STATUS".
export PATH=/sbin:/usr/sbin:/bin:/usr/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev ' /proc/mounts || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
hostname mayfly
ip link set lo up 2> /dev/null

read -r cmdline < /proc/cmdline
text=$(echo "$cmdline" | sed -n -e 's/.*mayfly\.cmd="\([^"]*\)".*/\1/p' -e t -e 's/.*"mayfly\.cmd=\([^"]*\)".*/\1/p' -e t \
	-e 's/.*mayfly\.cmd=\([^ ]*\).*/\1/p')
device=$(echo "$cmdline" | sed -n 's/.*mayfly\.script=\([^ ]*\).*/\1/p')

echo "mayfly-init: start"
if [ $# -gt 0 ]; then
	"$@"
elif [ -n "$text" ]; then
	sh -c "$text"
elif [ -n "$device" ]; then
	tr -d '\000' < "$device" > /run/script
	sh /run/script
else
	setsid cttyhack sh -l
fi
status=$?
echo "mayfly-init: exit $status"
sync
case " $cmdline " in *" mayfly.keep "*) while :; do sleep 3600; done ;; esac
reboot -f
