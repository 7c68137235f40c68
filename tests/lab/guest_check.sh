#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in a guest (busybox) as /bin/guest-check: looks at the machine from inside and says what is not as it should be.
#
#     guest-check WORD...       each word one thing to check, see the cases below
#
# Each finding is a line "bad: WHAT: expected X, got Y". The last line is always "guest-check: done".
bad() { echo "bad: $1: expected $2, got $3"; }
equal() { [ "$2" = "$3" ] || bad "$1" "$2" "$3"; }

values() { sed -n "s/^$1[[:space:]]*: //p" /proc/cpuinfo; }
distinct() { sort -u | wc -l; }

check_cpus() { # N THREADS: N vCPUs, all online, THREADS to a core
	local cpu
	equal "nproc" "$1" "$(nproc)"
	equal "processors in /proc/cpuinfo" "$1" "$(values processor | wc -l)"
	# A kernel without SMP says nothing of cores.
	if [ -e /sys/devices/system/cpu/cpu0/topology/core_id ] && [ "$(values 'cpu cores' | wc -l)" -gt 0 ]; then
		equal "APIC ids" "$1" "$(values apicid | distinct)"
		equal "packages" 1 "$(values 'physical id' | distinct)"
		equal "cores" $(($1 / $2)) "$(values 'core id' | distinct)"
		equal "cpu cores" $(($1 / $2)) "$(values 'cpu cores' | sort -u)"
		equal "siblings" "$1" "$(values siblings | sort -u)"
		if [ "$2" -eq 2 ]; then
			equal "threads of core 0" 0-1 "$(cat /sys/devices/system/cpu/cpu0/topology/thread_siblings_list)"
		fi
	fi
	cpu=0
	while [ $cpu -lt "$1" ]; do # each really runs
		equal "a process on CPU $cpu" $cpu "$(taskset -c $cpu awk '{ print $39 }' /proc/self/stat 2> /dev/null)"
		cpu=$((cpu + 1))
	done
}

