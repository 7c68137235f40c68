#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 900
#
# Real, unmodified Linux guests in the real monitor: a matrix of kernels, root devices, vCPUs, memory sizes and ways to find
# devices (guests_matrix.sh), and how a microVM begins, pauses, idles and ends (guests_life.sh).
#
#     tests/lab/test_guests.sh            all
#     tests/lab/test_guests.sh NAME...    those named; --list lists them
#
# Uses /dev/kvm where `mayfly doctor` finds it faithful, otherwise one lab for all. Kernels come from `mayfly-rootfs kernel`
# (minutes the first time); KERNEL_DEFAULT, KERNEL_DEFAULT_BZIMAGE, KERNEL_MINIMAL, KERNEL_ACPI_NOPCI, KERNEL_DEB61 and KERNEL_DEB612 (the
# last two are directories with bzImage and initrd) name others instead. KEEP=DIR, in the lab a directory given with `lab --share`, keeps
# what the guests printed.
# Each test is a line "ok NAME" or "not ok NAME", the latter with what was expected and what came.
set -u
cd "$(dirname "$0")/../.." || exit 1

suite=guests
. tests/lab/guest_lib.sh
. $here/guests_matrix.sh
. $here/guests_life.sh

# On the machine that calls.
prepare() {
	prepare_kernels KERNEL_DEFAULT KERNEL_DEFAULT_BZIMAGE KERNEL_MINIMAL KERNEL_ACPI_NOPCI KERNEL_DEB61 KERNEL_DEB612
	local files guest_mem
	guest_mem=$(guest_program guest_mem) || setup_failed "building $here/guest_mem.c failed, see above"
	files=(--file "$guest_mem:/bin/guest-mem" --file "$here/guest_check.sh:/bin/guest-check")
	export GUEST_ROOT GUEST_INITRD
	GUEST_ROOT=$(tests/images/mkroot.sh --ext4 "${files[@]}") || setup_failed 'tests/images/mkroot.sh --ext4 failed, see above'
	GUEST_INITRD=$(tests/images/mkroot.sh --initrd "${files[@]}") || setup_failed 'tests/images/mkroot.sh --initrd failed, see above'
}

names=$(all_combinations; declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside) shift; run_tests "$@"; exit ;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
run_here_or_in_lab 880 6144 "$@"
