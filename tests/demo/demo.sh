#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# `make demo`: from a fresh checkout to a Linux guest that runs a command, and where the time went.
#
# Installs packages, builds, makes a kernel and a root disk (both kept in the cache), then starts mayfly-vmm and drives it
# through its API socket as any client would. On this machine's /dev/kvm where that is faithful, in the lab where not.
#
#     tests/demo/demo.sh [COMMAND]      the shell command to run in the guest
set -eu
cd "$(dirname "$0")/../.."

unset MAKEFLAGS MFLAGS MAKELEVEL # a make below us is not part of `make demo`
B=${B:-build}
# No double quotes: it travels in them on the kernel's command line.
default_command='echo Hello from $(hostname), Linux $(uname -r) on $(nproc) CPU.; grep -m1 model.name /proc/cpuinfo; free -m | head -n 2; df -h / | tail -n 1'

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'demo: %s\n' "$*" >&2; exit 1; }

prepare() { # COMMAND: everything up to the first start; then becomes the second half of this script, here or in the lab
	local kernel root
	step 'Packages (make deps)'
	make -s deps DEPS=test
	step 'Programs (make)'
	make -s all
	ls -l "$B/mayfly-vmm"
	step 'Guest kernel (build/mayfly-rootfs kernel; minutes the first time, then from the cache)'
	kernel=$("$B/mayfly-rootfs" kernel --print-path)
	echo "$kernel"
	step 'Root disk (tests/images/mkroot.sh)'
	root=$(tests/images/mkroot.sh --ext4)
	echo "$root"
	if "$B/mayfly" doctor --quiet; then
		step "Where: this machine's /dev/kvm"
		exec "$0" --boot "$kernel" "$root" "$1"
	fi
	step 'Where: the lab, an emulated host with a real KVM (everything is slower there)'
	echo "This machine's own KVM can't boot Linux; \`build/mayfly doctor\` says why."
	exec tests/lab/lab --timeout 120 -- "$PWD/tests/demo/demo.sh" --boot "$kernel" "$root" "$1"
}

# One request, shown and sent. The reply must be of the 2xx kind.
api() { # METHOD PATH JSON
	local reply
	printf '  %-5s %-20s %s\n' "$1" "$2" "$3"
	reply=$(curl -sS --unix-socket "$tmp/api.sock" -X "$1" "http://localhost$2" -H 'Content-Type: application/json' -d "$3" \
		-w '\n%{http_code}') || fail "$1 $2: no answer; log: $(tail -n 3 "$tmp/log")"
	case ${reply##*$'\n'} in
	2??) ;;
	*) fail "$1 $2: $reply" ;;
	esac
}

# Microseconds since the epoch of the first line of the monitor's log that contains TEXT; nothing if there is none.
log_time() { # TEXT
	local line
	line=$(grep -m1 -F -e "$1" "$tmp/log") || return 0
	date -d "${line%% *}" +%s%6N
}

# The guest's console as it comes, with the times of the lines that mark progress.
watch_console() {
	local line
	while IFS= read -r line || [ -n "$line" ]; do
		line=${line%$'\r'}
		printf '  | %s\n' "$line"
		case $line in
		'mayfly-init: start'*) echo "init ${EPOCHREALTIME/./}" >>"$tmp/times" ;;
		'mayfly-init: exit '*) echo "done ${EPOCHREALTIME/./} ${line##* }" >>"$tmp/times" ;;
		*) if [ -s "$tmp/times" ]; then echo "output ${EPOCHREALTIME/./}" >>"$tmp/times"; fi ;;
		esac
	done
}

timeline() { # START END
	local last=$1 what at
	printf '\n  %10s %10s\n' 'ms' 'step'
	while read -r at what; do
		case $at in '' | *[!0-9]*) continue ;; esac
		printf '  %6d.%03d %6d.%03d  %s\n' $(((at - $1) / 1000)) $(((at - $1) % 1000)) \
			$(((at - last) / 1000)) $(((at - last) % 1000)) "$what"
		last=$at
	done <<-END
		$1 process start
		$(log_time 'Listening on API socket') API ready
		$(log_time 'Put request on "/actions"') InstanceStart
		$(log_time 'enters the guest') first guest instruction
		$(awk '$1 == "init" { print $2; exit }' "$tmp/times") /init
		$(awk '$1 == "output" { print $2; exit }' "$tmp/times") command output
		$2 exit
	END
	# A line without a time begins with what it is about.
	grep -q '^init' "$tmp/times" || fail 'the guest did not get to /init'
}

boot() { # KERNEL ROOT COMMAND
	local start end pid reader status dir args
	case $3 in *'"'*) fail 'the command must not contain double quotes' ;; esac
	for dir in "${TMPDIR:-/tmp}" /run; do tmp=$(mktemp -d -p "$dir" mayfly-demo.XXXXXX 2>/dev/null) && break; done
	# shellcheck disable=SC2064
	trap "rm -rf '$tmp'" EXIT
	cp --sparse=always "$2" "$tmp/root.ext4"
	mkfifo "$tmp/console"
	: >"$tmp/times"
	args="console=ttyS0 quiet reboot=k panic=1 mayfly.cmd=\"$3\""

	step 'A microVM, through the API'
	watch_console <"$tmp/console" &
	reader=$!
	start=${EPOCHREALTIME/./}
	"$B/mayfly-vmm" --api-sock "$tmp/api.sock" --id demo --log-path "$tmp/log" --level Debug \
		</dev/null >"$tmp/console" 2>"$tmp/err" &
	pid=$!
	for _ in {1..200}; do [ -S "$tmp/api.sock" ] && break; sleep 0.02; done
	[ -S "$tmp/api.sock" ] || fail "the monitor did not start: $(cat "$tmp/err")"
	api PUT /machine-config '{"vcpu_count": 1, "mem_size_mib": 128}'
	api PUT /boot-source "$(jq -nc --arg k "$1" --arg a "$args" '{kernel_image_path: $k, boot_args: $a}')"
	api PUT /drives/root "$(jq -nc --arg p "$tmp/root.ext4" '{drive_id: "root", path_on_host: $p, is_root_device: true, is_read_only: false}')"
	api PUT /actions '{"action_type": "InstanceStart"}'
	status=0
	wait "$pid" || status=$?
	end=${EPOCHREALTIME/./}
	wait "$reader"
	timeline "$start" "$end"
	printf '\n  The command ended with status %s, the monitor with %s.\n' \
		"$(awk '$1 == "done" { print $3; exit }' "$tmp/times")" "$status"
	return "$status"
}

if [ "${1:-}" = --boot ]; then
	shift
	boot "$@"
else
	prepare "${1:-$default_command}"
fi