check_mem() { # MIB
	local total kib
	# All RAM but the hole below 1 MiB is in the map...
	total=0
	while read -r range _ name; do
		[ "$name" = "System RAM" ] || continue
		total=$((total + 0x${range#*-} - 0x${range%-*} + 1))
	done < /proc/iomem
	[ $((($1 << 20) - total)) -ge 0 ] && [ $((($1 << 20) - total)) -le 1048576 ] ||
		bad "RAM in /proc/iomem" "$1 MiB less at most 1" "$total bytes"
	# ... and Linux uses it: what is missing are its image, page structs and reserves.
	kib=$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)
	[ "$kib" -ge $(($1 * 1024 * 94 / 100 - 40960)) ] || bad MemTotal "over $(($1 * 94 / 100 - 40)) MiB" "$kib KiB"
}

check_high() { # MIB, the memory's size: the RAM behind the 32-bit gap begins at 4 GiB and is all there
	local want
	want=$(printf '100000000-%x : System RAM' $((0x100000000 + (($1 - 3072) << 20) - 1)))
	grep -qx "$want" /proc/iomem || bad "RAM behind the gap" "$want" "$(grep 'System RAM' /proc/iomem | tail -n 1)"
}

# How the kernel found its virtio devices.
found_by() {
	local acpi words
	acpi=$(ls -d /sys/bus/platform/drivers/virtio-mmio/LNRO0005:* 2> /dev/null | wc -l)
	words=$(ls -d /sys/bus/platform/drivers/virtio-mmio/virtio-mmio.* 2> /dev/null | wc -l)
	echo "$acpi by ACPI, $words by words"
}

pattern() { seq 1 200000 | head -c 1048576; }
forget_cache() { sync; echo 3 > /proc/sys/vm/drop_caches; }
sum() { md5sum "$1" 2> /dev/null | cut -d ' ' -f 1; }

check_root() { # DEVICE: what is written is what is read back, from the disk and not from the cache
	grep -q " / ext4 rw" /proc/mounts || bad "root" "ext4, rw" "$(grep ' / ' /proc/mounts | tail -n 1)"
	[ -b "$1" ] || bad "root device" "$1" none
	equal "device of /" "$(printf '%d' "0x$(stat -c '%t' "$1")"):$(printf '%d' "0x$(stat -c '%T' "$1")")" "$(($(stat -c %d /) / 256)):$(($(stat -c %d /) % 256))"
	pattern > /data
	forget_cache
	equal "/data read back" "$(pattern | md5sum | cut -d ' ' -f 1)" "$(sum /data)"
}

check_reader() { # DEVICE:MD5: a read-only disk
	local dev=${1%:*}
	forget_cache
	equal "contents of $dev" "${1#*:}" "$(sum "$dev")"
	equal "$dev is read-only" 1 "$(cat "/sys/class/block/${dev#/dev/}/ro")"
	if echo x 2> /dev/null | dd of="$dev" conv=notrunc,fsync bs=512 2> /dev/null; then bad "a write to $dev" refused done; fi
}

check_sectors() { # DEVICE:N: N sectors of 512 bytes, the last of which can be written
	local dev=${1%:*} n=${1#*:}
	equal "sectors of $dev" "$n" "$(cat "/sys/class/block/${dev#/dev/}/size")"
	yes last | dd of="$dev" bs=512 count=1 seek=$((n - 1)) iflag=fullblock conv=notrunc,fsync 2> /dev/null ||
		bad "a write to the last sector of $dev" done refused
	forget_cache
	equal "last sector of $dev" "$(yes last | head -c 512 | md5sum)" "$(dd if="$dev" bs=512 skip=$((n - 1)) 2> /dev/null | md5sum)"
}

# Kernel messages of a warning's importance or more that are known and harmless: extended regular expressions, each with its reason.
known_messages() {
	cat <<-'END'
	^Speculative Return Stack Overflow:                                 the lab's processor has no microcode updates
	^PCI: Fatal: No config space access function found                  there is no PCI
	^PCI: System does not support PCI                                   there is no PCI
	^ACPI BIOS Error .bug.: A valid RSDP was not found                  ACPI without PCI never starts (vmm/acpi.h): no tables
	^i8042: PNP: PS/2 appears to have AUX port disabled                 there is no mouse
	^rtc_cmos rtc_cmos: only 24-hr supported                            acpi=off: Linux assumes a CMOS clock, and there is none
	^rtc_cmos: only 24-hr supported                                     the same
	.*MPS support code is not built-in                                    acpi=off in a kernel without an MP table parser
	^ACPI: setting ELCR to                                              noapic: Linux makes the ACPI interrupt level-triggered
	PMU not available due to virtualization                             the lab gives no performance counters
	^hrtimer: interrupt took                                            the host is slow
	^clocksource: Long readout interval, skipping watchdog check        the host is slow
	END
}

# The messages without what QEMU's emulator is to blame for: it does not tell KVM that a guest sets XCR0, so CPUID leaf 0xd keeps the size
# of the reset state, and Linux warns of it in several lines. (The same in QEMU's own microvm in the lab.)
without_xsave_report() {
	awk '/------------\[ cut here/ { held = $0; next }
		held != "" { held = held "\n" $0
			if (/---\[ end trace/) { if (held !~ /XSAVE consistency problem/) print held; held = "" }
			next }
		/CPUID\[0d, / { next }
		{ print }
		END { if (held != "") print held }'
}
check_messages() {
	known_messages | sed 's/\t\t*.*//; s/  .*//' > /run/known
	dmesg -r | without_xsave_report > /run/messages
	{
		grep '^<[0-4]>' /run/messages
		grep '^<[5-7]>' /run/messages | grep -E 'BUG:|WARNING:|ACPI (BIOS )?(Error|Exception)|hung task|[Uu]nhandled|Oops'
	} | sed 's/^<.>\(\[[^]]*\] *\)*//' | grep -vEf /run/known | head -n 12 | while IFS= read -r line; do
		bad "kernel messages" "nothing to complain of" "$line"
	done
}

[ -w /run ] || mount -t tmpfs tmpfs /run
for word; do
	value=${word#*=}
	case $word in
	cpus=*) check_cpus "$value" 1 ;;
	cpus-smt=*) check_cpus "$value" 2 ;;
	mem=*) check_mem "$value" ;;
	high=*) check_high "$value" ;;
	fill=*) guest-mem "$value" ;;
	found=*) equal "devices found" "$(echo "$value" | tr _ ' ')" "$(found_by)" ;;
	root=*) check_root "$value" ;;
	reader=*) check_reader "$value" ;;
	sectors=*) check_sectors "$value" ;;
	clock=*) equal "clock source" "$value" "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" ;;
	*) bad "guest-check" "a word it knows" "$word" ;;
	esac
done
check_messages
sync
! grep -q ' / ext4 rw' /proc/mounts || mount -o remount,ro / || bad "the file system" "can be made read-only" "an error"
echo "guest-check: done"
