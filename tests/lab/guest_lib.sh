# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# For suites that run real guests in the real monitor, sourced by them: kernels and images, the monitor and its API, expectations,
# one result a test. A suite sets `suite` (the prefix of its names) before; its tests are functions test_NAME, and clean_up, if there is one, is called after each; it ends with
#
#     prepare_kernels KERNEL_DEFAULT KERNEL_DEB612 ...    (and images, on the machine that calls; it exports what the tests need)
#     run_here_or_in_lab SECONDS MIB NAME...              (calls the suite again as `SUITE --inside NAME...`, which calls run_tests)
#
# A test finds a fresh directory `dir` on tmpfs, sets vcpus, mem, image, initrd, args and calls drive, then start_by_api or
# start_by_file (the former also sends the requests in `also`: METHOD PATH BODY triples); what it expects and does not get goes into `failure`.
B=${B:-build}
vmm=${VMM:-$B/mayfly-vmm}
here=tests/lab

# ---- On the machine that calls ---------------------------------------------------------------------------------------
setup_failed() { # WHAT
	printf 'not ok %s/setup\n    %s\n' "$suite" "$1"
	exit 1
}
kernel() { # OPTIONS...: prints where it is
	"$B/mayfly-rootfs" kernel --print-path "$@" || exit 1
}
# Build the programs and have the kernels named by variables, which may be set already. Debian's are directories with bzImage and initrd.
prepare_kernels() { # VARIABLE...
	local name path
	make -s "$vmm" "$B/mayfly-rootfs" "$B/mayfly" >&2 || setup_failed 'make failed, see above'
	for name; do
		path=${!name:-}
		if [ -z "$path" ]; then
			case $name in
			KERNEL_DEFAULT) path=$(kernel) ;;
			KERNEL_DEFAULT_BZIMAGE) path=$(kernel --bzimage) ;;
			KERNEL_MINIMAL) path=$(kernel --config minimal) ;;
			KERNEL_ACPI_NOPCI) path=$(kernel --config default+acpi-nopci) ;;
			KERNEL_DEB61) path=$(kernel --distro --suite-version 6.1) ;;
			KERNEL_DEB612) path=$(kernel --distro --suite-version 6.12) ;;
			esac
		fi
		[ ! -d "$path" ] || [ -s "$path/bzImage" ] || path=
		[ -s "$path" ] || setup_failed "there is no kernel for $name: '$path'"
		export "$name=$path"
	done
}
# Compile $here/@1.c statically, if needed; print the program's path.
guest_program() { # NAME
	local program=$B/lab/${1//_/-}
	mkdir -p "$B/lab"
	if [ ! "$program" -nt "$here/$1.c" ]; then
		"${CC:-gcc}" -O2 -static -o "$program.$$" "$here/$1.c" && mv "$program.$$" "$program" || return 1
	fi
	echo "$program"
}
# Where KVM is faithful here, run the tests here; otherwise one lab for all of them.
run_here_or_in_lab() { # SECONDS MIB NAME...
	local seconds=$1 mib=$2 share=() self=$PWD/$here/test_$suite.sh
	shift 2
	if "$B/mayfly" doctor --quiet; then REAL_KVM=1 exec "$self" --inside "$@"; fi
	if [ -n "${KEEP:-}" ]; then mkdir -p "$KEEP"; KEEP=$(readlink -f "$KEEP"); export KEEP; share=(--share "$KEEP"); fi
	exec $here/lab --timeout "$seconds" --mem "$mib" "${share[@]}" -- "$self" --inside "$@"
}

# ---- Where KVM is (often emulated, and starting a process is slow there): what bash can do itself, it does -----------
nap() { read -rt "$1" -u "$never" || :; } # SECONDS

expect() { # WHAT EXPECTED GOT
	[ "$2" = "$3" ] && return
	failure+="
    $1: expected '$2', got '$3'"
}
expect_in() { # WHAT TEXT FILE
	case $(<"$3") in *"$2"*) return ;; esac
	failure+="
    $1: expected a line with '$2', got:
$(tail -n 8 "$3" | tr -d '\r' | sed 's/^/        /')"
}
# The end of the console, when something went wrong: without it nobody knows why.
evidence() {
	[ -n "$failure" ] || return 0
	failure+="
    the end of the console, of standard error and of the log:
$(for f in "$dir/out" "$dir/err" "$dir/log"; do tail -n 6 "$f" 2>/dev/null | tr -d '\r' | cut -c1-200 | sed 's/^/        /'; done)"
}

