#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Make the small system that tests and the demo boot: Debian's static busybox and one init script (init.sh here says how to
# give it a command), and programs of this machine. No root, no mount; the same inputs give the same bytes; made once and
# kept in the cache.
set -eu

usage() {
	cat <<'END'
Usage: tests/images/mkroot.sh [OPTIONS]      prints the path of the image

  --ext4             a disk image with an ext4 file system (default)
  --initrd           the same system as an initrd (newc cpio, not compressed)
  --size MIB         size of the ext4 image (default 32 and as many as the added files have)
  --file SRC:DST     add the file SRC as DST (absolute), with SRC's permission bits; may be repeated
  --program NAME     add this machine's program NAME with the libraries it is linked to, at the same paths, in place of
                     busybox's of that name (whose shell still prefers its own, unless called by path); may be repeated
  --init FILE        another /sbin/init than init.sh
  --output FILE      put a copy there (sparse) instead of printing the cache's path

Examples:
  tests/images/mkroot.sh --output /tmp/root.ext4
  tests/images/mkroot.sh --initrd --file build/guest-tool:/bin/guest-tool
  tests/images/mkroot.sh --program fio --program e2fsck
END
}

die() {
	echo "mkroot.sh: $*" >&2
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
kind=ext4 size= output= init=$here/init.sh files= programs=
while [ $# -gt 0 ]; do
	case $1 in
	--ext4) kind=ext4 ;;
	--initrd) kind=initrd ;;
	--size|--file|--program|--init|--output)
		[ $# -ge 2 ] || die "$1 needs a value; see --help"
		case $1 in
		--size) size=$2 ;;
		--file) files="$files$2
" ;;
		--program) programs="$programs $2" ;;
		--init) init=$2 ;;
		--output) output=$2 ;;
		esac
		shift ;;
	--help|-h) usage; exit 0 ;;
	*) die "unknown option '$1'; see --help" ;;
	esac
	shift
done
case $size in *[!0-9]*) die "--size takes a number of MiB, not '$size'" ;; esac
[ "${size:-8}" -ge 8 ] || die "--size must be at least 8 MiB, not $size"
busybox=/bin/busybox
[ -x $busybox ] || die "$busybox is missing: apt-get install busybox-static"
export PATH="$PATH:/sbin:/usr/sbin" LC_ALL=C
command -v debugfs > /dev/null || die "debugfs is missing: apt-get install e2fsprogs"

# --- Programs: files like those of --file, found here ----------------------------------------------------------------
needed_by() { # PATH: itself and the libraries that the dynamic linker finds for it, the linker included
	echo "$1"
	ldd "$1" 2> /dev/null | sed -n -e 's|.*=> \(/[^ ]*\) (0x.*|\1|p' -e 's|^[[:space:]]*\(/[^ ]*\) (0x.*|\1|p'
}
needed=
for name in $programs; do
	path=$(command -v "$name") || die "--program: this machine has no '$name' in $PATH"
	case $path in /*) ;; *) die "--program: '$name' is a part of the shell, not a program" ;; esac
	! ldd "$path" 2> /dev/null | grep -q 'not found' || die "--program: $path lacks libraries: $(ldd "$path" | grep 'not found')"
	needed="$needed$(needed_by "$path")
"
done
[ -z "$needed" ] || files="$files$(printf %s "$needed" | sort -u | sed 's/.*/&:&/')
"

