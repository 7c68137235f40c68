#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 240
# needs: kernels
#
# A real guest with every device busy, while the host swaps its disks' files, changes every limit, pauses and resumes at random
# (patches.py): nothing is lost, nothing stands still afterwards, no descriptor is left.
#
#     tests/lab/test_patch.sh            all
#     tests/lab/test_patch.sh NAME...    those named; --list lists them
#
# Uses /dev/kvm where `mayfly doctor` finds it faithful (as root: it makes a tap with 10.99.0.1/24), otherwise one lab for all.
# KERNEL_DEFAULT names another kernel, VMM another monitor, SECONDS_EACH (10) and SEED (1) another load.
set -u
cd "$(dirname "$0")/../.." || exit 1

suite=patch
. tests/lab/guest_lib.sh

# On the machine that calls.
prepare() {
	prepare_kernels KERNEL_DEFAULT
	export GUEST_INITRD SECONDS_EACH SEED
	SECONDS_EACH=${SECONDS_EACH:-10} SEED=${SEED:-1}
	GUEST_INITRD=$(tests/images/mkroot.sh --initrd --program socat --file $here/patch_guest.sh:/bin/patch-guest) ||
		setup_failed 'tests/images/mkroot.sh failed, see above'
}

patches() { # ENGINE
	ip -force -batch - 2>/dev/null <<-'END'
		tuntap add dev mft0 mode tap
		link set dev mft0 up
		addr add 10.99.0.1/24 dev mft0
	END
	TMPDIR=$dir VMM=$vmm python3 $here/patches.py "$1" "$SECONDS_EACH" >"$dir/said" 2>&1 || failure+="
$(sed 's/^/    /' "$dir/said")"
	ip link del mft0
}
test_sync() { patches Sync; }
test_async() { patches Async; }

names=$(declare -F | sed -n 's/^declare -f test_//p')
case ${1:-} in
--list) echo "$names"; exit 0 ;;
--inside) shift; run_tests "$@"; exit $? ;;
esac
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- $names
prepare
run_here_or_in_lab 200 3072 "$@"
