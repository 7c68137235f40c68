# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_guests.sh: the matrix of guests. Each boots, looks at itself from inside (guest_check.sh), resets itself through
# the keyboard controller; then its disks are looked at from outside.
#
# Columns: NAME KERNEL ROOT VCPUS MIB ACPI VIA MORE
#   KERNEL  deb61, deb612 (Debian's bzImage with its initrd), default (the shipped one, ELF with PVH note, no PCI),
#           default-nopvh (the same without the note, so the 64-bit boot protocol), default-bz (its bzImage),
#           minimal (no SMP, no ACPI), acpi-nopci (the shipped one with ACPI)
#   ROOT    ext4, partuuid (ext4 in a partition that the kernel finds by its id), initrd (nothing else)
#   ACPI    on, off (acpi=off: the MP table)
#   VIA     api, file: how the monitor is configured
#   MORE    smt: two threads to a core; fill=MIB: write and read so much memory; disks: three more disks;
#           thp: guest memory in transparent huge pages; noapic: on the command line, as firectl has it
# Every value of a column is in at least two rows. There are no rows for Debian with acpi=off: its virtio-mmio takes no devices from the
# command line, and it has no support for the MP table, without which it wants the PIT for its ticks (docs/design.md: there is none).
# Nor for acpi-nopci with a disk: Linux's ACPI gives up without PCI (vmm/acpi.h), and that kernel takes no devices from the command line.
matrix() {
	cat <<-'END'
	deb61-ext4          deb61         ext4     1 128  on  api  disks
	deb61-smp           deb61         ext4     2 4096 on  file
	deb612-ext4         deb612        ext4     4 4096 on  api  smt fill=300
	deb612-initrd       deb612        initrd   2 128  on  file
	shipped-ext4        default       ext4     1 128  on  api  disks fill=all
	shipped-big         default       ext4     2 4096 on  file thp fill=all
	deb612-noapic       deb612        ext4     2 128  on  api  noapic
	deb612-noacpi       deb612        initrd   1 128  off file
	shipped-noapic      default       ext4     2 128  on  file noapic
	shipped-noacpi      default       initrd   4 128  off file smt
	shipped-partuuid    default       partuuid 4 4096 off api
	nopci-initrd        acpi-nopci    initrd   2 128  on  file
	nopci-smp           acpi-nopci    initrd   4 4096 on  api
	nopvh-partuuid      default-nopvh partuuid 2 128  on  file disks
	nopvh-initrd        default-nopvh initrd   1 4096 off api
	bzimage-ext4        default-bz    ext4     2 128  on  file
	bzimage-initrd      default-bz    initrd   4 128  on  api
	minimal-ext4        minimal       ext4     1 128  off api  disks
	minimal-initrd      minimal       initrd   1 4096 off file
	END
}
all_combinations() { matrix | awk '{ print $1 }'; }

# Copy the ELF image @1 to @2 with the type of its PVH note changed, as a kernel without CONFIG_PVH looks to a boot loader.
without_pvh() { # FROM TO
	local off
	cp "$1" "$2"
	# namesz 4, descsz 4 or 8, type 18, "Xen"
	off=$(LC_ALL=C grep -obUaP '\x04\0\0\0[\x04\x08]\0\0\0\x12\0\0\0Xen\0' "$1" | head -n 1 | tr -d '\0')
	[ -n "$off" ] || return 1
	printf '\177' | dd of="$2" bs=1 seek=$((${off%%:*} + 8)) conv=notrunc status=none
}

# Put the file system @1 into a disk @2 with an MBR: signature 4d61794d, one Linux partition from sector 2048 on.
partitioned() { # FROM TO
	local sectors
	sectors=$(($(stat -L -c %s "$1") / 512))
	dd if="$1" of="$2" bs=1M seek=1 conv=sparse status=none
	# shellcheck disable=SC2059
	{
		printf '\x4d\x79\x61\x4d\0\0'                                         # at 440
		printf '\0\0\0\0\x83\0\0\0\0\x08\0\0'                                 # first partition: type, first sector
		printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $((sectors & 255)) $((sectors >> 8 & 255)) \
			$((sectors >> 16 & 255)) $((sectors >> 24)))"
		head -c 48 /dev/zero
		printf '\x55\xaa'
	} | dd of="$2" bs=1 seek=440 conv=notrunc status=none
}
partuuid=4d61794d-01

the_kernel() { # KIND
	case $1 in
	deb61) image=$KERNEL_DEB61/bzImage initrd=$KERNEL_DEB61/initrd ;;
	deb612) image=$KERNEL_DEB612/bzImage initrd=$KERNEL_DEB612/initrd ;;
	default) image=$KERNEL_DEFAULT ;;
	default-bz) image=$KERNEL_DEFAULT_BZIMAGE ;;
	default-nopvh)
		image=$tmp/vmlinux-nopvh
		[ -s "$image" ] || without_pvh "$KERNEL_DEFAULT" "$image" || failure+="
    $KERNEL_DEFAULT: expected a PVH note, got none"
		;;
	minimal) image=$KERNEL_MINIMAL ;;
	acpi-nopci) image=$KERNEL_ACPI_NOPCI ;;
	esac
}