# --- The cache: keyed by everything that goes in --------------------------------------------------------------------
cache=${MAYFLY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mayfly}/images
mkdir -p "$cache"
each_file() { # calls "$1 SRC DST" for each --file
	printf %s "$files" | while IFS= read -r pair; do
		case $pair in *:/*) ;; *) die "--file takes SRC:/DST, not '$pair'" ;; esac
		[ -f "${pair%:*}" ] || die "--file: there is no file '${pair%:*}'"
		"$1" "${pair%:*}" "${pair##*:}"
	done
}
each_file : # every pair is well-formed and there, or this ends here
bytes() { stat -L -c %s "$1"; }
: "${size:=$(each_file bytes | awk '{ sum += $1 } END { print 32 + int(sum / 1048576) }')}"
describe() { printf '%s %s ' "$2" "$(stat -L -c %a "$1")"; sha256sum < "$1"; }
key=$({ echo "$kind $size $programs"; mke2fs -V 2>&1; sha256sum < "$0"; sha256sum < "$init"; sha256sum < $busybox
	each_file describe; } | sha256sum | cut -c1-20)
image=$cache/$kind-$key

finish() {
	if [ -n "$output" ]; then
		cp --sparse=always "$image" "$output.part$$" && mv -f "$output.part$$" "$output"
		image=$output
	fi
	echo "$image"
	exit 0
}
[ ! -e "$image" ] || finish

# --- The tree -------------------------------------------------------------------------------------------------------
work=$(mktemp -d "$cache/part.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
tree=$work/tree
umask 022
mkdir -p "$tree"
(cd "$tree" && mkdir -p bin sbin usr/bin usr/sbin dev proc sys run tmp root etc mnt var/tmp)
cp $busybox "$tree/bin/busybox"
$busybox --list-full | while IFS= read -r applet; do
	[ -e "$tree/$applet" ] || ln -s /bin/busybox "$tree/$applet"
done
rm -f "$tree/sbin/init"
cp "$init" "$tree/sbin/init"
chmod 755 "$tree/sbin/init" "$tree/bin/busybox"
ln -s sbin/init "$tree/init"
printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' > "$tree/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' > "$tree/etc/group"
printf '127.0.0.1 localhost mayfly\n' > "$tree/etc/hosts"
printf 'mayfly\n' > "$tree/etc/hostname"
add() { mkdir -p "$tree/$(dirname "$2")"; rm -f "$tree/$2"; cp -L "$1" "$tree/$2"; }
for name in $programs; do
	(cd "$tree" && rm -f "bin/$name" "sbin/$name" "usr/bin/$name" "usr/sbin/$name")
done
each_file add

# --- The image: debugfs writes it file by file, because `mke2fs -d` takes over change times ---------------------------
list() { (cd "$tree" && find . -mindepth 1 "$@" | sort | sed 's|^\./||'); }
if [ $kind = ext4 ]; then
	export E2FSPROGS_FAKE_TIME=1
	truncate -s "${size}M" "$work/image"
	mke2fs -q -F -t ext4 -b 4096 -m 0 -L mayfly -U 6d617966-6c79-4000-8000-000000000001 \
		-E hash_seed=6d617966-6c79-4000-8000-000000000002,lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0 \
		-J size=4 "$work/image" || die "mke2fs failed"
	{
		list -type d | while IFS= read -r d; do
			echo "mkdir \"/$d\""
			[ "$d" != tmp ] && [ "$d" != var/tmp ] || echo "sif \"/$d\" mode 041777"
		done
		list -type f | while IFS= read -r f; do
			echo "write \"$tree/$f\" \"/$f\""
			echo "sif \"/$f\" uid 0"
			echo "sif \"/$f\" gid 0"
		done
		list -type l | while IFS= read -r l; do echo "symlink \"/$l\" \"$(readlink "$tree/$l")\""; done
	} > "$work/commands"
	debugfs -w -f "$work/commands" "$work/image" > "$work/log" 2>&1 || die "debugfs: $(tail -1 "$work/log")"
	if grep -v '^debugfs' "$work/log" | grep -v '^Allocated inode:' | grep -q .; then
		die "debugfs: $(grep -v '^debugfs' "$work/log" | grep -v '^Allocated inode:' | head -3)"
	fi
	e2fsck -fn "$work/image" > "$work/log" 2>&1 || die "the image is not clean: $(tail -3 "$work/log")"
else
	find "$tree" -exec touch -h -d @1 {} +
	(cd "$tree" && { echo .; list; } | cpio -o -H newc --quiet --reproducible --owner=0:0) > "$work/image" ||
		die "cpio failed"
fi
mv -f "$work/image" "$image"
finish
