# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the benches' parts on this machine share: the stage, one lab for each setting of transparent huge pages, medians, lines.
#
# Use: set bench, runs, json; `. lib.sh`; bench_begin; fill $stage; write rows (NAME|THP|COMMAND) to $work/selected; bench_run.

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
top=${here%/tests/bench}
lab=$top/tests/lab/lab

fail() { echo "$bench: $*" >&2; exit 1; }

# $stage is what every lab copies to the tmpfs that its commands see as their root.
bench_begin() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	stage=$work/stage
	mkdir -p "$stage"
	: >"$work/about"
	write_in_lab
}

# Put the kernel at $2, which may be empty, or else the one of configuration $1 into the stage as $3. One that is not in
# the cache takes minutes to build.
stage_kernel() {
	local file=$2 rootfs=$top/build/mayfly-rootfs
	if [ -z "$file" ]; then
		[ -x "$rootfs" ] || fail "no kernel: build mayfly-rootfs (make), or give --kernel"
		file=$("$rootfs" kernel --config "$1" --print-path) || fail "mayfly-rootfs kernel --config $1 failed"
	fi
	cp "$file" "$stage/$3"
	echo "kernel:  $3 = $file" >>"$work/about"
}

# Compile the part in the lab and the guest's program $2, which becomes /init of an initrd.
stage_programs() {
	gcc -O2 -static -o "$stage/$1" "$here/$1.c" "$here/drive.c" "$here/counts.c"
	mkdir -p "$work/root/dev" "$work/root/sbin"
	case $2 in
	*.S) gcc -nostdlib -static -s -o "$work/root/init" "$here/$2" ;;
	*.c) gcc -O2 -static -s -o "$work/root/init" "$here/$2" ;;
	esac
	(cd "$work/root" && find . | LC_ALL=C sort | cpio -o -H newc --quiet) >"$stage/initrd"
}

# The commands of one lab: copies everything to tmpfs, with the programs that rows name by their full path, chroots there,
# and runs what stands in rows.
write_in_lab() {
	cat >"$work/in_lab.sh" <<'END'
set -e
stage=$1 rows=$2 root=/srv/bench
mkdir -p $root/dev $root/proc $root/run $root/tmp $root/var/tmp $root/tracing $root/usr/share/qemu
mount --bind /dev $root/dev
mount -t proc proc $root/proc
mount --bind /sys/kernel/tracing $root/tracing
cp "$stage"/* $root/
for program in $(grep -o '/usr/bin/[a-z0-9_.-]*' "$rows" | sort -u); do
	for file in $program $(ldd "$program" | grep -o '/[^ ]*'); do
		mkdir -p "$root${file%/*}"
		[ -e "$root$file" ] || cp "$file" "$root$file"
	done
done
if grep -q qemu "$rows"; then cp /usr/share/qemu/bios-microvm.bin /usr/share/qemu/qboot.rom $root/usr/share/qemu/; fi
cp "$rows" $root/rows
cd $root
while IFS='|' read -r name command <&3; do
	echo "row $name"
	eval "chroot $root $command" && echo "end $name" || echo "failed $name"
done 3<$root/rows
END
}

# "name value" lines of many runs -> "name|median|min|max"
medians() {
	sort -s -k1,1 -k2,2g | awk '
		function flush() {
			if (n > 0) printf "%s|%.9g|%.9g|%.9g\n", name, n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2, v[1], v[n]
			n = 0
		}
		$1 != name { flush(); name = $1 }
		{ v[++n] = $2 }
		END { flush() }'
}

show() { # row, figure, median, min, max
	if [ -n "$json" ]; then
		printf '{"bench":"%s","row":"%s","figure":"%s","median":%s,"min":%s,"max":%s,"runs":%s}\n' "$bench" "$1" "$2" "$3" "$4" "$5" "$runs"
	else
		printf '%-42s %-32s %10s   %s .. %s\n' "$1" "$2" "$3" "$4" "$5"
	fi
}

# Show one row, whose "name|median|min|max" lines come on standard input. A bench may have its own.
show_row() {
	local figure mid min max
	while IFS='|' read -r figure mid min max; do show "$1" "$figure" "$mid" "$min" "$max"; done
}

bench_about() {
	[ -z "$json" ] || return 0
	echo "machine: the lab (one emulated AMD CPU, one instruction = 1 ns) on $(uname -srm), $(nproc) CPUs, $(qemu-system-x86_64 --version | head -n 1)"
	echo "monitor: $monitor; $runs runs after warm-ups; median, smallest .. largest"
	cat "$work/about"
	echo
}

# Show the rows of a lab, whose output comes on standard input, as soon as each is complete.
show_rows() {
	local line name=
	while IFS= read -r line; do
		case $line in
		"row "*) name=${line#row }; : >"$work/lines" ;;
		"failed "*) echo "$bench: $name could not be measured" >&2; touch "$work/failed" ;;
		"end "*) medians <"$work/lines" >"$work/row"; show_row "$name" <"$work/row" ;;
		*) echo "$line" >>"$work/lines" ;;
		esac
	done
}

# Does this machine's own KVM boot Linux?
has_kvm() { [ "$EUID" -eq 0 ] && [ -x "$top/build/mayfly" ] && "$top/build/mayfly" doctor --quiet; }

# Measure and show the rows of $work/selected on this machine's own KVM: wall time. In namespaces of its own, so that no tap
# and no mount is left; the tmpfs lies where the lab has it.
bench_run_here() {
	awk -F'|' '{ print $1 "|" $3 }' "$work/selected" >"$work/rows"
	{
		BENCH_WALL=1 unshare --mount --net --fork --kill-child sh -c '
			mount -t tmpfs -o size=1G bench /srv && ip link set lo up || exit
			[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing || exit
			exec sh "$@"' sh "$work/in_lab.sh" "$stage" "$work/rows" || touch "$work/failed"
	} | show_rows
	[ ! -e "$work/failed" ]
}

# Measure and show the rows of $work/selected. Returns whether all could be measured.
bench_run() {
	local thp
	bench_about
	for thp in always madvise never; do
		awk -F'|' -v thp=$thp '$2 == thp { print $1 "|" $3 }' "$work/selected" >"$work/rows"
		[ -s "$work/rows" ] || continue
		{ "$lab" --icount --timeout 1800 --thp $thp -- sh "$work/in_lab.sh" "$stage" "$work/rows" || touch "$work/failed"; } | show_rows
	done
	[ ! -e "$work/failed" ]
}
