#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in a guest (busybox, with Debian's fio, e2fsprogs, util-linux): what the scripts of the disk tests begin with. Each finding is a
# line "bad: WHAT: expected X, got Y"; what the host waits for is a line "mark: TEXT". Programs of Debian that busybox has as well are
# called by their paths: its shell looks at its own first.
bad() { echo "bad: $1: expected $2, got $3"; }
equal() { [ "$2" = "$3" ] || bad "$1" "$2" "$3"; }
mark() { echo "mark: $*"; }
works() { # COMMAND...
	"$@" > /run/works 2>&1 || bad "$*" "status 0" "$? ($(tail -n 2 /run/works))"
}
fails() { # COMMAND...
	! "$@" > /run/works 2>&1 || bad "$*" "an error" "status 0"
}
md5() { md5sum "$@" | cut -d ' ' -f 1; }
forget_cache() { sync; echo 3 > /proc/sys/vm/drop_caches; }

# Wait until the text of @1 is @2: sysfs tells sizes.
await_value() { # FILE VALUE
	n=0
	until [ "$(cat "$1" 2> /dev/null)" = "$2" ]; do
		n=$((n + 1))
		if [ $n -gt 600 ]; then bad "$1 within 30 s" "$2" "$(cat "$1" 2> /dev/null)"; return 1; fi
		usleep 50000
	done
}
sectors() { cat "/sys/class/block/$1/size"; }

# fio's job file for all of these disks at once. Each phase has a place of its own on the disk, is written, and read back with crc32c;
# the phases follow each other, the disks of a phase are written at the same time.
phase=
job() { # PHASE DEVICE OFFSET SIZE LINES...
	echo "[$1-$2]"
	[ "$1" = "$phase" ] || echo stonewall
	phase=$1
	echo "filename=/dev/$2"
	echo "offset=$3"
	echo "size=$4"
	shift 4
	printf '%s\n' "$@"
}
fio_jobs() { # DEVICE...: at least 8 MiB each
	printf '%s\n' '[global]' thread direct=1 ioengine=psync verify=crc32c verify_fatal=1 do_verify=1 randrepeat=1
	for d; do job sequential-4k "$d" 0 256k rw=write bs=4k; done
	for d; do job random-512 "$d" 262656 64k rw=randwrite bs=512; done
	for d; do job random-mixed "$d" 512k 1m rw=randwrite bsrange=512-160k; done
	for d; do job large-1536k "$d" 1536k 3m rw=write bs=1536k; done
	for d; do job depth-32 "$d" 5m 512k rw=randwrite bs=4k ioengine=libaio iodepth=32; done
	for d; do job depth-8-mixed "$d" 6m 1m rw=randwrite bsrange=512-64k ioengine=libaio iodepth=8; done
	for d; do job overwrite "$d" 7m 128k rw=randwrite bs=4k loops=2; done
	for d; do job cached "$d" 7424k 128k direct=0 rw=randwrite bs=2k fsync=16 end_fsync=1; done
}
run_fio() { # FILE WHAT
	fio --output=/run/fio.out "$1" > /run/fio.err 2>&1
	status=$?
	[ $status -eq 0 ] && ! grep -qi -e 'verify:' -e 'err= *[1-9]' /run/fio.out /run/fio.err || {
		bad "$2" "fio's status 0" $status
		grep -hi -e verify: -e error -e 'err= *[1-9]' /run/fio.out /run/fio.err | head -n 6
	}
}
go() { await_value /sys/class/block/vdc/size "$1"; } # N: until the host says so
