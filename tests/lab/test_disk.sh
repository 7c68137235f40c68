#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 900
# needs: kernels
#
# Disks of real, unmodified Linux guests: every engine, cache type and kind of disk under fio with verify (disk_verify.sh), what
# happens to a disk while it runs (disk_life.sh), and what is left when the monitor is killed (disk_crash.sh).
#
#     tests/lab/test_disk.sh            all
#     tests/lab/test_disk.sh NAME...    those named; --list lists them
#
# As test_guests.sh: /dev/kvm where it is faithful, otherwise one lab for all; KEEP=DIR keeps what guests printed. Needs root, for loop
# devices and the device mapper.
set -u
cd "$(dirname "$0")/../.." || exit 1

suite=disk
. tests/lab/guest_lib.sh
. $here/guests_matrix.sh # partitioned
. $here/disk_verify.sh
. $here/disk_life.sh
. $here/disk_crash.sh

# On the machine that calls.
prepare() {
	prepare_kernels KERNEL_DEFAULT KERNEL_DEB612
	local records p programs=()
	records=$(guest_program disk_records) || setup_failed "building $here/disk_records.c failed, see above"
	for p in fio e2fsck mkfs.ext4 blkdiscard fstrim; do programs+=(--program "$p"); done
	export GUEST_TOOLS
	GUEST_TOOLS=$(tests/images/mkroot.sh "${programs[@]}" --file "$records:/bin/disk-records" --file "$here/disk_lib.sh:/bin/disk-lib") ||
		setup_failed 'tests/images/mkroot.sh failed, see above'
}

# ---- In the lab ------------------------------------------------------------------------------------------------------
# A guest of @1 (tuned: the shipped kernel; debian: stock 6.12) that runs the script on standard input, from its root that nobody can
# write. Its other disks begin with vdc.
disk_guest() { # KERNEL
	case $1 in
	tuned) image=$KERNEL_DEFAULT initrd= ;;
	debian) image=$KERNEL_DEB612/bzImage initrd=$KERNEL_DEB612/initrd ;;
	esac
	mem=256
	args='console=ttyS0 quiet loglevel=4 reboot=k panic=1 mayfly.script=/dev/vdb'
	{ echo '. /bin/disk-lib'; cat; head -c 512 /dev/zero | tr '\0' '\n'; } >"$dir/script"
	drives=()
	drive root "$GUEST_TOOLS" true true
	drive script "$dir/script" false true
}
# One more disk; @5 is the path of the delta, or nothing.
disk() { # ID PATH ENGINE CACHE DELTA [MORE]
	drive "$1" "$2" false false ", \"io_engine\": \"$3\", \"cache_type\": \"$4\"${5:+, \"delta_path\": \"$5\"}${6:-}"
}
# The guest ends by itself, without a finding.
guest_ends() { # SECONDS
	[ -z "$failure" ] || return
	await_end "$1"
	expect 'exit status' 0 "$status"
	findings
}
findings() {
	local found
	found=$(tr -d '\r' <"$dir/out" | grep -a -A 6 '^bad: ' | head -n 20)
	[ -z "$found" ] || failure+="
    in the guest:
$(sed 's/^/        /' <<<"$found")"
	expect_in console 'mayfly-init: exit 0' "$dir/out"
}
told() { tr -d '\r' <"$dir/out" | sed -n "s|^mark: $1 ||p" | tail -n 1; } # WORD: the rest of the last such mark
hash_of() { local sum; read -r sum _ < <(md5sum "$@"); echo "$sum"; }
text_file() { seq "$3" $(($3 + $2 * 200000)) | head -c "$2M" >"$1"; } # PATH MIB FIRST: @2 MiB of text

# A file system of its own that can punch holes and has a journal, and loop devices. Both go with the test.
undo=()
ext4_dir() { # DIR MIB
	mkdir -p "$1"
	truncate -s "$2M" "$1.img"
	mkfs.ext4 -q -E lazy_itable_init=0,lazy_journal_init=0 "$1.img" && mount -o loop "$1.img" "$1" || failure+="
    host: expected an ext4 at $1, got none"
	undo=("umount $1" "${undo[@]}")
}
loop_device() { # FILE: sets `loop`
	loop=$(losetup -f --show "$1")
	undo=("losetup -d $loop" "${undo[@]}")
}
dm_device() { # NAME TABLE: /dev/mapper/NAME; there is no udev in the lab
	dmsetup create --noudevsync "$1" --table "$2" && dmsetup mknodes "$1" || failure+="
    host: expected a device /dev/mapper/$1, got none"
	undo=("dmsetup remove --noudevsync $1" "${undo[@]}")
}
clean_up() {
	local u
	for u in "${undo[@]}"; do $u || failure+="
    host: '$u' failed"; done
	undo=()
}

names=$(declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside)
	shift
	for m in loop dm-delay; do modprobe $m 2>/dev/null; done # while nothing runs (README.md, traps)
	run_tests "$@"
	exit
	;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
run_here_or_in_lab 880 4096 "$@"