# The configuration file's text for the machine of these variables.
vcpus=1 smt=false mem=128 huge=None image='' initrd='' args='' drives=() also=()
drive() { # ID PATH ROOT READ_ONLY [MORE]
	drives+=("{\"drive_id\": \"$1\", \"path_on_host\": \"$2\", \"is_root_device\": $3, \"is_read_only\": $4${5:-}}")
}
json_machine() { printf '{"vcpu_count": %s, "smt": %s, "mem_size_mib": %s, "huge_pages": "%s"}' "$vcpus" "$smt" "$mem" "$huge"; }
json_boot() {
	printf '{"kernel_image_path": "%s", "boot_args": "%s"' "$image" "$args"
	[ -z "$initrd" ] || printf ', "initrd_path": "%s"' "$initrd"
	printf '}'
}
write_config() {
	local IFS=,
	printf '{"machine-config": %s, "boot-source": %s, "drives": [%s]}\n' "$(json_machine)" "$(json_boot)" "${drives[*]}" >"$dir/config"
}

launch() { # OPTIONS...: the monitor, in the background; `as` is what runs it, if anything
	: >"$dir/out" >"$dir/err" >"$dir/log"
	"${as[@]}" "$vmm" --log-path "$dir/log" --level Debug --id guest "$@" >"$console" 2>"$dir/err" </dev/null &
	pid=$!
}
await_socket() {
	local i
	for i in {1..300}; do [ -S "$sock" ] && return 0; nap 0.02; done
	failure+="
    API socket: expected one at $sock within 6 s, got none"
	return 1
}
# Requests in one go (a curl costs 0.3 s in the lab): METHOD PATH BODY triples. Sets `codes`; bodies of the replies are in $dir/reply.
api() {
	local call=()
	while [ $# -gt 0 ]; do
		[ ${#call[@]} -eq 0 ] || call+=(--next)
		call+=(-sS --max-time 20 --unix-socket "$sock" -X "$1" -w '\n%{http_code}\n' "http://localhost$2")
		[ -z "$3" ] || call+=(-d "$3")
		shift 3
	done
	curl "${call[@]}" >"$dir/reply" 2>&1
	codes=$(grep -xE '[0-9]{3}' "$dir/reply" | tr '\n' ' ')
	codes=${codes% }
}
# Configure and start through the API what the variables say.
start_by_api() {
	local calls=(PUT /machine-config "$(json_machine)" PUT /boot-source "$(json_boot)") d id wanted='204 204 204'
	for d in "${drives[@]}"; do
		id=${d#*: \"}
		calls+=(PUT "/drives/${id%%\"*}" "$d")
		wanted+=' 204'
	done
	for ((d = 0; d < ${#also[@]}; d += 3)); do wanted+=' 204'; done
	launch --api-sock "$sock"
	await_socket || return
	api "${calls[@]}" "${also[@]}" PUT /actions '{"action_type": "InstanceStart"}'
	expect 'replies to the configuration and the start' "$wanted" "$codes"
	[ "$wanted" = "$codes" ] || cat "$dir/reply" >>"$dir/err"
}
start_by_file() {
	write_config
	launch --no-api --config-file "$dir/config"
}

await_end() { # SECONDS: sets `status`
	local until=$((SECONDS + $1))
	while kill -0 "$pid" 2>/dev/null; do
		if [ $SECONDS -ge $until ]; then
			failure+="
    end: expected within $1 s, got a monitor that still runs (killed)"
			kill -KILL "$pid"
			break
		fi
		nap 0.05
	done
	wait "$pid" 2>/dev/null
	status=$?
	pid=
}
await_text() { # TEXT SECONDS: on the console
	local until=$((SECONDS + $2)) text
	while text=$(<"$dir/out"); do
		case $text in *"$1"*) return 0 ;; esac
		if [ $SECONDS -ge $until ] || ! kill -0 "$pid" 2>/dev/null; then break; fi
		nap 0.1
	done
	failure+="
    console: expected '$1' within $2 s"
	return 1
}
last_log_line() { expect_in 'last line of the log' "$1" <(tail -n 1 "$dir/log"); }

# After the monitor's end: nothing that was not there before.
nothing_left() {
	local before=$1 after p
	after=$(cd "$dir" && echo *)
	expect 'files of the guest' "$before" "$after"
	for p in /proc/[0-9]*; do
		[ ! "$p/exe" -ef "$vmm" ] || failure+="
    processes: expected no monitor, got one with id ${p#/proc/}"
	done
	expect 'files in /run and /dev/shm' "$places" "$(places)"
}
places() { echo /run/* /dev/shm/*; }

fresh() { # NAME: a clean slate for the next guest
	dir=$tmp/$1 sock=$tmp/$1/sock console=$tmp/$1/out
	pid='' status='' codes='' failure=''
	vcpus=1 smt=false mem=128 huge=None image=${KERNEL_DEFAULT:-} initrd='' args='' drives=() also=() as=()
	mkdir -p "$dir"
}

run_one() { # NAME
	if declare -F "test_$1" >/dev/null; then "test_$1"; elif declare -F run_combination >/dev/null; then run_combination "$1"; else
		failure=' there is no such test'
	fi
	if [ -n "$pid" ]; then kill -KILL "$pid"; wait "$pid" 2>/dev/null; pid=; fi
}

# Did the test fail because a secondary CPU of a guest died? Linux patches its text while they come up, and the emulator with a
# thread for each CPU does not order that (LAB.md); emulating them in turn takes three times as long. Not on a real /dev/kvm.
emulator_fault() {
	[ -n "$failure" ] && [ -z "${REAL_KVM:-}" ] && grep -qE 'vCPU [1-9][0-9]* had a triple fault' "$dir/log" 2>/dev/null
}

run_tests() {
	local name start n_failed=0
	for d in /srv "${TMPDIR:-/tmp}"; do tmp=$(mktemp -d -p "$d" $suite.XXXXXX 2>/dev/null) && break; done
	mkfifo "$tmp/never"
	exec {never}<>"$tmp/never"
	pid=
	trap '[ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null; rm -rf "$tmp"' EXIT
	places=$(places)
	for name; do
		fresh "$name"
		start=${EPOCHREALTIME/./}
		run_one "$name"
		if emulator_fault; then
			echo "    $name: a CPU that came up had a triple fault, which the lab's emulator is known for; once more"
			! declare -F clean_up >/dev/null || clean_up
			rm -rf "$dir"
			fresh "$name"
			run_one "$name"
		fi
		! declare -F clean_up >/dev/null || clean_up
		evidence
		[ -z "${KEEP:-}" ] || { mkdir -p "$KEEP/$name" && cp "$dir/out" "$dir/err" "$dir/log" "$KEEP/$name/" 2>/dev/null; }
		rm -rf "$dir"
		if [ -z "$failure" ]; then
			printf 'ok %s/%s\n' $suite "$name"
		else
			printf 'not ok %s/%s%s\n    alone: tests/lab/test_%s.sh %s\n' $suite "$name" "$failure" $suite "$name"
			n_failed=$((n_failed + 1))
		fi
		printf '    %d ms\n' $(((${EPOCHREALTIME/./} - start) / 1000))
	done
	[ $n_failed -eq 0 ]
}