# Adds to args, drives and check what the root needs.
the_root() { # KIND KERNEL
	case $1 in
	ext4)
		cp --sparse=always "$GUEST_ROOT" "$dir/root"
		drive root "$dir/root" true false
		check+=(root=/dev/vda)
		;;
	partuuid)
		partitioned "$GUEST_ROOT" "$dir/root"
		drive root "$dir/root" true false ", \"partuuid\": \"$partuuid\""
		check+=(root=/dev/vda1)
		;;
	initrd)
		if [ -n "$initrd" ]; then # the one with modules is laid over ours: the kernel unpacks them in turn
			cat "$GUEST_INITRD" "$initrd" >"$dir/initrd"
			initrd=$dir/initrd
			args+=' mayfly.init=/sbin/init'
		else
			initrd=$GUEST_INITRD
		fi
		;;
	esac
}

# Three more disks: a read-only one; one of 513 sectors; one that ends within a sector and within a page.
more_disks() {
	seq 1 100000 | head -c 131072 >"$dir/reader"
	seq 1 100000 | head -c $((513 * 512)) >"$dir/sectors"
	seq 1 100000 | head -c $((1025 * 512 + 100)) >"$dir/ragged"
	before=$(md5sum <"$dir/reader"; head -c $((512 * 512)) "$dir/sectors" | md5sum; head -c $((1024 * 512)) "$dir/ragged" | md5sum
		tail -c 100 "$dir/ragged" | md5sum)
	drive reader "$dir/reader" false true
	drive sectors "$dir/sectors" false false
	drive ragged "$dir/ragged" false false ', "cache_type": "Writeback"'
	check+=("reader=/dev/vdb:$(md5sum "$dir/reader" | cut -d ' ' -f 1)" sectors=/dev/vdc:513 sectors=/dev/vdd:1025)
}
more_disks_after() {
	expect 'what the guest had no business to change' "$before" \
		"$(md5sum <"$dir/reader"; head -c $((512 * 512)) "$dir/sectors" | md5sum; head -c $((1024 * 512)) "$dir/ragged" | md5sum
		tail -c 100 "$dir/ragged" | md5sum)"
	local last
	last=$(yes last | head -c 512 | md5sum)
	expect 'last sectors' "$last $last" "$(tail -c 512 "$dir/sectors" | md5sum) $(tail -c 612 "$dir/ragged" | head -c 512 | md5sum)"
	expect 'sizes' '262656 524900' "$(stat -c %s "$dir/sectors" "$dir/ragged" | tr '\n' ' ' | sed 's/ $//')"
}

# The root as the guest left it: in order, and /data is what it wrote.
root_after() { # KIND
	local fs=$dir/root
	if [ "$1" = partuuid ]; then
		fs=$dir/fs
		dd if="$dir/root" of="$fs" bs=1M skip=1 conv=sparse status=none
	fi
	e2fsck -fn "$fs" >"$dir/e2fsck" 2>&1 || failure+="
    e2fsck of the root: expected a clean file system, got:
$(tail -n 5 "$dir/e2fsck" | sed 's/^/        /')"
	expect '/data on the disk' "$(seq 1 200000 | head -c 1048576 | md5sum)" "$(debugfs -R 'cat /data' "$fs" 2>/dev/null | md5sum)"
}

run_combination() { # NAME
	local row kernel root acpi via more word n found check=() before='' files
	read -r _ kernel root vcpus mem acpi via more < <(matrix | grep "^$1 ")
	if [ -z "${kernel:-}" ]; then failure=' there is no such test'; return; fi
	args='console=ttyS0 quiet reboot=k panic=1'
	the_kernel "$kernel"
	the_root "$root"
	for word in $more; do
		case $word in
		smt) smt=true ;;
		thp) huge=Transparent ;;
		fill=*) check+=("$word") ;;
		disks) more_disks ;;
		noapic) args+=' noapic' ;;
		esac
	done
	if [ $smt = true ]; then check+=("cpus-smt=$vcpus"); else check+=("cpus=$vcpus"); fi
	check+=("mem=$mem" clock=kvm-clock)
	[ "$mem" -le 3072 ] || check+=("high=$mem")
	n=${#drives[@]}
	found=0_by_ACPI,_${n}_by_words
	case $kernel in deb*) found=${n}_by_ACPI,_0_by_words ;; esac
	check+=("found=$found")
	[ "$acpi" = on ] || [ "$kernel" = minimal ] || args+=' acpi=off'
	args+=" -- guest-check ${check[*]}"

	if [ "$via" = api ]; then
		start_by_api
	else
		start_by_file
	fi
	files=$(cd "$dir" && echo *)
	[ -z "$failure" ] && await_end 90 || return
	expect 'exit status' 0 "$status"
	nothing_left "${files/ sock/}"
	expect_in 'log' 'The guest asked for a reset.' "$dir/log"
	expect_in 'log' 'exiting successfully. exit_code=0' "$dir/log"
	failure+=$(tr -d '\r' <"$dir/out" | sed -n 's/^bad: /    in the guest: /p' | sed '1s/^/\n/')
	expect_in 'console' 'guest-check: done' "$dir/out"
	if [ "$mem" -gt 3072 ] && [[ $more == *fill=* ]]; then
		n=$(sed -n 's/^guest-mem: .*, \([0-9]*\) MiB of it from 4 GiB on.*/\1/p' "$dir/out")
		[ "${n:-0}" -ge 200 ] || expect 'memory filled from 4 GiB on' 'at least 200 MiB' "${n:-0} MiB"
	fi
	case $more in *disks*) more_disks_after ;; esac
	[ "$root" = initrd ] || root_after "$root"
}
