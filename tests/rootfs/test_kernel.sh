#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# time-limit: 120
#
# mayfly-rootfs kernel: errors that help, and the cache's promises, with stand-ins for make and strip so that it takes
# seconds. Alone: tests/rootfs/test_kernel.sh. With --slow it also builds the minimal kernel twice, in two directories, and
# compares the bytes (ten minutes or more).
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/lib/results.sh

rootfs=$PWD/${B:-build}/mayfly-rootfs
if [ ! -x "$rootfs" ]; then
	skip kernel "$rootfs is not built: make"
	exit 77
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
unset XDG_CACHE_HOME
real_source=${MAYFLY_KERNEL_SOURCE:-/usr/src/linux-source-6.12.tar.xz}
export MAYFLY_CACHE=$tmp/cache

run() { out=$("$rootfs" kernel "$@" 2>&1); status=$?; }

# --- Errors ---------------------------------------------------------------------------------------------------------
run --config nope
check_equal "unknown configuration: status" 1 $status
check_contains "unknown configuration: says the name" "'nope'" "$out"
check_contains "unknown configuration: lists the known ones" "default minimal" "$out"
run --config ./nope.config
check_contains "missing configuration file: says which" "./nope.config" "$out"
printf 'CONFIG_A=y\nnot an option\n' > "$tmp/bad.config"
run --config "$tmp/bad.config"
check_contains "bad configuration file: shows the line" "'not an option'" "$out"
MAYFLY_KERNEL_SOURCE=$tmp/none.tar.xz run
check_contains "missing source: says how to get it" "apt-get install linux-source-6.12" "$out"
run --jobs 0
check_equal "bad number of jobs: status" 2 $status
check_contains "bad number of jobs: says what is allowed" "from 1 to 1024" "$out"
run --distro --config minimal
check_equal "options that don't go together: status" 2 $status
run --frobnicate
check_equal "unknown option: status" 2 $status
run --help
check_equal "help: status" 0 $status
check_contains "help: has an example" "mayfly-rootfs kernel --output vmlinux" "$out"

# --- The cache, with a stand-in for the kernel's build ---------------------------------------------------------------
mkdir -p "$tmp/bin" "$tmp/tree/linux"
cat > "$tmp/bin/make" <<'END'
#!/bin/sh
case $1 in
allnoconfig) cp mayfly.config .config ;;
*)
	echo run >> "$COUNT"
	echo "  CC      mm/one.o"
	[ -z "${SLOW_MAKE:-}" ] || sleep "$SLOW_MAKE"
	[ -z "${BAD_MAKE:-}" ] || { echo "mm/one.c: stand-in error"; exit 2; }
	mkdir -p arch/x86/boot
	cp "$ELF" vmlinux; echo bz > arch/x86/boot/bzImage; echo map > System.map ;;
esac
END
printf '#!/bin/sh\ncp vmlinux vmlinux.stripped\n' > "$tmp/bin/strip"
export ELF=$PWD/tests/fuzz/corpus/rootfs_image/elf # a program of 0.5 KiB
magic() { head -c 4 "$1" | tail -c 3; }
chmod +x "$tmp/bin/make" "$tmp/bin/strip"
tar -C "$tmp/tree" -cf "$tmp/source.tar" linux
export PATH=$tmp/bin:$PATH MAYFLY_KERNEL_SOURCE=$tmp/source.tar COUNT=$tmp/count
built() { if [ -f "$COUNT" ]; then wc -l < "$COUNT"; else echo 0; fi; }
path_of() { "$rootfs" kernel --print-path "$@" 2> "$tmp/errors"; }

BAD_MAKE=y run
check_equal "a build that fails: status" 1 $status
check_contains "a build that fails: says why" "stand-in error" "$out"
check_equal "a build that fails: nothing left but its log" "" "$(cd "$MAYFLY_CACHE/kernel" && ls | grep -v '\.log$')"
rm -f "$COUNT"

first=$(path_of)
check_equal "a first call builds" 1 "$(built)"
check_equal "the result is there" ELF "$(magic "$first")"
check_equal "a second call gives the same path" "$first" "$(path_of)"
check_equal "a second call builds nothing" 1 "$(built)"
check_contains "the bzImage is in the same entry" bzImage "$(path_of --bzimage)"
check_equal "the bzImage needs no build" 1 "$(built)"
other=$(path_of --config default+nopvh)
check_equal "another configuration builds" 2 "$(built)"
[ "$other" != "$first" ] && ok "another configuration has another path" ||
	not_ok "another configuration has another path" "not $first" "$other"
path_of --output "$tmp/vmlinux" > /dev/null
check_equal "--output makes a copy" "$(sha256sum < "$first")" "$(sha256sum < "$tmp/vmlinux")"
path_of --output "$tmp/none/vmlinux" > /dev/null
check_contains "--output into a missing directory: says which" "$tmp/none/vmlinux" "$(cat "$tmp/errors")"

rm -rf "$MAYFLY_CACHE" "$COUNT"
for i in 1 2 3; do SLOW_MAKE=1 path_of > "$tmp/path.$i" & done
wait
check_equal "three at once: one build" 1 "$(built)"
check_equal "three at once: one path" "$(cat "$tmp/path.1")$(cat "$tmp/path.1")" "$(cat "$tmp/path.2" "$tmp/path.3" | tr -d '\n')"

for signal in TERM KILL; do
	rm -rf "$MAYFLY_CACHE" "$COUNT"
	SLOW_MAKE=20 "$rootfs" kernel > /dev/null 2>&1 &
	pid=$!
	for _ in $(seq 100); do [ -f "$COUNT" ] && break; sleep 0.05; done
	kill -$signal $pid
	wait $pid 2> /dev/null
	status=$?
	if [ $signal = TERM ]; then
		check_equal "SIG$signal half-way: status" 143 $status
		check_equal "SIG$signal half-way: nothing half-made is left" "" \
			"$(cd "$MAYFLY_CACHE/kernel" && ls -A | grep -v '\.log$' | grep -v '\.lock$')"
	fi
	after=$(path_of)
	check_equal "SIG$signal half-way: the next call builds" ELF "$(magic "$after")"
	check_equal "SIG$signal half-way: no scratch is left after it" "" "$(cd "$MAYFLY_CACHE/kernel" && ls -A | grep '\.part-')"
done

# --- Real builds ----------------------------------------------------------------------------------------------------
if [ "${1:-}" = --slow ]; then
	rm -rf "$tmp/bin"
	export MAYFLY_KERNEL_SOURCE=$real_source
	one=$(MAYFLY_CACHE=$tmp/one path_of --config minimal)
	two=$(MAYFLY_CACHE=$tmp/a/quite/different/place path_of --config minimal)
	check_equal "two builds give the same vmlinux" "$(sha256sum < "$one")" "$(sha256sum < "$two")"
	check_equal "two builds give the same bzImage" "$(sha256sum < "${one%/*}/bzImage")" "$(sha256sum < "${two%/*}/bzImage")"
fi
finish
