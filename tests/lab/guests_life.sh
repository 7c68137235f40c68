# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Part of test_guests.sh: how a microVM begins, pauses, idles and ends. The shipped kernel and an initrd, unless the test needs more.

# A guest that runs @1 in a shell (no double quotes in it) and then resets itself.
guest_runs() { # COMMAND
	initrd=$GUEST_INITRD
	args="console=ttyS0 quiet reboot=k panic=1 mayfly.cmd=\\\"$1\\\""
}
debian_guest_runs() { # COMMAND
	the_kernel deb612
	cat "$GUEST_INITRD" "$initrd" >"$dir/initrd"
	initrd=$dir/initrd
	args="console=ttyS0 quiet reboot=k panic=1 mayfly.init=/sbin/init mayfly.cmd=\\\"$1\\\""
}
files_now() { (cd "$dir" && echo *); }
# The monitor ends by itself within a minute, with @1 as status and @2 in the last line of its log, and leaves nothing.
ends() { # STATUS TEXT
	local files
	[ -z "$failure" ] || return
	files=" $(files_now) "
	files=${files/ sock / }
	files=${files# }
	await_end 60
	expect 'exit status' "$1" "$status"
	last_log_line "$2"
	nothing_left "${files% }"
}
api_expect() { # CODES REQUESTS...
	local wanted=$1
	shift
	api "$@"
	expect "replies to $*" "$wanted" "$codes"
}
state_is() { # STATE
	api_expect 200 GET / ''
	expect_in 'GET /' "\"state\":\"$1\"" "$dir/reply"
}

# ---- Ends ----------------------------------------------------------------------------------------------------------
test_end_triple_fault() {
	guest_runs 'echo ready'
	args=${args/reboot=k/reboot=t}
	start_by_file
	ends 0 'exiting successfully. exit_code=0'
	expect_in 'log' 'had a triple fault' "$dir/log"
}

test_end_panic() {
	guest_runs 'echo c > /proc/sysrq-trigger'
	start_by_api
	ends 0 'exiting successfully. exit_code=0'
	expect_in 'console' 'Kernel panic' "$dir/out"
	expect_in 'log' 'The guest asked for a reset.' "$dir/log"
}

test_end_poweroff() {
	debian_guest_runs 'poweroff -f'
	start_by_file
	ends 0 'exiting successfully. exit_code=0'
	expect_in 'log' 'The guest turned itself off.' "$dir/log"
}

test_end_signals() {
	guest_runs 'echo ready; sleep 1000'
	start_by_api
	await_text ready 30 || return
	kill -TERM "$pid"
	ends 143 'ends after signal 15.'
	# Before there is a guest it is the same.
	launch --api-sock "$sock"
	await_socket || return
	kill -INT "$pid"
	ends 130 'ends after signal 2.'
}

test_end_kill() {
	local files
	guest_runs 'echo ready; sleep 1000'
	start_by_api
	await_text ready 30 || return
	# While it lives nobody takes its socket.
	"$vmm" --api-sock "$sock" --log-path "$dir/log2" >"$dir/out2" 2>"$dir/err2" </dev/null
	expect 'exit status of a second monitor on the socket' 1 $?
	expect_in 'its message' "$sock" "$dir/err2"
	state_is Running
	kill -KILL "$pid"
	await_end 10
	expect 'exit status' 137 "$status"
	expect 'log of one that was killed: a last line of its end' '' "$(grep -e 'exit_code' -e 'ends after' "$dir/log")"
	expect 'socket' stale "$([ -S "$sock" ] && echo stale)"
	# What it left is in nobody's way.
	guest_runs 'echo again'
	start_by_api
	ends 0 'exiting successfully. exit_code=0'
	expect_in 'console' again "$dir/out"
}

test_end_failed_start() {
	local good
	guest_runs 'echo ready'
	good=$image
	image=$dir/nothing
	start_by_file
	ends 1 'exiting with error. exit_code=1'
	expect_in 'standard error' "$dir/nothing" "$dir/err"
	# Through the API a start that failed can be corrected.
	echo 'not a kernel' >"$dir/text"
	image=$dir/text
	launch --api-sock "$sock"
	await_socket || return
	# The kernel is looked at when it is named, the verdict is the start's (CONTRACT section 5).
	api_expect '204 400' PUT /boot-source "$(json_boot)" PUT /actions '{"action_type": "InstanceStart"}'
	expect_in 'reply' "$dir/text" "$dir/reply"
	state_is 'Not started'
	image=$good mem=100000000
	api_expect '204 204 400' PUT /boot-source "$(json_boot)" PUT /machine-config "$(json_machine)" \
		PUT /actions '{"action_type": "InstanceStart"}'
	state_is 'Not started'
	mem=128
	api_expect '204 204' PUT /machine-config "$(json_machine)" PUT /actions '{"action_type": "InstanceStart"}'
	ends 0 'exiting successfully. exit_code=0'
	expect_in 'console' ready "$dir/out"
}

# ---- Ctrl-Alt-Del --------------------------------------------------------------------------------------------------
await_keyboard='n=0; until grep -qi keyboard /proc/bus/input/devices || [ $n -gt 200 ]; do n=$((n+1)); usleep 50000; done'

test_ctrl_alt_del_shipped() { # the shipped kernel has CONFIG_VT, where Linux handles the keys: left alone, it reboots itself
	guest_runs "$await_keyboard; echo 1 > /proc/sys/kernel/ctrl-alt-del; echo ready; sleep 30; echo too late"
	args=${args//$'\n'/; }
	start_by_api
	await_text ready 30 || return
	api_expect 204 PUT /actions '{"action_type": "SendCtrlAltDel"}'
	ends 0 'exiting successfully. exit_code=0'
	expect 'console' '' "$(grep 'too late' "$dir/out")"
}

test_ctrl_alt_del_kernel() { # Debian's kernel, left alone, reboots itself
	debian_guest_runs "$await_keyboard; echo 1 > /proc/sys/kernel/ctrl-alt-del; echo ready; sleep 30; echo too late"
	start_by_api
	await_text ready 60 || return
	api_expect 204 PUT /actions '{"action_type": "SendCtrlAltDel"}'
	ends 0 'exiting successfully. exit_code=0'
	expect 'console' '' "$(grep 'too late' "$dir/out")"
}

test_ctrl_alt_del_signal() { # Debian's kernel, ACPI: a process gets SIGINT, as systemd would
	debian_guest_runs "$await_keyboard; trap 'echo arrived; reboot -f' INT; echo 0 > /proc/sys/kernel/ctrl-alt-del
echo \$\$ > /proc/sys/kernel/cad_pid; echo ready; for i in \$(seq 300); do usleep 100000; done; echo too late"
	args=${args//$'\n'/; }
	start_by_api
	await_text ready 60 || return
	api_expect 204 PUT /actions '{"action_type": "SendCtrlAltDel"}'
	ends 0 'exiting successfully. exit_code=0'
	expect_in 'console' arrived "$dir/out"
}

# ---- Pause and resume ----------------------------------------------------------------------------------------------
ticks() { grep -c '^tick ' "$dir/out"; }
test_pause() {
	local before after
	vcpus=2
	guest_runs 'i=0; while :; do i=$((i+1)); echo tick $i; usleep 50000; done'
	start_by_api
	await_text 'tick 3' 30 || return
	state_is Running
	api_expect '204 204 400' PATCH /vm '{"state": "Paused"}' PATCH /vm '{"state": "Paused"}' PATCH /vm '{"state": "Running"}'
	state_is Paused
	nap 0.3
	before=$(ticks)
	nap 2
	expect 'ticks while paused' "$before" "$(ticks)"
	api_expect '204 204' PATCH /vm '{"state": "Resumed"}' PATCH /vm '{"state": "Resumed"}'
	state_is Running
	nap 2
	after=$(ticks)
	[ "$after" -gt $((before + 5)) ] || expect 'ticks after two more seconds' "over $((before + 5))" "$after"
	# Pausing many times in a row loses nothing either.
	local calls=() wanted=
	for _ in 1 2 3 4 5; do
		calls+=(PATCH /vm '{"state": "Paused"}' PATCH /vm '{"state": "Resumed"}')
		wanted+='204 204 '
	done
	api_expect "${wanted% }" "${calls[@]}"
	nap 0.5
	after=$(tr -d '\r' <"$dir/out" | grep '^tick [0-9]*$')
	expect 'every tick, once and in order' "$(seq -f 'tick %g' "$(wc -l <<<"$after")" | md5sum)" "$(md5sum <<<"$after")"
	api_expect 204 PATCH /vm '{"state": "Paused"}'
	kill -TERM "$pid"
	ends 143 'ends after signal 15.'
}

# ---- What it costs -------------------------------------------------------------------------------------------------
# Into cpu_ns, turns, wakes: nanoseconds that the threads ran, how often the busiest of the vCPUs got its turn, and the main thread.
read_costs() {
	local task ns n
	cpu_ns=0 turns=0 wakes=0
	for task in "/proc/$pid/task"/*; do
		read -r ns _ n <"$task/schedstat"
		cpu_ns=$((cpu_ns + ns))
		if [ "${task##*/}" = "$pid" ]; then wakes=$n; elif [ "$n" -gt "$turns" ]; then turns=$n; fi
	done
}
# The monitor itself does nothing at all; its vCPUs run only for the guest's own timers, ten a second. Time is printed and not judged: in
# an emulated host one such turn takes a millisecond, a thousand times what it is on hardware.
test_idle() {
	local before turned woken least=999999999 quiet=999999999 i
	vcpus=2
	guest_runs 'echo ready; sleep 1000'
	start_by_api
	await_text ready 30 || return
	nap 2
	for i in 1 2 3; do # the host may be busy, so the best of three counts
		read_costs
		before=$cpu_ns turned=$turns woken=$wakes
		nap 5
		read_costs
		printf '    idle: the vCPU threads had %d us in 5 s, the busiest %d turns\n' $(((cpu_ns - before) / 1000)) $((turns - turned))
		[ $((wakes - woken)) -ge $least ] || least=$((wakes - woken))
		[ $((turns - turned)) -ge $quiet ] || quiet=$((turns - turned))
		if [ $quiet -le 100 ] && [ $least -eq 0 ]; then break; fi
	done
	[ $quiet -le 100 ] || expect 'turns of the busiest vCPU in 5 s' 'at most 100' $quiet
	expect 'turns of the I/O thread in 5 s' 0 $least
	kill -TERM "$pid"
	ends 143 'ends after signal 15.'
}

resident() { awk '/^Rss(Anon|Shmem)/ { sum += $2 } END { print sum }' "/proc/$pid/status"; }
test_flood() { # the guest writes without pause, nobody reads
	local before grown
	mkfifo "$dir/pipe"
	exec 9<>"$dir/pipe"
	console=$dir/pipe
	guest_runs 'exec yes all work and no play makes a dull guest'
	start_by_api
	nap 5
	before=$(resident)
	nap 6
	grown=$(($(resident) - before))
	printf '    flood: %d KiB more in 6 s\n' $grown
	[ $grown -le 256 ] || expect 'growth in 6 s' 'at most 256 KiB' "$grown KiB"
	state_is Running
	api_expect '204 204' PATCH /vm '{"state": "Paused"}' PATCH /vm '{"state": "Resumed"}'
	state_is Running
	# What was kept for a reader is the last of it, and little.
	[ "$(stat -c %s "$dir/log")" -le 65536 ] || expect 'log' 'at most 65536 bytes' "$(stat -c %s "$dir/log")"
	kill -TERM "$pid"
	ends 143 'ends after signal 15.'
	exec 9>&-
}
